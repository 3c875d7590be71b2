"""A headless Chromium for the tests, driven over its debugging pipe: nothing else has to be installed."""

import base64
import fcntl
import json
import os
import select
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--hide-scrollbars",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-extensions",
    "--disable-dev-shm-usage",
    "--remote-debugging-pipe",
)
NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
WAIT = 60  # seconds for any one answer: the first page on a busy machine takes some
SCREEN = {"width": 1280, "height": 900, "deviceScaleFactor": 1, "mobile": False}
PHONE = {"width": 390, "height": 844, "deviceScaleFactor": 2, "mobile": True}
SMALL = {"width": 480, "height": 900, "mobile": True}
TROUBLES = ("Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Log.entryAdded", "Page.javascriptDialogOpening")
KEYS = {"Enter": 13, "Tab": 9, "Backspace": 8, "ArrowUp": 38, "ArrowDown": 40, "ArrowLeft": 37, "ArrowRight": 39}


def find() -> str | None:
    """The Chromium of this machine, or the one that CHROMIUM names."""
    return next(filter(None, map(shutil.which, filter(None, (os.environ.get("CHROMIUM"), *NAMES)))), None)


class Browser:
    """One process with a profile of its own. Chromium reads commands from descriptor 3 and answers on 4: JSON, ended by
    a zero byte."""

    def __init__(self):
        self.profile = tempfile.mkdtemp(prefix="chromium-")
        theirs, self._write = os.pipe()
        self._read, answers = os.pipe()
        # above 9, so that making them 3 and 4 cannot cover one by the other
        low, high = (fcntl.fcntl(fd, fcntl.F_DUPFD, 10) for fd in (theirs, answers))
        command = ["bash", "-c", f'exec "$@" 3<&{low} 4>&{high}', "bash", find(), *FLAGS]
        self.process = subprocess.Popen(
            [*command, f"--user-data-dir={self.profile}", "about:blank"],
            pass_fds=(low, high),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for fd in (theirs, answers, low, high):
            os.close(fd)
        self._buffer, self._sent = b"", 0
        self.events: list[dict] = []

    def close(self) -> None:
        try:
            self.call("Browser.close")
            self.process.wait(10)
        except (OSError, RuntimeError, subprocess.TimeoutExpired):
            self.process.kill()
            self.process.wait()
        os.close(self._read)
        os.close(self._write)
        shutil.rmtree(self.profile, ignore_errors=True)

    def call(self, method: str, session: str | None = None, **params) -> dict:
        """The result of a command of the DevTools protocol. Raises RuntimeError for an error or no answer."""
        self._sent += 1
        message = {"id": self._sent, "method": method, "params": params} | ({"sessionId": session} if session else {})
        os.write(self._write, json.dumps(message).encode() + b"\0")
        return self.until(lambda m: m.get("id") == self._sent, method)["result"]

    def until(self, wanted, what: str) -> dict:
        """The next message that is `wanted`; all others are kept as events."""
        end = time.monotonic() + WAIT
        while True:
            while b"\0" in self._buffer:
                raw, self._buffer = self._buffer.split(b"\0", 1)
                message = json.loads(raw)
                if "error" in message:
                    raise RuntimeError(f"{what}: {message['error']}")
                if wanted(message):
                    return message
                self.events.append(message)
            if not select.select([self._read], [], [], max(0, end - time.monotonic()))[0]:
                raise RuntimeError(f"no answer to {what} in {WAIT} s")
            more = os.read(self._read, 1 << 16)
            if not more:
                raise RuntimeError(f"the browser ended during {what}")
            self._buffer += more

    def open(self, file: Path, anchor: str = "", dark: bool = False, **size) -> "Page":
        """A new tab with the file, loaded; `size` as in `PHONE`."""
        return Page(
            self, file, anchor, dark, {"width": 1280, "height": 900, "deviceScaleFactor": 1, "mobile": False} | size
        )


class Page:
    """A tab. `troubles()`: everything that a console would show in red, dialogs, and requests for anything but the page
    itself."""

    def __init__(self, browser: Browser, file: Path, anchor: str, dark: bool, size: dict):
        self.browser, self.url = browser, file.absolute().as_uri() + anchor
        self.target = browser.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = browser.call("Target.attachToTarget", targetId=self.target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")
        self.call("Emulation.setDeviceMetricsOverride", **size)
        self.scheme("dark" if dark else "light")
        self.call("Page.navigate", url=self.url)
        loaded = "Page.loadEventFired"
        browser.until(lambda m: m.get("method") == loaded and m.get("sessionId") == self.session, loaded)
        self.js("new Promise((done) => requestAnimationFrame(() => setTimeout(done, 50)))")

    def call(self, method: str, **params) -> dict:
        return self.browser.call(method, self.session, **params)

    def scheme(self, name: str, media: str = "") -> None:
        features = [
            {"name": "prefers-color-scheme", "value": name},
            {"name": "prefers-reduced-motion", "value": "reduce"},
        ]
        self.call("Emulation.setEmulatedMedia", media=media, features=features)

    def js(self, expression: str):
        """The value of an expression (a promise's, once it is kept). Raises RuntimeError for what it throws."""
        found = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in found:
            raise RuntimeError(found["exceptionDetails"].get("exception", {}).get("description", str(found)))
        return found["result"].get("value")

    def key(self, name: str) -> None:
        number = KEYS[name] if name in KEYS else ord(name.upper())
        code = {"key": name, "code": name if name in KEYS else f"Key{name.upper()}", "windowsVirtualKeyCode": number}
        text = {"text": "\r"} if name == "Enter" else {"text": name} if name not in KEYS else {}
        self.call("Input.dispatchKeyEvent", type="keyDown", **code, **text)
        self.call("Input.dispatchKeyEvent", type="keyUp", **code)

    def saves_into(self, folder: Path) -> None:
        """What the page lets people save from now on goes to the folder."""
        self.browser.call("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(folder))

    def choose(self, selector: str, file: Path) -> None:
        """Chooses a file in an input of files."""
        root = self.call("DOM.getDocument")["root"]["nodeId"]
        node = self.call("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        self.call("DOM.setFileInputFiles", nodeId=node, files=[str(file)])

    def reload(self) -> None:
        self.call("Page.reload")
        loaded = "Page.loadEventFired"
        self.browser.until(lambda m: m.get("method") == loaded and m.get("sessionId") == self.session, loaded)

    def troubles(self) -> list[str]:
        self.js("0")  # what was on its way has come
        found = []
        for event in (e for e in self.browser.events if e.get("sessionId") == self.session):
            method, params = event["method"], event["params"]
            if (
                method == "Network.requestWillBeSent"
                and params["request"]["url"].split("#")[0] != self.url.split("#")[0]
            ):
                found.append(f"request {params['request']['url']}")
            if method in (
                "Runtime.exceptionThrown",
                "Runtime.consoleAPICalled",
                "Log.entryAdded",
                "Page.javascriptDialogOpening",
            ):
                found.append(f"{method} {json.dumps(params)[:400]}")
        return found

    def picture(self, file: Path, whole: bool = True) -> None:
        """A PNG of the page, all of its height."""
        data = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)["data"]
        file.write_bytes(base64.b64decode(data))

    def close(self) -> None:
        self.browser.call("Target.closeTarget", targetId=self.target)
