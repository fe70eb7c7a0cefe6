"""The Flower ClientApp: messages in, messages out. What happens with them is in `client.local_round`."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from flwr.app import Context, Message
from flwr.clientapp import ClientApp

from client.site_log import own_log
from shared.errors import ConfigError, RunError, UpdateError, safe_error
from shared.messages.instruction_reply import FINGERPRINT, PREPARE, REGISTER, Instruction, Reply
from shared.messages.records import read_instruction, write_reply
from shared.runtime.audit_log import record

if TYPE_CHECKING:
    from client.policy import Hospital
    from shared.site import Site

_LONGEST_NAME = 64  # what the server says is not written down at any length


def _answering(action: str) -> Callable[[Message, Context], Message]:
    """The handler of one kind of message: do what it asks; a failure becomes an answer that holds no data.

    Flower copies the text of an exception and whatever a simulated node prints into the server's log, and a library's
    text may quote a file's content: nothing may be raised from here, and details go to the site's own log.
    """

    def handle(message: Message, context: Context) -> Message:
        # Imported here: torch takes seconds, and Flower imports this module to find `app`.
        from client import local_round

        os.umask(0o077)  # images are this user's alone, as where our command line started this
        instruction = Instruction(run="", round=0)
        try:
            instruction = read_instruction(message)
            with own_log(instruction.site) as log:
                try:
                    hospital, held = _held_sites(instruction, context)
                    if action == "register":
                        reply = local_round.register(instruction, held, *([hospital.facts] if hospital else []))
                    else:
                        reply = getattr(local_round, action)(_site(instruction, hospital, held), instruction)
                except Exception:
                    log.exception("%s of round %d failed", action, instruction.round)
                    raise
            content = write_reply(reply)
            _record(action, instruction, reply)
        except Exception as error:  # noqa: BLE001 - see above
            reply = Reply(site=instruction.site, run=instruction.run, round=instruction.round, error=safe_error(error))
            content = write_reply(reply)
            with suppress(RunError, OSError):  # the log itself may be what failed
                _record(action, instruction, reply)
        return Message(content=content, reply_to=message)

    return handle


app = ClientApp()
app.query(REGISTER.removeprefix("query."))(_answering("register"))
app.query(FINGERPRINT.removeprefix("query."))(_answering("fingerprint"))
app.query(PREPARE.removeprefix("query."))(_answering("prepare"))
app.train()(_answering("train"))
app.evaluate()(_answering("evaluate"))


def _record(action: str, instruction: Instruction, reply: Reply) -> None:
    """Tell the hospital's audit log what leaves it; an answer that cannot be recorded is not given."""
    record(
        "answered",
        action=action,
        run=instruction.run[:_LONGEST_NAME],
        round=instruction.round,
        task=instruction.task[:_LONGEST_NAME],
        site=instruction.site[:_LONGEST_NAME],
        weights=0 if reply.weights is None else len(reply.weights),
        cases=reply.cases,
        evaluated=0 if reply.sums is None else reply.sums.n,
        error=reply.error,
    )


def _held_sites(instruction: Instruction, context: Context) -> tuple[Hospital | None, Mapping[str, Path]]:
    """The node's hospital, and the folder of every site whose data it holds; an error if it does not allow the run."""
    from client.policy import hospital_of
    from shared.site import held_sites

    if instruction.config is None:
        raise UpdateError("the server sent no configuration")
    held = held_sites(context.node_config, instruction.config)
    hospital = hospital_of(context.node_config)
    if hospital:
        hospital.check(instruction.config)
    return hospital, held


def _site(instruction: Instruction, hospital: Hospital | None, held: Mapping[str, Path]) -> Site:
    """The site that is asked, of those that this node holds."""
    from shared.site import Site

    if instruction.config is None or instruction.site not in held:
        raise ConfigError(f"this node holds no data of site '{instruction.site}'")
    make = hospital.site if hospital else Site
    return make(held[instruction.site], instruction.site, instruction.config, instruction.run)
