"""A headless Chromium, driven by its DevTools protocol over a pair of pipes: no driver program, no port.

Messages are JSON objects that end in a NUL byte; file descriptors 3 and 4 are the browser's ends.
"""

from __future__ import annotations

import base64
import fcntl
import json
import os
import select
import shutil
import signal
import tempfile
import time
from pathlib import Path
from typing import Any

PROGRAMS = ("chromium", "chromium-headless-shell", "google-chrome-stable", "google-chrome")
ANSWER_SECONDS = 60.0
TO_BROWSER, FROM_BROWSER = 3, 4


class BrowserError(Exception):
    """The browser refused a command, did not answer, or a script in it failed."""


def find_browser() -> str | None:
    """The program of a Chromium; None where there is none."""
    return next((found for one in PROGRAMS if (found := shutil.which(one))), None)


class Chromium:
    """One browser with one page. What the page logged and what failed in it is in `errors`."""

    def __init__(self, program: str, width: int = 1440, height: int = 900) -> None:
        self._profile = tempfile.mkdtemp(prefix="headgate-browser-")
        to_read, self._to = os.pipe()
        self._from, from_write = os.pipe()
        self.errors: list[str] = []
        self.requests: list[str] = []
        self._number = 0
        self._rest = b""
        self._session = ""

        flags = [
            "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars",
            "--no-first-run", "--disable-extensions", "--disable-background-networking", "--disable-component-update",
            "--disable-sync", "--mute-audio", "--force-device-scale-factor=1", f"--user-data-dir={self._profile}",
            f"--window-size={width},{height}", "--remote-debugging-pipe", "about:blank",
        ]  # fmt: skip
        ends = [fcntl.fcntl(end, fcntl.F_DUPFD, FROM_BROWSER + 1) for end in (to_read, from_write)]
        self._process = os.posix_spawn(
            program, [program, *flags], os.environ,
            file_actions=[
                (os.POSIX_SPAWN_DUP2, ends[0], TO_BROWSER),
                (os.POSIX_SPAWN_DUP2, ends[1], FROM_BROWSER),
                *((os.POSIX_SPAWN_OPEN, number, os.devnull, os.O_RDWR, 0) for number in range(3)),
                *((os.POSIX_SPAWN_CLOSE, end) for end in ends),
            ],
        )  # fmt: skip
        for end in ends:
            os.close(end)
        os.close(to_read)
        os.close(from_write)
        targets = self.call("Target.getTargets")["targetInfos"]
        page = next(one for one in targets if one["type"] == "page")
        self._session = self.call("Target.attachToTarget", targetId=page["targetId"], flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable")
        self.size(width, height)

    def call(self, method: str, **parameters: Any) -> Any:
        """Send a command and return its result. Raises BrowserError."""
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._to, json.dumps(message).encode() + b"\0")
        deadline = time.monotonic() + ANSWER_SECONDS
        while True:
            found = self._next(deadline)
            if found.get("id") == self._number:
                if "error" in found:
                    raise BrowserError(f"{method}: {found['error']['message']}")
                return found["result"]
            self._note(found)

    def _next(self, deadline: float) -> dict[str, Any]:
        while b"\0" not in self._rest:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self._from], [], [], left)[0]:
                raise BrowserError("the browser does not answer")
            data = os.read(self._from, 1 << 20)
            if not data:
                raise BrowserError("the browser has ended")
            self._rest += data
        text, _, self._rest = self._rest.partition(b"\0")
        found: dict[str, Any] = json.loads(text)
        return found

    def _note(self, event: dict[str, Any]) -> None:
        parameters = event.get("params", {})
        if event["method"] == "Runtime.exceptionThrown":
            details = parameters["exceptionDetails"]
            self.errors.append(details.get("exception", {}).get("description") or details["text"])
        elif event["method"] == "Runtime.consoleAPICalled" and parameters["type"] in ("error", "assert"):
            self.errors.append(" ".join(str(one.get("value", one)) for one in parameters["args"]))
        elif event["method"] == "Log.entryAdded" and parameters["entry"]["level"] == "error":
            self.errors.append(f"{parameters['entry']['text']} {parameters['entry'].get('url', '')}")
        elif event["method"] == "Network.requestWillBeSent":
            self.requests.append(parameters["request"]["url"])
        elif event["method"] == "Page.javascriptDialogOpening":
            self.errors.append(f"a dialog was opened: {parameters['message']}")

    # -- a person's doings -------------------------------------------------------------------------------------------

    def open(self, url: str) -> None:
        """Go to an address."""
        self.call("Page.navigate", url=url)

    def run(self, script: str) -> Any:
        """The value of an expression in the page; a promise is awaited. Raises BrowserError."""
        found = self.call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in found:
            details = found["exceptionDetails"]
            raise BrowserError(details.get("exception", {}).get("description") or details["text"])
        return found["result"].get("value")

    def wait(self, script: str, seconds: float = 30.0) -> Any:
        """Wait until an expression is true in the page, and return its value. Raises BrowserError."""
        deadline = time.monotonic() + seconds
        while not (
            found := self._tried(f"(() => {{ const found = ({script}); return found instanceof Node || found; }})()")
        ):
            if time.monotonic() > deadline:
                shown = self._tried("document.body.innerText.slice(0, 1500)")
                raise BrowserError(f"not within {seconds:g} s: {script}; errors: {self.errors}; the page: {shown}")
            time.sleep(0.05)
        return found

    def _tried(self, script: str) -> Any:
        try:
            return self.run(script)
        except BrowserError:
            return None  # the page is being replaced

    def press(self, key: str, text: str = "", modifiers: int = 0) -> None:
        """Press and release a key."""
        codes = {"Enter": 13, "Tab": 9, "Escape": 27, "ArrowDown": 40, "ArrowUp": 38, "ArrowLeft": 37, "ArrowRight": 39}
        more: dict[str, Any] = {"key": key, "modifiers": modifiers, "windowsVirtualKeyCode": codes.get(key, 0)}
        if key == "Enter":
            text = "\r"
        self.call("Input.dispatchKeyEvent", type="keyDown", text=text, **more)
        self.call("Input.dispatchKeyEvent", type="keyUp", **more)

    def write(self, text: str) -> None:
        """Type a text into what has the focus."""
        self.call("Input.insertText", text=text)

    def click(self, x: float, y: float) -> None:
        """Click at a place of the window."""
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def size(self, width: int, height: int) -> None:
        """Give the window a size."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)

    def theme(self, name: str) -> None:
        """`dark` or `light`, as the system says it."""
        features = [{"name": "prefers-color-scheme", "value": name}]
        self.call("Emulation.setEmulatedMedia", features=features)

    def screenshot(self, path: Path) -> None:
        """Write what the window shows as a PNG."""
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"]))

    def accessible(self) -> list[tuple[str, str]]:
        """Role and name of everything that a screen reader is told of."""
        nodes = self.call("Accessibility.getFullAXTree")["nodes"]
        return [
            (str(one.get("role", {}).get("value", "")), str(one.get("name", {}).get("value", "")))
            for one in nodes
            if not one.get("ignored")
        ]

    def close(self) -> None:
        """End the browser."""
        os.kill(self._process, signal.SIGKILL)
        os.waitpid(self._process, 0)
        os.close(self._to)
        os.close(self._from)
        shutil.rmtree(self._profile, ignore_errors=True)
