"""nginx's configuration: who is let in, what they may call, how much, and how long nginx waits for them."""

from __future__ import annotations

import resource
from base64 import b64encode
from collections.abc import Sequence
from pathlib import Path

from server.deployment.server_kit import ServerKit, SiteKey
from server.deployment.template import fill_template

LARGEST_CALL_MB = 16
"""Flower sends weights in pieces of 5 MB."""
CALLS_A_SECOND = 100
CONNECTIONS = 16
STRANGERS_CALLS_A_SECOND = 20
"""By address, of callers without a valid certificate."""
STALLED_S = 60
"""A request body that pauses for so long is cut off."""
HURRY_S = 10
"""Time for the TLS handshake, and as much for the headers: until then nothing is known of the caller."""
SLOTS = 8192
"""Connections per worker. A stranger takes one, and 50 KB, for as long as nginx waits for him."""
_OWN_FILES = 100
_REFUSED = 401  # Flower's node ends at once; on 403 it would believe that the run is over and go on asking


def draft_conf(kit: ServerKit, sites: Sequence[SiteKey], host: str) -> Path:
    """Write nginx's configuration beside the one in use, `nginx.conf`; return its path."""
    run = kit.state / "nginx"
    run.mkdir(parents=True, exist_ok=True)
    certificate, key = kit.certificate
    slots, files = _slots()
    text = fill_template(
        Path(__file__).with_name("nginx.conf.j2"),
        run=run,
        largest=LARGEST_CALL_MB,
        stalled=STALLED_S,
        finish=2 * STALLED_S,
        hurry=HURRY_S,
        slots=slots,
        files=files,
        rate=CALLS_A_SECOND,
        burst=4 * CALLS_A_SECOND,
        strangers=STRANGERS_CALLS_A_SECOND,
        connections=CONNECTIONS,
        refused=_REFUSED,
        sites=[(site, b64encode(site.public_key).decode()) for site in sites],
        superlink=kit.server.superlink_port,
        listen=f"{host}:{kit.server.port}",
        certificate=certificate,
        key=key,
        authority=kit.authority,
        revoked=kit.revoked,
    )
    draft = run / ".nginx.conf"
    draft.write_text(text, encoding="utf-8")
    return draft


def _slots() -> tuple[int, int]:
    """Connections and open files per worker, within what the system allows this process."""
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    slots = SLOTS if most == resource.RLIM_INFINITY else min(SLOTS, most - _OWN_FILES)
    return slots, slots + _OWN_FILES
