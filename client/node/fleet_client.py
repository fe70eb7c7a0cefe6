"""The node's calls to the server: Flower's own client with the site's certificate, and a record of lost connections."""

from __future__ import annotations

import ssl
import sys
import time
from contextlib import suppress
from email.utils import parsedate_to_datetime
from typing import Any

from client.node.site_kit import SiteKit
from shared.runtime.audit_log import AuditLog
from shared.runtime.flower_internals import flower_internal

REFUSED = "the server refuses:"
"""Starts a line of the node's log: status, who refused (`door` is nginx), and by how much the clocks differ."""
_CLOCKS_S = 4.0  # Flower lets a node's clock be 5 s ahead, and 305 s behind
_AWAY = {502, 503, 504}  # nginx answers, the SuperLink does not


def tls_context(kit: SiteKit) -> ssl.SSLContext:
    """TLS 1.3 with the consortium's authority and the site's own certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_verify_locations(cafile=str(kit.authority))
    certificate, key = kit.certificate
    context.load_cert_chain(str(certificate), str(key))
    return context


def fleet_client(kit: SiteKit, audit: AuditLog) -> type[Any]:
    """A class that replaces Flower's `FleetHttpClient`."""
    import httpx

    own: Any = flower_internal("flwr.supernode.fleet_http_client:FleetHttpClient")

    class CertifiedClient(own):  # type: ignore[misc]
        """Flower's client with our TLS context; it records what Flower does not report."""

        _away = False
        _beat: Any = None

        @classmethod
        def from_server_address(
            cls, server_address: str, insecure: bool, root_certificates: Any, interceptors: Any, **more: Any
        ) -> CertifiedClient:
            """As Flower's, but with our certificates."""
            del insecure, root_certificates
            return cls(f"https://{server_address}", interceptors=interceptors, verify=tls_context(kit), **more)

        def SendNodeHeartbeat(self, request: Any) -> Any:  # noqa: N802
            """As Flower's; the last heartbeat is kept, to send it again when the server is back."""
            self._beat = request
            return super().SendNodeHeartbeat(request)

        def _send(self, context: Any, *, stream: bool = False) -> httpx.Response:
            try:
                answer: httpx.Response = super()._send(context, stream=stream)
            except (httpx.ConnectError, httpx.ConnectTimeout) as error:
                self._note(str(error) or "no answer in time")
                raise
            self._note(f"its proxy answers {answer.status_code}" if answer.status_code in _AWAY else "")
            if answer.is_error and answer.status_code not in _AWAY:
                print(f"{REFUSED} {_refusal(answer)}", file=sys.stderr, flush=True)  # noqa: T201 - the node's log
            return answer

        def _note(self, fault: str) -> None:
            if bool(fault) != self._away:
                self._away = bool(fault)
                why = {"why": fault[:200]} if fault else {}
                audit.record("server-unreachable" if fault else "server-reached", site=kit.name, **why)
                if self._beat is not None and not fault:
                    # Flower's next heartbeat may be 20 s away, and until then no round includes this site.
                    with suppress(httpx.HTTPError):
                        super().SendNodeHeartbeat(self._beat)

    return CertifiedClient


def _refusal(answer: Any) -> str:
    who = "door" if "html" in answer.headers.get("content-type", "") else "flower"
    try:
        apart = abs(time.time() - parsedate_to_datetime(answer.headers["date"]).timestamp())
    except (KeyError, ValueError):
        apart = 0.0
    return f"{answer.status_code} {who}" + (f" clocks differ by {apart:.0f} s" if apart > _CLOCKS_S else "")
