"""Chromium without a window, as a test drives it, over the pipe of its debugging protocol
(https://chromedevtools.github.io/devtools-protocol/)."""

import base64
import itertools
import json
import os
import shutil
import subprocess
import time
from contextlib import contextmanager

CHROMIUM = next(
    (p for n in ("chromium", "chromium-browser", "google-chrome") if (p := shutil.which(n))), None
)


class Tab:
    """One page of the browser, with the addresses that it has asked for."""

    def __init__(self, reading, writing):
        self.reading, self.writing = reading, writing
        self.numbers, self.buffer, self.requested, self.messages = itertools.count(1), b"", [], []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self.session = attached["sessionId"]
        for domain in ("Page", "Network", "Runtime", "Log"):
            self.call(f"{domain}.enable")

    session = None

    def call(self, method, **params):
        number = next(self.numbers)
        message = {"id": number, "method": method, "params": params}
        if self.session:
            message["sessionId"] = self.session
        os.write(self.writing, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == number:
                assert "error" not in answer, answer["error"]
                return answer["result"]
            if answer.get("method") == "Network.requestWillBeSent":
                self.requested.append(answer["params"]["request"]["url"])
            if answer.get("method") == "Log.entryAdded":
                self.messages.append(answer["params"]["entry"]["text"])

    def _next(self):
        while b"\0" not in self.buffer:
            got = os.read(self.reading, 1 << 20)
            assert got, "the browser has ended"
            self.buffer += got
        message, _, self.buffer = self.buffer.partition(b"\0")
        return json.loads(message)

    def js(self, expression):
        """The value of an expression on the page."""
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def wait(self, expression, seconds=30):
        """Return once an expression is true on the page."""
        end = time.monotonic() + seconds
        while not self.js(f"Boolean({expression})"):
            assert time.monotonic() < end, f"{expression}: {self.js('document.body.innerText')}"
            time.sleep(0.1)

    def type(self, element, text):
        """Put text into the element that an expression gives."""
        self.js(f"{element}.focus()")
        self.call("Input.insertText", text=text)

    def screenshot(self, path):
        shot = self.call("Page.captureScreenshot", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(shot["data"]))


@contextmanager
def chromium(folder, size="1200,1000"):
    """A tab of a new browser whose profile is in the folder; it resolves no name of a host."""
    there, writing = os.pipe()
    reading, back = os.pipe()
    options = (
        *("--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run"),
        *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
        *("--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1", f"--window-size={size}"),
        *(f"--user-data-dir={folder}", "--remote-debugging-pipe"),
    )
    # The protocol uses the file descriptors 3 and 4.
    command = ["bash", "-c", f'exec "$@" 3<&{there} 4>&{back}', "bash", CHROMIUM, *options]
    process = subprocess.Popen(
        command, pass_fds=[there, back], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    os.close(there)
    os.close(back)
    try:
        yield Tab(reading, writing)
    finally:
        process.terminate()
        process.wait(20)
        os.close(reading)
        os.close(writing)
