"""A process that has loaded the libraries and answers each message from a fork of itself.

Flower starts one process per message, which loads torch for three seconds. Here the arguments of Flower's command go to
a process that has loaded the libraries already; it forks, and the fork does what the command would have done. The
arguments contain a token that no other user may see, so they go through a Unix socket. Only libraries are loaded in
advance: the fork imports the app's own code from the approved bundle. So this file is run by its path, with `-I`: as a
module it would have loaded the node's own `client`, and the fork would not import the bundle's any more. For the same
reason it does not use `shared.runtime.flower_internals`, which lists the private names of Flower used here; the
supervisor has checked Flower's version before.

Where no warm process answers, the arguments are given to this file, and it does the same for that one message.
"""

from __future__ import annotations

import hashlib
import importlib
import io
import json
import os
import pkgutil
import shutil
import signal
import socket
import sys
import traceback
import zipfile
from collections.abc import Callable
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
    "pydicom.pixels",
    "jpeg_ls",
    "PIL.Image",
    "safetensors.torch",
    "safetensors.numpy",
    "filelock",
)
"""All that the app loads: a fork would load it anew for every message."""
COMMAND = "flwr-clientapp"
CLIENT_APP = "flwr.supernode.cli.flwr_clientapp:flwr_clientapp"
PULL = "flwr.supernode.runtime.run_clientapp:pull_and_inflate_object_from_tree"
INSTALL = "flwr.supernode.runtime.run_clientapp:install_from_fab"
_ENDING = 8
"""Digits of a bundle's hash, with which Flower ends the name of its folder."""
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
    change_flower()
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


def change_flower() -> None:
    """Put our own in place of two functions of Flower's app process.

    The app asks twice a second for parts of a message that its node is still fetching: it is started when a message is
    announced, and Flower's own pauses between requests double from one second to ten. And it is unpacked whole.
    """
    module, _, pull = PULL.partition(":")
    app, install = importlib.import_module(module), INSTALL.partition(":")[2]
    often = partial(getattr(app, pull), initial_backoff=_LOOK_S, backoff_cap=_LOOK_S, max_tries_per_object=None)
    setattr(app, pull, often)
    setattr(app, install, partial(install_whole, getattr(app, install)))


def install_whole(install: Callable[..., Path], bundle: bytes, **more: object) -> Path:
    """Unpack a bundle with Flower's `install`; return the folder, which then holds the bundle's files and no others.

    Flower by itself takes a folder that is there already, unread: also one half unpacked, or with a file more. And it
    unpacks and checks the bundle even then, which takes longer than a small model's training.
    """
    with zipfile.ZipFile(io.BytesIO(bundle)) as archive:
        files = {name: archive.read(name) for name in archive.namelist() if not name.startswith(".info/")}
    ending = hashlib.sha256(bundle).hexdigest()[:_ENDING]
    for folder in (Path(os.environ["FLWR_HOME"]) / "apps").glob(f"*.{ending}"):
        if _files(folder) == files:
            return folder
    for _ in range(2):
        folder = install(bundle, **more)
        if _files(folder) == files:
            return folder
        shutil.rmtree(folder)
    raise RuntimeError("the app's folder does not hold what its bundle does")


def _files(folder: Path) -> dict[str, bytes]:
    kept = (path for path in folder.rglob("*") if path.is_file() and path.parent.name != "__pycache__")
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in kept}


def run_app(arguments: list[str]) -> None:
    """Do what Flower's command does with these arguments."""
    sys.argv = [COMMAND, *arguments]
    pkgutil.resolve_name(CLIENT_APP)()


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
        run_app(arguments)
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
    if sys.argv[1].startswith("--"):
        change_flower()
        run_app(sys.argv[1:])
    else:
        keep_warm(Path(sys.argv[1]))
