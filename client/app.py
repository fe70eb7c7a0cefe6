"""The Flower ClientApp: messages in, messages out. What happens with them is in `client.local_round`."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

from flwr.app import Context, Message
from flwr.clientapp import ClientApp

from client.site_log import own_log
from shared.errors import ConfigError, RunError, UpdateError, safe_error
from shared.messages.instruction_reply import (
    FINGERPRINT,
    PREPARE,
    REGISTER,
    Instruction,
    Reply,
)
from shared.messages.records import read_instruction, write_reply
from shared.runtime.audit import record

_LONGEST_NAME = 64  # what the server says is not written down at any length

app = ClientApp()


@app.query(REGISTER.removeprefix("query."))
def register(message: Message, context: Context) -> Message:
    """Answer with the sites whose data this node holds."""
    return _answer("register", message, context)


@app.query(FINGERPRINT.removeprefix("query."))
def fingerprint(message: Message, context: Context) -> Message:
    """Answer with the site's fingerprint."""
    return _answer("fingerprint", message, context)


@app.query(PREPARE.removeprefix("query."))
def prepare(message: Message, context: Context) -> Message:
    """Prepare the site's cases by the plan; answer with counts."""
    return _answer("prepare", message, context)


@app.train()
def train(message: Message, context: Context) -> Message:
    """Train one round; answer with weights."""
    return _answer("train", message, context)


@app.evaluate()
def evaluate(message: Message, context: Context) -> Message:
    """Evaluate the global model; answer with sums."""
    return _answer("evaluate", message, context)


def _answer(action: str, message: Message, context: Context) -> Message:
    """Do what the message asks; a failure becomes an answer that holds no data.

    Flower copies the text of an exception and whatever a simulated node prints into the server's log, and a library's
    text may quote a file's content: nothing may be raised from here, and details go to the site's own log.
    """
    instruction = Instruction(run="", round=0)
    try:
        instruction = read_instruction(message)
        with own_log(instruction.site) as log:
            try:
                reply = _work(action, instruction, context)
            except Exception:
                log.exception("%s of round %d failed", action, instruction.round)
                raise
        _record(action, instruction, reply)
    except Exception as error:  # noqa: BLE001 - see above
        reply = Reply(site=instruction.site, run=instruction.run, round=instruction.round, error=safe_error(error))
        with suppress(RunError, OSError):  # the log itself may be what failed
            _record(action, instruction, reply)
    return Message(content=write_reply(reply), reply_to=message)


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
        judged=0 if reply.sums is None else reply.sums.n,
        error=reply.error,
    )


def _work(action: str, instruction: Instruction, context: Context) -> Reply:
    # Imported here: torch takes seconds, and Flower imports this module to find `app`.
    from client import local_round
    from client.policy import check_policy
    from shared.site import held_sites, open_site

    config = instruction.config
    if config is None:
        raise UpdateError("the server sent no configuration")
    check_policy(context.node_config, config)
    held = held_sites(context.node_config, config)
    if action == "register":
        return local_round.register(instruction, [config.centres.index(name) for name in held])
    if instruction.site not in held:
        raise ConfigError(f"this node holds no data of site '{instruction.site}'")
    work: Callable[..., Reply] = getattr(local_round, action)
    return work(open_site(held[instruction.site], instruction.site, config, instruction.run), instruction)
