"""Which sockets processes listen on, from Linux's own tables, and what a stranger hears from a Ray."""

import ipaddress
import os
import re
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

LISTEN = "0A"
STRANGER = "import ray, sys; ray.init(address=sys.argv[1]); print(ray.get(ray.remote(lambda: 'it ran').remote()))"
REFUSED = "InvalidAuthToken"


def listening(pids):
    """Address and port of every TCP socket that one of these processes listens on."""
    held = set()
    for pid in pids:
        with suppress(OSError):
            for link in Path(f"/proc/{pid}/fd").iterdir():
                with suppress(OSError):
                    held |= set(re.findall(r"socket:\[(\d+)\]", str(link.readlink())))
    found = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == LISTEN and fields[9] in held:
                host, port = fields[1].split(":")
                # Each group of four bytes is a number of this machine's order.
                words = [bytes.fromhex(host[place : place + 8])[::-1] for place in range(0, len(host), 8)]
                address = ipaddress.ip_address(b"".join(words))
                found.add((str(getattr(address, "ipv4_mapped", None) or address), int(port, 16)))
    return found


def stranger_at(address):
    """What a driver without a token is told by the Ray at `address`; it is ended at its first refusal."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("RAY_")}
    environment |= {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}  # else it asks another address
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    with subprocess.Popen([sys.executable, "-c", STRANGER, address], env=environment, **pipes) as driver:
        heard = ""
        for line in driver.stdout:
            heard += line
            if REFUSED in line:
                driver.kill()
        return heard
