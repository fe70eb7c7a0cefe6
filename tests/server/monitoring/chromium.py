"""A headless Chromium spoken to over its debugging pipe: a window of any width, scripts, pictures."""

import base64
import json
import os
import shutil
import subprocess
import time
from contextlib import contextmanager

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update", "--hide-scrollbars", "--remote-debugging-pipe",
)  # fmt: skip


class Tab:
    """A tab; messages end in a zero byte."""

    def __init__(self, asks, answers):
        self.asks, self.answers, self.last, self.events = asks, answers, 0, []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for room in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{room}.enable")

    def call(self, method, **params):
        self.last += 1
        message = {"id": self.last, "method": method, "params": params}
        if hasattr(self, "session"):
            message["sessionId"] = self.session
        self.asks.write(json.dumps(message).encode() + b"\0")
        self.asks.flush()
        while True:
            answer = json.loads(self._next())
            if answer.get("id") == self.last:
                return answer["result"]
            self.events.append(answer)

    def _next(self):
        found = bytearray()
        while (byte := self.answers.read(1)) != b"\0":
            if not byte:
                raise EOFError
            found += byte
        return found

    def open(self, url, width, height=900, *, dark=False):
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])
        self.call("Page.navigate", url=url)
        self.until(f"location.href === {json.dumps(url)} && document.readyState === 'complete'")

    def run(self, script):
        """The value of an expression."""
        answer = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def until(self, script, seconds=20):
        deadline = time.monotonic() + seconds
        while not self.run(script):
            assert time.monotonic() < deadline, script
            time.sleep(0.05)

    def picture(self, path):
        height = self.run("document.documentElement.scrollHeight")
        width = self.run("document.documentElement.clientWidth")
        clip = {"x": 0, "y": 0, "width": width, "height": height, "scale": 1}
        data = self.call("Page.captureScreenshot", captureBeyondViewport=True, clip=clip)["data"]
        path.write_bytes(base64.b64decode(data))


@contextmanager
def tab(profile):
    """A tab of a new Chromium, which is gone afterwards."""
    (their_in, asks), (answers, their_out) = os.pipe(), os.pipe()

    def as_three_and_four():
        # Both first out of the way: one of them may be number 3 or 4 itself.
        reads, writes = os.dup(their_in), os.dup(their_out)
        os.dup2(reads, 3)
        os.dup2(writes, 4)

    process = subprocess.Popen(
        [CHROMIUM, *FLAGS, f"--user-data-dir={profile}"], close_fds=False, preexec_fn=as_three_and_four,  # noqa: PLW1509
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    os.close(their_in)
    os.close(their_out)
    try:
        with os.fdopen(asks, "wb") as writing, os.fdopen(answers, "rb") as reading:
            yield Tab(writing, reading)
    finally:
        process.terminate()
        process.wait(10)
