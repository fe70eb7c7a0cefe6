"""The status service: observers read a run's snapshots over gRPC, with TLS and client certificates. It is read-only."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NoReturn

import grpc
from cryptography import x509
from cryptography.x509.oid import NameOID
from google.protobuf.empty_pb2 import Empty
from google.protobuf.struct_pb2 import Struct
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import HealthServicer

from server.monitoring.snapshot import snapshot
from server.monitoring.status_client import GET, MOST_BYTES, RUN_KEY, SERVICE, WATCH, to_struct
from shared.errors import ConfigError, RunError

log = logging.getLogger(__name__)

MOST_WATCHING = 32
AT_LEAST_EVERY_S = 15.0
_LOOK_EVERY_S = 1.0
_SPARE = 8
"""Threads beyond the watching observers, so that the health check still gets one."""
_OBSERVER = "observer"


def serve_status(kit: Path, runs: Path, host: str, port: int) -> grpc.Server:
    """Start the service for a server's kit and the runs below `runs`; the caller stops it.

    Raises
    ------
    RunError
        A key or certificate is missing, or the port is in use.

    """
    certificates = kit / "certificates"
    try:
        key = (kit / "keys" / "server.key").read_bytes()
        chain = (certificates / "server.crt").read_bytes()
        authority = (certificates / "ca.crt").read_bytes()
    except OSError as error:
        raise RunError(f"{kit} is not a server's kit: {error.filename}: {error.strerror}") from error
    server = grpc.server(
        ThreadPoolExecutor(MOST_WATCHING + _SPARE, thread_name_prefix="status"),
        maximum_concurrent_rpcs=MOST_WATCHING + _SPARE,
        compression=grpc.Compression.Gzip,
        options=[
            ("grpc.so_reuseport", 0),  # a second server on the port must fail, not share it
            ("grpc.max_receive_message_length", 4096),
            ("grpc.max_send_message_length", MOST_BYTES),
            ("grpc.max_concurrent_streams", MOST_WATCHING),
            ("grpc.http2.min_recv_ping_interval_without_data_ms", 10_000),
        ],
    )
    door = Door(certificates / "crl.pem")
    server.add_generic_rpc_handlers((_handlers(Status(runs, door)),))
    health_pb2_grpc.add_HealthServicer_to_server(_Health(door), server)
    identity = grpc.ssl_server_credentials([(key, chain)], root_certificates=authority, require_client_auth=True)
    try:
        server.add_secure_port(f"{host}:{port}", identity)
    except RuntimeError as error:
        raise RunError(f"the status service cannot listen on {host}:{port}: is another server running?") from error
    server.start()
    log.info("status service on %s:%d", host, port)
    return server


class Door:
    """Lets in observers only: sites' certificates are of the same authority, but no site may see another's numbers.

    If the authority's list of revoked certificates is absent, none has been revoked.
    """

    def __init__(self, revoked: Path) -> None:
        self.revoked = revoked

    def check(self, context: grpc.ServicerContext) -> None:
        """End the call if its client is not an observer."""
        (pem,) = context.auth_context()["x509_pem_cert"]
        certificate = x509.load_pem_x509_certificate(pem)
        units = [item.value for item in certificate.subject.get_attributes_for_oid(NameOID.ORGANIZATIONAL_UNIT_NAME)]
        if units != [_OBSERVER]:
            why = "only an observer's certificate may read the run's status (its OU must be 'observer')"
            _abort(context, grpc.StatusCode.PERMISSION_DENIED, why)
        try:
            revoked = self._is_revoked(certificate.serial_number)
        except (OSError, ValueError):  # perhaps it is just being copied
            why = "the list of revoked certificates cannot be read: ask again"
            _abort(context, grpc.StatusCode.UNAVAILABLE, why)
        if revoked:
            why = "this observer's certificate was revoked: ask the coordinator for another"
            _abort(context, grpc.StatusCode.PERMISSION_DENIED, why)

    def _is_revoked(self, serial: int) -> bool:
        try:
            # Read at every call, so that a revocation takes effect at once; if it cannot be read, nobody is let in.
            revoked = x509.load_pem_x509_crl(self.revoked.read_bytes())
        except FileNotFoundError:
            return False
        return revoked.get_revoked_certificate_by_serial_number(serial) is not None


class Status:
    """`fedbreast.Status`: see status.proto."""

    def __init__(self, runs: Path, door: Door) -> None:
        self.runs = runs
        self.door = door
        self.places = threading.BoundedSemaphore(MOST_WATCHING)

    def get(self, _: Empty, context: grpc.ServicerContext) -> Struct:
        """The run's snapshot now."""
        self.door.check(context)
        return to_struct(self._look(context))

    def watch(self, _: Empty, context: grpc.ServicerContext) -> Iterator[Struct]:
        """A snapshot now, at every change and at least every 15 s, as long as the certificate is valid."""
        self.door.check(context)
        if not self.places.acquire(blocking=False):
            context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, f"{MOST_WATCHING} observers watch already: try later")
        gone = threading.Event()
        try:
            if not context.add_callback(gone.set):
                return
            last: dict[str, Any] | None = None
            due = 0.0
            while not gone.wait(_LOOK_EVERY_S if last is not None else 0):
                self.door.check(context)  # a certificate revoked meanwhile ends the stream
                current = self._look(context)
                if current is last and time.monotonic() < due:
                    continue
                last, due = current, time.monotonic() + AT_LEAST_EVERY_S - _LOOK_EVERY_S
                yield to_struct(current)
        finally:
            self.places.release()

    def _look(self, context: grpc.ServicerContext) -> dict[str, Any]:
        name = dict(context.invocation_metadata()).get(RUN_KEY)
        try:
            return snapshot(self.runs, name)
        except ConfigError as error:
            _abort(context, grpc.StatusCode.INVALID_ARGUMENT, str(error))


def _handlers(status: Status) -> grpc.GenericRpcHandler:
    wire = {"request_deserializer": Empty.FromString, "response_serializer": Struct.SerializeToString}
    return grpc.method_handlers_generic_handler(
        SERVICE,
        {
            GET: grpc.unary_unary_rpc_method_handler(status.get, **wire),
            WATCH: grpc.unary_stream_rpc_method_handler(status.watch, **wire),
        },
    )


class _Health(HealthServicer):  # type: ignore[misc]  # it ships no types
    """The standard health service, for observers only: a site could otherwise use up all its threads."""

    def __init__(self, door: Door) -> None:
        super().__init__(experimental_non_blocking=False)
        self.door = door
        self.set(SERVICE, health_pb2.HealthCheckResponse.SERVING)

    def Check(self, request: Any, context: Any) -> Any:  # noqa: N802 - the service's own name
        self.door.check(context)
        return super().Check(request, context)

    def Watch(self, request: Any, context: Any, send_response_callback: Any = None) -> Any:  # noqa: N802 - the same
        self.door.check(context)
        return super().Watch(request, context, send_response_callback)


def _abort(context: grpc.ServicerContext, code: grpc.StatusCode, why: str) -> NoReturn:
    context.abort(code, why)
    raise AssertionError(why)  # abort never returns
