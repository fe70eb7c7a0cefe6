"""The live page: three files and a stream of server-sent events, served to this machine alone.

The standard library's server is enough for one reader; the page asks nothing of any other host.
"""

from __future__ import annotations

import json
import threading
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from server.monitoring.feed import Feed
from shared.errors import RunError

HOST = "127.0.0.1"
MOST_READERS = 16
_ALIVE_S = 10.0
_FILES = {
    "/": ("live_page.html", "text/html"),
    "/monitor.css": ("live_page.css", "text/css"),
    "/monitor.js": ("live_page.js", "text/javascript"),
    "/charts.js": ("charts.js", "text/javascript"),
}
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


class PageServer(ThreadingHTTPServer):
    """Serves the page and the feed's moments on 127.0.0.1; `url` is its address.

    Raises
    ------
    RunError
        The port is taken.

    """

    daemon_threads = True

    def __init__(self, feed: Feed, port: int) -> None:
        try:
            super().__init__((HOST, port), _Handler)
        except OSError as error:
            raise RunError(
                f"the page cannot be served on {HOST}:{port}: {error.strerror}; try another --port"
            ) from error
        self.feed = feed
        self.places = threading.BoundedSemaphore(MOST_READERS)
        own = self.server_address[1]
        self.url = f"http://{HOST}:{own}/"
        # A name of somebody else's that resolves to this machine must not read the page (DNS rebinding).
        self.hosts = {f"{name}:{own}" for name in (HOST, "localhost")}

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A closed tab is no error."""


class _Handler(BaseHTTPRequestHandler):
    server: PageServer
    protocol_version = "HTTP/1.1"
    timeout = 30

    def do_GET(self) -> None:
        if self.headers.get("Host") not in self.server.hosts:
            self._answer(HTTPStatus.FORBIDDEN, "text/plain", b"this page is for 127.0.0.1 alone\n")
        elif self.path == "/events":
            self._events()
        elif self.path in _FILES:
            name, kind = _FILES[self.path]
            self._answer(HTTPStatus.OK, kind, (Path(__file__).parent / name).read_bytes())
        else:
            self._answer(HTTPStatus.NOT_FOUND, "text/plain", b"there is no such page\n")

    def _events(self) -> None:
        """Moments as they come; a comment in between shows whether the reader is still there."""
        if not self.server.places.acquire(blocking=False):
            self._answer(HTTPStatus.SERVICE_UNAVAILABLE, "text/plain", b"too many pages are open\n")
            return
        try:
            self._head(HTTPStatus.OK, "text/event-stream")
            self.send_header("Connection", "close")
            self.end_headers()
            seen = 0
            while True:
                number, moment = self.server.feed.after(seen, _ALIVE_S)
                line = f"data: {json.dumps(moment, allow_nan=False)}\n\n" if number != seen else ":\n\n"
                self.wfile.write(line.encode())
                self.wfile.flush()
                seen = number
        finally:
            self.server.places.release()

    def _answer(self, status: HTTPStatus, kind: str, body: bytes) -> None:
        self._head(status, kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _head(self, status: HTTPStatus, kind: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", f"{kind}; charset=utf-8")
        for name, value in _HEADERS.items():
            self.send_header(name, value)

    def log_message(self, *_: Any) -> None:
        """The terminal shows the address alone."""
