"""The live page: four files and a stream of server-sent events, served to this machine alone.

The page loads nothing from any other host.
"""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from threading import BoundedSemaphore

import uvicorn
from fastapi import Depends, FastAPI, HTTPException, Request, Response
from fastapi.responses import FileResponse
from fastapi.sse import EventSourceResponse, ServerSentEvent

from server.monitoring.feed import Feed
from shared.errors import RunError

HOST = "127.0.0.1"
MOST_READERS = 16
_LOOK_EVERY_S = 0.1
_FILES = {"": "live_page.html", "monitor.css": "live_page.css", "monitor.js": "live_page.js", "charts.js": "charts.js"}
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


class PageServer(uvicorn.Server):
    """Serves the page and the feed's snapshots on 127.0.0.1; `url` is its address.

    Raises
    ------
    RunError
        The port is in use.

    """

    def __init__(self, feed: Feed, port: int) -> None:
        try:
            self._listener = socket.create_server((HOST, port))
        except OSError as error:
            raise RunError(
                f"the page cannot be served on {HOST}:{port}: {error.strerror}; try another --port"
            ) from error
        self.port = self._listener.getsockname()[1]
        self.url = f"http://{HOST}:{self.port}/"
        settings = uvicorn.Config(
            page_app(feed, self.port), lifespan="off", ws="none", log_config=None, log_level="critical",
            server_header=False, timeout_graceful_shutdown=0,  # an event stream never ends by itself
        )  # fmt: skip
        super().__init__(settings)

    def serve_page(self) -> None:
        """Serve until `should_exit` is set; in the main thread also until Ctrl-C, which raises `KeyboardInterrupt`."""
        self.run(sockets=[self._listener])


def page_app(feed: Feed, port: int) -> FastAPI:
    """The page's web application, as it is served on a port of this machine."""
    places = BoundedSemaphore(MOST_READERS)

    async def check_host(request: Request, response: Response) -> None:
        response.headers.update(_HEADERS)
        # Another site's name that resolves to this machine must not read the page (DNS rebinding).
        if request.headers.get("host") not in {f"{HOST}:{port}", f"localhost:{port}"}:
            raise HTTPException(403, "this page is for 127.0.0.1 alone", _HEADERS)

    async def reader(response: Response) -> AsyncIterator[None]:
        response.headers["Connection"] = "close"
        if not places.acquire(blocking=False):
            raise HTTPException(503, "too many pages are open", _HEADERS)
        try:
            yield
        finally:
            places.release()

    app = FastAPI(openapi_url=None, dependencies=[Depends(check_host)])

    @app.get("/events", response_class=EventSourceResponse, dependencies=[Depends(reader)])
    async def events() -> AsyncIterator[ServerSentEvent]:
        shown = 0
        while True:
            number, moment = feed.latest
            if number != shown:
                yield ServerSentEvent(raw_data=json.dumps(moment, allow_nan=False))
            shown = number
            await asyncio.sleep(_LOOK_EVERY_S)

    @app.get("/{name:path}")
    async def file(name: str) -> FileResponse:
        if name not in _FILES:
            raise HTTPException(404, "there is no such page", _HEADERS)
        return FileResponse(Path(__file__).parent / _FILES[name], headers=_HEADERS)

    return app
