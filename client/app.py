"""The Flower ClientApp: messages in, messages out. What happens with them is in `client.local_round`."""

from __future__ import annotations

import logging
from collections.abc import Callable

from flwr.app import Context, Message
from flwr.clientapp import ClientApp

from shared.messages import (
    FINGERPRINT,
    PREPARE,
    Instruction,
    Reply,
    read_instruction,
    safe_error,
    write_reply,
)

log = logging.getLogger(__name__)

app = ClientApp()


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
    return _answer("judge", message, context)


def _answer(action: str, message: Message, context: Context) -> Message:
    """Do what the message asks; a failure becomes an answer that holds no data.

    Flower copies the text of an exception into the server's log, and a library's text may quote a file's content:
    nothing may be raised from here.
    """
    instruction = Instruction(run="", round=0)
    name = ""
    try:
        # Imported here: torch takes seconds, and a message that fails before needs none of it.
        from client import local_round
        from client.site import locate, remembered_site
        from shared.project import load_run_config

        config = load_run_config(context.run_config)
        name = locate(context.node_config, config)[0]
        instruction = read_instruction(message)
        work: Callable[..., Reply] = getattr(local_round, action)
        reply = work(remembered_site(context.node_config, config), instruction)
    except Exception as error:  # noqa: BLE001 - see above
        log.warning("%s failed: %s", action, safe_error(error))
        reply = Reply(site=name, run=instruction.run, round=instruction.round, error=safe_error(error))
    return Message(content=write_reply(reply), reply_to=message)
