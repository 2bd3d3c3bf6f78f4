"""A headless Chromium, driven through chromedriver's own protocol (W3C WebDriver), without a package."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path

ARGUMENTS = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
             "--disable-background-networking", "--disable-component-update", "--disable-sync",
             "--window-size=1280,1000")
ELEMENT = "element-6066-11e4-a52e-4f735466cecf"  # the protocol's name for a reference to an element


def missing() -> str:
    """What is not installed; empty where the tests can run."""
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if browser is None:
        return "no chromium here"
    return "" if shutil.which("chromedriver") else "no chromedriver here"


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


class Browser:
    """One window. Use as a context manager."""

    def __init__(self, profile: Path):
        self.profile = profile
        self.port = _free_port()
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def __enter__(self) -> Browser:
        self._driver = subprocess.Popen(["chromedriver", f"--port={self.port}"], stdout=subprocess.DEVNULL,
                                        stderr=subprocess.DEVNULL)
        binary = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
        options = {"binary": binary, "args": [*ARGUMENTS, f"--user-data-dir={self.profile}"]}
        wanted = {"capabilities": {"alwaysMatch": {"goog:chromeOptions": options}}}
        deadline_s = time.monotonic() + 60
        while True:
            try:
                self._session = self._send("POST", "/session", wanted)["sessionId"]
                return self
            except (ConnectionError, urllib.error.URLError):
                if time.monotonic() > deadline_s:
                    self._driver.kill()
                    raise
                time.sleep(0.1)

    def __exit__(self, *_) -> None:
        self._send("DELETE", f"/session/{self._session}")
        self._driver.terminate()
        self._driver.wait(timeout=20)

    def _send(self, method: str, path: str, body: dict | None = None):
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", data=data, method=method,
                                         headers={"Content-Type": "application/json"})
        try:
            with self._opener.open(request, timeout=60) as answer:
                return json.loads(answer.read())["value"]
        except urllib.error.HTTPError as error:
            raise AssertionError(error.read().decode()) from None

    def _call(self, method: str, path: str, body: dict | None = None):
        return self._send(method, f"/session/{self._session}{path}", body)

    def open(self, path: Path) -> None:
        self._call("POST", "/url", {"url": path.resolve().as_uri()})

    def click(self, css: str) -> None:
        """A real click: scrolled to, and refused if something else lies on top."""
        found = self._call("POST", "/element", {"using": "css selector", "value": css})[ELEMENT]
        self._call("POST", f"/element/{found}/click", {})

    def run(self, script: str):
        """The value of a script that returns one."""
        return self._call("POST", "/execute/sync", {"script": script, "args": []})

    def wait(self, script: str, seconds: float = 15):
        """Until a script returns something true; that value."""
        deadline_s = time.monotonic() + seconds
        while not (value := self.run(script)):
            assert time.monotonic() < deadline_s, f"never true: {script}"
            time.sleep(0.05)
        return value

    def errors(self) -> list[str]:
        """What the page's own scripts complained about."""
        return [entry["message"] for entry in self._call("POST", "/se/log", {"type": "browser"})
                if entry["level"] == "SEVERE"]
