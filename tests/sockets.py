"""Which sockets processes listen on, from Linux's own tables."""

import ipaddress
import re
from contextlib import suppress
from pathlib import Path

LISTEN = "0A"


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
