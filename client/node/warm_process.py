"""A process with the libraries loaded, which answers each message from a fork of itself.

Flower starts a process a message, and loading torch costs it three seconds of a core. Here the arguments of Flower's
command are handed to a process that has loaded them already; that one forks, and the fork is what the command would
have been. They hold a token that no other user may see, and go through a socket. Only libraries are loaded before: the
app's own code is imported in the fork, from the bundle that was approved. So this file is run by its path, with `-P`:
started as a module it would have loaded `client` from here, and the fork would not look for it in the bundle any more.
For the same reason it alone names private names of Flower without `shared.runtime.flower_internals`, which lists them:
whoever starts it has had Flower's version checked.
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
_GLANCE_S = 1.0
_LOOK_S = 0.5
_PATIENCE_S = 10.0
_TAKEN = b"+"


def hand_over(door: Path, arguments: list[str]) -> bool:
    """Have the warm process do what Flower's command would do with these arguments.

    Parameters
    ----------
    door
        Its Unix socket, which only its owner may use: what is said there, no other user can read.
    arguments
        Those of Flower's command.

    Returns
    -------
    bool
        Whether a fork of it took them; nothing was done otherwise.

    """
    try:
        with socket.socket(socket.AF_UNIX) as call:
            call.settimeout(_PATIENCE_S)
            call.connect(str(door))
            call.sendall(json.dumps(arguments).encode())
            call.shutdown(socket.SHUT_WR)
            return call.recv(1) == _TAKEN
    except OSError:
        return False


def keep_warm(door: Path) -> None:
    """Load the libraries, then fork for every call at the door; ends with the process that started this one."""
    parent = os.getppid()
    for name in LIBRARIES:
        importlib.import_module(name)
    if loaded := {"client", "server", "shared"} & set(sys.modules):
        raise SystemExit(f"code of the app is loaded already: {', '.join(sorted(loaded))}")
    _look_often()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the forks, as nobody waits for Flower's command
    door.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(door))
        door.chmod(0o600)
        listening.listen(16)
        listening.settimeout(_GLANCE_S)
        while os.getppid() == parent:
            try:
                call, _ = listening.accept()
            except TimeoutError:
                continue
            if os.fork() == 0:
                listening.close()
                _answer(call)
            call.close()


def _look_often() -> None:
    """Have the app look twice a second for what its node is still fetching, for as long as Flower lets it look.

    The app is started when a message is announced. Flower's own pauses between looks double from one second to ten.
    """
    module, _, name = PULL.partition(":")
    app = importlib.import_module(module)
    often = partial(getattr(app, name), initial_backoff=_LOOK_S, backoff_cap=_LOOK_S, max_tries_per_object=None)
    setattr(app, name, often)


def _answer(call: socket.socket) -> None:
    """Be Flower's command, in the fork."""
    code = 1
    try:
        call.settimeout(_GLANCE_S)
        heard = b""
        while len(heard) < _LONGEST and (more := call.recv(_LONGEST)):
            heard += more
        arguments = [str(item) for item in json.loads(heard)]
        call.sendall(_TAKEN)  # fails when the caller has given up and started another process
        call.close()
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        sys.argv = [COMMAND, *arguments]
        pkgutil.resolve_name(CLIENT_APP)()
        code = 0
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else 1
    except Exception:  # noqa: BLE001 - the fork ends here, and nobody else would say why
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    keep_warm(Path(sys.argv[1]))
