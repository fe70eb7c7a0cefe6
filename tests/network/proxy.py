"""A TCP proxy that makes the faults of a network: slow, narrow, in crumbs, broken off, corrupted, silent, cut.

It stands between a site and the server and lets TLS through untouched. Faults may be changed while it runs.
"""

from __future__ import annotations

import asyncio
import math
import random
import socket
import struct
import threading
from collections import Counter
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Literal, Self, TypeVar

_READ = 1 << 16
_GLANCE_S = 0.02
_Way = Literal["up", "down"]
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Faults:
    """What is wrong with the line; nothing by default.

    Attributes
    ----------
    latency_s, jitter_s
        Every piece comes later by `latency_s` and up to `jitter_s` more, each way; order is kept.
    up_bytes_per_s, down_bytes_per_s
        Width of the line, shared by all its connections: towards the server, and towards the site.
    fragment
        Largest piece that is sent at once, bytes.
    break_up_after, break_down_after
        A request, or an answer, is broken off after so many bytes.
    break_by
        By a reset, or by an end that looks orderly.
    corrupt
        Share of pieces one byte of which is changed.
    times
        So often each way; then the line is whole again.
    idle_cut_s
        A connection that was silent for longer is reset.
    cut
        `refused`: no connection holds and none is taken. `silent`: all hold, and nothing arrives.

    """

    latency_s: float = 0.0
    jitter_s: float = 0.0
    up_bytes_per_s: float = math.inf
    down_bytes_per_s: float = math.inf
    fragment: int = _READ
    break_up_after: int | None = None
    break_down_after: int | None = None
    break_by: Literal["reset", "end"] = "reset"
    corrupt: float = 0.0
    times: int = 1
    idle_cut_s: float = math.inf
    cut: Literal["", "refused", "silent"] = ""


class _Connection:
    """A site's connection and ours to the server."""

    def __init__(self, site: asyncio.StreamWriter, server: asyncio.StreamWriter) -> None:
        self.towards = {"down": site, "up": server}
        self.burst: Counter[str] = Counter()  # bytes one way since the last ones the other way
        self.active = asyncio.get_running_loop().time()

    def reset(self) -> None:
        for writer in self.towards.values():
            with suppress(OSError, AttributeError):  # it may have ended by itself
                linger = struct.pack("ii", 1, 0)  # what makes an end a reset
                writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            writer.transport.abort()


class Proxy:
    """The proxy, in a thread of its own for as long as its context lasts.

    Attributes
    ----------
    port
        Where it listens, on loopback.
    seen
        Counts: `connections`, `up` and `down` (bytes that were let through), `broken up`, `broken down`, `corrupted`,
        `idle`.

    """

    def __init__(self, target: int, seed: int = 0) -> None:
        self.port = 0
        self.seen: Counter[str] = Counter()
        self._target, self._random, self._faults = target, random.Random(seed), Faults()
        self._free_at: Counter[str] = Counter()  # when the line has sent what it took
        self._open: set[_Connection] = set()
        self._server: asyncio.Server | None = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        self._call(self._listen())
        return self

    def __exit__(self, *_: object) -> None:
        self._call(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    @property
    def faults(self) -> Faults:
        """What is wrong now."""
        return self._faults

    @faults.setter
    def faults(self, faults: Faults) -> None:
        self._call(self._change(faults))

    @contextmanager
    def partition(self, cut: Literal["refused", "silent"] = "refused") -> Iterator[None]:
        """Cut the line for as long as the context lasts; then it is whole."""
        self.faults = Faults(cut=cut)
        try:
            yield
        finally:
            self.faults = Faults()

    def _call(self, work: Coroutine[Any, Any, _T]) -> _T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _change(self, faults: Faults) -> None:
        self._faults = faults
        if faults.cut == "refused":
            await self._shut()
        elif self._server is None:
            await self._listen()

    async def _shut(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        for connection in list(self._open):
            connection.reset()

    async def _end(self) -> None:
        await self._shut()
        left = asyncio.all_tasks() - {asyncio.current_task()}
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.seen["connections"] += 1
        try:
            back, out = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            writer.transport.abort()
            return
        connection = _Connection(writer, out)
        self._open.add(connection)
        work = [self._pump(connection, reader, "up"), self._pump(connection, back, "down"), self._watch(connection)]
        tasks = [self._loop.create_task(item) for item in work]
        try:
            await asyncio.wait(tasks[:2])
        finally:
            tasks[2].cancel()
            self._open.discard(connection)
            for end in (writer, out):
                end.transport.abort()

    async def _pump(self, connection: _Connection, reader: asyncio.StreamReader, way: _Way) -> None:
        """Let bytes through one way; reading goes on while earlier ones are still under way."""
        pieces: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(64)
        sending = self._loop.create_task(self._send(connection, pieces, way))
        due = 0.0
        with suppress(OSError):
            while piece := await reader.read(_READ):
                late = self._faults.latency_s + self._random.uniform(0, self._faults.jitter_s)
                due = max(due, self._loop.time() + late)
                await pieces.put((due, piece))
        await pieces.put((due, b""))
        await sending

    async def _send(self, connection: _Connection, pieces: asyncio.Queue[tuple[float, bytes]], way: _Way) -> None:
        writer = connection.towards[way]
        while True:
            due, piece = await pieces.get()
            await asyncio.sleep(max(0.0, due - self._loop.time()))
            while self._faults.cut == "silent":  # noqa: ASYNC110 - as below
                await asyncio.sleep(_GLANCE_S)
            if not piece or writer.transport.is_closing():
                writer.transport.close()
                return
            whole = self._whole(connection, way, len(piece))
            with suppress(OSError):
                await self._write(connection, piece[:whole], way)
            if whole < len(piece):
                self._break(connection, way)

    async def _write(self, connection: _Connection, piece: bytes, way: _Way) -> None:
        for start in range(0, len(piece), self._faults.fragment):
            part = piece[start : start + self._faults.fragment]
            width = self._faults.up_bytes_per_s if way == "up" else self._faults.down_bytes_per_s
            self._free_at[way] = max(self._free_at[way], self._loop.time()) + len(part) / width  # type: ignore[assignment]
            await asyncio.sleep(max(0.0, self._free_at[way] - self._loop.time()))
            connection.active = self._loop.time()
            self.seen[way] += len(part)
            connection.towards[way].write(self._corrupted(part))
            await connection.towards[way].drain()

    def _corrupted(self, part: bytes) -> bytes:
        if self._faults.corrupt <= self._random.random():
            return part
        self.seen["corrupted"] += 1
        place = self._random.randrange(len(part))
        return part[:place] + bytes([(part[place] + 1) % 256]) + part[place + 1 :]

    def _whole(self, connection: _Connection, way: _Way, size: int) -> int:
        """How much of a piece is let through before it is time to break off."""
        connection.burst["down" if way == "up" else "up"] = 0
        before = connection.burst[way]
        connection.burst[way] += size
        limit = self._faults.break_up_after if way == "up" else self._faults.break_down_after
        if limit is None or self.seen[f"broken {way}"] >= self._faults.times or before + size <= limit:
            return size
        return max(0, limit - before)

    def _break(self, connection: _Connection, way: _Way) -> None:
        self.seen[f"broken {way}"] += 1
        if self._faults.break_by == "reset":
            connection.reset()
            return
        connection.towards[way].transport.close()  # what was let through arrives first
        connection.towards["down" if way == "up" else "up"].transport.abort()

    async def _watch(self, connection: _Connection) -> None:
        while self._loop.time() - connection.active <= self._faults.idle_cut_s:  # noqa: ASYNC110 - faults may change
            await asyncio.sleep(_GLANCE_S)
        self.seen["idle"] += 1
        connection.reset()
