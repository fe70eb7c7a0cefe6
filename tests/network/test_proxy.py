"""The proxy itself: each fault is really made, and nothing else is."""

import socket
import socketserver
import threading
import time
from contextlib import contextmanager
from typing import ClassVar

import pytest

from tests.network.proxy import Faults, Proxy


class Echo(socketserver.BaseRequestHandler):
    """Sends back what it gets; `sizes` are those of the pieces as they came."""

    sizes: ClassVar[list] = []

    def handle(self):
        self.request.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            while piece := self.request.recv(1 << 16):
                self.sizes.append(len(piece))
                self.request.sendall(piece)
        except OSError:
            return


class Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True


@pytest.fixture
def proxy():
    Echo.sizes = []
    with Server(("127.0.0.1", 0), Echo) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        with Proxy(server.server_address[1]) as found:
            yield found
        server.shutdown()


@contextmanager
def connected(proxy):
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=5) as found:
        yield found


def echo(wire, content):
    """Send, and read as much; what came before the connection broke off."""
    threading.Thread(target=lambda: _quietly(wire.sendall, content), daemon=True).start()
    back = b""
    while len(back) < len(content) and (piece := _quietly(wire.recv, 1 << 16)):
        back += piece
    return back


def send_on(wire):
    """The end of a connection shows at the second sending at the latest."""
    for _ in range(3):
        wire.sendall(b"more")
        time.sleep(0.05)


def _quietly(function, *arguments):
    try:
        return function(*arguments)
    except OSError:
        return None


def timed(wire, content):
    started = time.monotonic()
    assert echo(wire, content) == content
    return time.monotonic() - started


CONTENT = bytes(range(256)) * 400


def test_without_faults_bytes_pass_both_ways_and_are_counted(proxy):
    with connected(proxy) as wire:
        assert echo(wire, CONTENT) == CONTENT
    assert proxy.seen == {"connections": 1, "up": len(CONTENT), "down": len(CONTENT)}


def test_latency_delays_each_way_and_jitter_keeps_the_order(proxy):
    with connected(proxy) as wire:
        assert timed(wire, b"x") < 0.15
        proxy.faults = Faults(latency_s=0.2, jitter_s=0.1)
        assert 0.4 <= timed(wire, CONTENT) < 1.2


@pytest.mark.parametrize("way", ["up_bytes_per_s", "down_bytes_per_s"])
def test_the_line_is_as_wide_as_asked_for_and_shared_by_its_connections(proxy, way):
    proxy.faults = Faults(**{way: 200_000, "fragment": 4096})
    with connected(proxy) as first, connected(proxy) as second:
        started = time.monotonic()
        other = threading.Thread(target=echo, args=(second, CONTENT))
        other.start()
        assert echo(first, CONTENT) == CONTENT
        other.join()
    assert 0.9 <= time.monotonic() - started < 2.0


def test_an_upload_is_reset_after_so_many_bytes_and_once_only(proxy):
    proxy.faults = Faults(break_up_after=50_000)
    with connected(proxy) as wire:
        assert echo(wire, b"hello") == b"hello"
        assert echo(wire, CONTENT) != CONTENT
        with pytest.raises((ConnectionResetError, BrokenPipeError)):
            send_on(wire)
    assert sum(Echo.sizes) <= 50_005
    assert proxy.seen["broken up"] == 1
    with connected(proxy) as wire:
        assert echo(wire, CONTENT) == CONTENT


def test_a_reply_ends_after_so_many_bytes_as_if_it_were_whole(proxy):
    proxy.faults = Faults(break_down_after=1000, break_by="end")
    with connected(proxy) as wire:
        wire.sendall(CONTENT[:5000])
        back = b""
        while piece := wire.recv(1 << 16):
            back += piece
        assert back == CONTENT[:1000]
    assert proxy.seen["broken down"] == 1
    with connected(proxy) as wire:
        assert echo(wire, CONTENT[:5000]) == CONTENT[:5000]


def test_fragments_arrive_in_crumbs_and_whole(proxy):
    proxy.faults = Faults(fragment=1)
    with connected(proxy) as wire:
        assert echo(wire, CONTENT[:3000]) == CONTENT[:3000]
    assert len(Echo.sizes) > 100


def test_a_refusing_partition_drops_what_is_open_and_takes_nothing_new(proxy):
    with connected(proxy) as wire:
        assert echo(wire, b"x") == b"x"
        with proxy.partition():
            assert not echo(wire, b"x")
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection(("127.0.0.1", proxy.port), timeout=5)
    with connected(proxy) as wire:
        assert echo(wire, b"x") == b"x"


def test_a_silent_partition_holds_everything_back_and_then_delivers_it(proxy):
    with connected(proxy) as wire:
        with proxy.partition("silent"):
            wire.settimeout(0.3)
            wire.sendall(b"late")
            with pytest.raises(TimeoutError):
                wire.recv(4)
        wire.settimeout(5)
        assert wire.recv(4) == b"late"


def test_a_connection_that_is_idle_too_long_is_cut_and_a_busy_one_is_not(proxy):
    proxy.faults = Faults(idle_cut_s=0.3)
    with connected(proxy) as wire:
        for _ in range(4):
            assert echo(wire, b"x") == b"x"
            time.sleep(0.1)
        time.sleep(0.5)
        assert not echo(wire, b"x")
    assert proxy.seen["idle"] == 1


def test_a_byte_is_changed_in_the_pieces_that_are_corrupted_and_none_is_lost(proxy):
    proxy.faults = Faults(corrupt=1.0)
    with connected(proxy) as wire:
        back = echo(wire, b"hello")
    assert len(back) == 5
    assert back != b"hello"
    assert proxy.seen["corrupted"] == 2  # on the way there, and back
