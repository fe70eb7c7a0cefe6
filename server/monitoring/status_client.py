"""The observer's side of the status service, and what both sides agree on: names, and snapshots as Structs."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
from google.protobuf.empty_pb2 import Empty
from google.protobuf.json_format import MessageToDict
from google.protobuf.struct_pb2 import Struct
from grpc_health.v1 import health_pb2, health_pb2_grpc

from shared.config.strict_toml import parse_toml
from shared.errors import ConfigError, RunError
from shared.words import plain, plain_words

SERVICE = "fedbreast.Status"
GET, WATCH = "Get", "Watch"
RUN_KEY = "fedbreast-run"
"""Metadata key of a call that asks for a certain run."""
MOST_BYTES = 16 * 2**20
_ANSWER_S = 10.0
_REASONS = {
    grpc.StatusCode.UNAVAILABLE: "no connection: is the server running, is the port open, do the certificates fit?",
    grpc.StatusCode.DEADLINE_EXCEEDED: f"no answer within {_ANSWER_S:.0f} s",
}


@dataclass(frozen=True, slots=True)
class Observer:
    """The service's address and the observer's credentials: authority, certificate and key as PEM."""

    host: str
    port: int
    authority: bytes
    certificate: bytes
    key: bytes

    @property
    def where(self) -> str:
        """Address and port, for people."""
        return f"{self.host}:{self.port}"


def read_observer(folder: Path) -> Observer:
    """Read the credentials in an observer's folder, or in a server's kit, which asks on its own machine.

    Raises
    ------
    ConfigError
        The folder is neither, or lacks a file.

    """
    server = (folder / "server.toml").is_file()
    settings = folder / ("server.toml" if server else "observer.toml")
    public, private = (folder / "certificates", folder / "keys") if server else (folder, folder)
    try:
        values = parse_toml(settings.read_text(encoding="utf-8-sig"))
        return Observer(
            "127.0.0.1" if server else str(values["address"]),
            int(values["status_port"]),
            (public / "ca.crt").read_bytes(),
            (public / "observer.crt").read_bytes(),
            (private / "observer.key").read_bytes(),
        )
    except OSError as error:
        raise ConfigError(
            f"{folder} is neither an observer's folder nor a server's kit of `fedbreast provision`: {error.filename}: "
            f"{error.strerror}"
        ) from error
    except (KeyError, ValueError) as error:
        raise ConfigError(f"{settings} must have address and status_port: {error}") from error


@contextmanager
def connection(observer: Observer) -> Iterator[grpc.Channel]:
    """A channel to the service, open while the context lasts."""
    options: list[tuple[str, int]] = [
        ("grpc.max_receive_message_length", MOST_BYTES),
        # Notices a connection that broke silently, such as a pulled cable.
        ("grpc.keepalive_time_ms", 20_000),
        ("grpc.keepalive_timeout_ms", 10_000),
        # The caller retries by itself; gRPC's own pauses would grow to two minutes.
        ("grpc.initial_reconnect_backoff_ms", 500),
        ("grpc.max_reconnect_backoff_ms", 500),
    ]
    if observer.host in {"127.0.0.1", "localhost", "::1"}:
        options.append(("grpc.enable_http_proxy", 0))
    identity = grpc.ssl_channel_credentials(observer.authority, observer.key, observer.certificate)
    with grpc.secure_channel(observer.where, identity, options=options) as channel:
        yield channel


def look(observer: Observer, run: str | None) -> tuple[dict[str, Any], float]:
    """One snapshot, and this machine's clock minus the server's, seconds; a `RunError` says why there is none."""
    with connection(observer) as channel:
        get = channel.unary_unary(
            f"/{SERVICE}/{GET}", request_serializer=Empty.SerializeToString, response_deserializer=Struct.FromString
        )
        try:
            return from_struct(get(Empty(), metadata=_metadata(run), timeout=_ANSWER_S))
        except grpc.RpcError as error:
            raise RunError(f"{observer.where}: {reason(error)}") from error


def watch(channel: grpc.Channel, run: str | None) -> Iterator[tuple[dict[str, Any], float]]:
    """A stream of the same, one for each change; it ends with a `grpc.RpcError`."""
    stream = channel.unary_stream(
        f"/{SERVICE}/{WATCH}", request_serializer=Empty.SerializeToString, response_deserializer=Struct.FromString
    )
    for message in stream(Empty(), metadata=_metadata(run)):
        yield from_struct(message)


def probe(kit: Path) -> str:
    """Ask the server of a kit whether it serves; returns a line that says so. A `RunError` says why it does not."""
    observer = read_observer(kit)
    with connection(observer) as channel:
        request = health_pb2.HealthCheckRequest(service=SERVICE)
        try:
            answer = health_pb2_grpc.HealthStub(channel).Check(request, timeout=_ANSWER_S)
        except grpc.RpcError as error:
            raise RunError(f"{observer.where} is not serving: {reason(error)}") from error
    status = health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)
    if answer.status != health_pb2.HealthCheckResponse.SERVING:
        raise RunError(f"{observer.where} is not serving: {status}")
    return f"{observer.where}: {status}"


def to_struct(snapshot: Mapping[str, Any]) -> Struct:
    """A snapshot as a message, with the server's time."""
    message = Struct()
    message.update({**snapshot, "now": time.time()})
    return message


def from_struct(message: Struct) -> tuple[dict[str, Any], float]:
    """The snapshot in a message, and this machine's clock minus the server's, seconds."""
    snapshot: dict[str, Any] = plain_words(MessageToDict(message))
    return snapshot, time.time() - snapshot.pop("now", time.time())


def reason(error: grpc.RpcError) -> str:
    """Why a call failed, in one line."""
    code, details = error.code(), plain(" ".join(str(error.details()).split()))
    known = _REASONS.get(code)
    return f"{known} ({details[:200]})" if known else f"{details[:300]} ({code.name})"


def _metadata(run: str | None) -> tuple[tuple[str, str], ...]:
    return ((RUN_KEY, run),) if run else ()
