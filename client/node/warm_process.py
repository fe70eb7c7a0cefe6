"""A process that has loaded the libraries and answers each message from a fork of itself.

Flower starts one process per message, which loads torch for three seconds. Here the arguments of Flower's command go to
a process that has loaded the libraries already; it forks, and the fork does what the command would have done. The
arguments contain a token that no other user may see, so they go through a Unix socket. Only libraries are loaded in
advance: the fork imports the app's own code from the approved bundle. So this file is run by its path, with `-P`: as a
module it would have loaded `client` from the checkout, and the fork would not import it from the bundle any more. For
the same reason it does not use `shared.runtime.flower_internals`, which lists the private names of Flower used here;
the supervisor has checked Flower's version before.
"""

from __future__ import annotations

import importlib
import json
import os
import pkgutil
import signal
import socket
import sys
import traceback
from functools import partial
from pathlib import Path

LIBRARIES = (
    "flwr.supernode.cli.flwr_clientapp",
    "flwr.clientapp",
    "torch",
    "torch._dynamo",
    "scipy.stats",
    "scipy.ndimage",
    "pydantic",
    "pandas",
    "SimpleITK",
)
COMMAND = "flwr-clientapp"
CLIENT_APP = "flwr.supernode.cli.flwr_clientapp:flwr_clientapp"
PULL = "flwr.supernode.runtime.run_clientapp:pull_and_inflate_object_from_tree"
_LONGEST = 1 << 16
_LISTEN_S = 1.0
_LOOK_S = 0.5
_PATIENCE_S = 10.0
_ACCEPTED = b"+"


def hand_over(door: Path, arguments: list[str]) -> bool:
    """Let the warm process, at its Unix socket `door`, do what Flower's command would do with these arguments.

    Returns whether a fork has accepted them; otherwise nothing was done.
    """
    try:
        with socket.socket(socket.AF_UNIX) as call:
            call.settimeout(_PATIENCE_S)
            call.connect(str(door))
            call.sendall(json.dumps(arguments).encode())
            call.shutdown(socket.SHUT_WR)
            return call.recv(1) == _ACCEPTED
    except OSError:
        return False


def keep_warm(door: Path) -> None:
    """Load the libraries, then fork for every call; end when the process that started this one ends."""
    parent = os.getppid()
    for name in LIBRARIES:
        importlib.import_module(name)
    if loaded := {"client", "server", "shared"} & set(sys.modules):
        raise SystemExit(f"code of the app is loaded already: {', '.join(sorted(loaded))}")
    _pull_often()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # no process waits for the forks
    door.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(door))
        door.chmod(0o600)
        listening.listen(16)
        listening.settimeout(_LISTEN_S)
        while os.getppid() == parent:
            try:
                call, _ = listening.accept()
            except TimeoutError:
                continue
            if os.fork() == 0:
                listening.close()
                _answer(call)
            call.close()


def _pull_often() -> None:
    """Let the app ask twice a second for parts of a message that its node is still fetching.

    The app is started when a message is announced. Flower's own pauses between requests double from one second to ten.
    """
    module, _, name = PULL.partition(":")
    app = importlib.import_module(module)
    often = partial(getattr(app, name), initial_backoff=_LOOK_S, backoff_cap=_LOOK_S, max_tries_per_object=None)
    setattr(app, name, often)


def _answer(call: socket.socket) -> None:
    """Do what Flower's command does, in the fork."""
    code = 1
    try:
        call.settimeout(_LISTEN_S)
        request = b""
        while len(request) < _LONGEST and (more := call.recv(_LONGEST)):
            request += more
        arguments = [str(item) for item in json.loads(request)]
        call.sendall(_ACCEPTED)  # fails if the caller has given up and started another process
        call.close()
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        sys.argv = [COMMAND, *arguments]
        pkgutil.resolve_name(CLIENT_APP)()
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    except Exception:  # noqa: BLE001 - the fork ends here, and nothing else would say why
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    keep_warm(Path(sys.argv[1]))
