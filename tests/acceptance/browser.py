"""A real browser for tests, driven over WebDriver (https://www.w3.org/TR/webdriver2/): Chromium, which Debian has as chromium-driver."""

import base64
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from runtide_deploy.tied_child import tied
from tests.postgres import free_port

START_SECONDS = 60.0


class Browser:
    """One window."""

    def __init__(self, session: str) -> None:
        """``session``: the address of a WebDriver session."""
        self._session = session

    def open(self, address: str) -> None:
        """Go to a page and wait until it is there; one that differs in its fragment alone is loaded anew, too."""
        self._ask("POST", "url", {"url": "about:blank"})
        self._ask("POST", "url", {"url": address})

    def address(self) -> str:
        """Return where the window is now."""
        return str(self._ask("GET", "url"))

    def run(self, code: str) -> Any:
        """Run JavaScript's statements in the page, from outside of its content security policy; return what they return."""
        return self._ask("POST", "execute/sync", {"script": code, "args": []})

    def click(self, selector: str) -> None:
        """Click what a CSS selector finds first, as a person does: it has to be seen and in front."""
        (found,) = self._ask("POST", "element", {"using": "css selector", "value": selector}).values()
        self._ask("POST", f"element/{found}/click", {})

    def look(self, *, width: int, height: int = 900, dark: bool = False) -> None:
        """Give the window a size in CSS pixels, and the light or dark that a person's system prefers."""
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self._chromium("Emulation.setDeviceMetricsOverride", metrics)
        preferred = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self._chromium("Emulation.setEmulatedMedia", {"features": [preferred]})

    def complaints(self) -> list[str]:
        """Return what the console was told since it was last asked: errors, refusals of the content security policy."""
        return [str(one["message"]) for one in self._ask("POST", "se/log", {"type": "browser"})]

    def picture(self, file: Path) -> None:
        """Keep a picture of the window as PNG."""
        file.write_bytes(base64.b64decode(self._ask("GET", "screenshot")))

    def _chromium(self, command: str, parameters: dict[str, Any]) -> None:
        self._ask("POST", "goog/cdp/execute", {"cmd": command, "params": parameters})

    def _ask(self, method: str, command: str, fields: dict[str, Any] | None = None) -> Any:
        answer = httpx.request(method, f"{self._session}/{command}", json=fields, timeout=60, trust_env=False)
        assert answer.is_success, answer.text[:2000]
        return answer.json()["value"]


@contextmanager
def chromium() -> Iterator[Browser]:
    """Open a window without a screen. Skips the test where there is no Chromium with its driver."""
    driver, program = shutil.which("chromedriver"), shutil.which("chromium") or shutil.which("google-chrome")
    if driver is None or program is None:
        pytest.skip("there is no chromium with chromedriver on PATH (Debian: apt install chromium chromium-driver)")
    port = free_port()
    process = subprocess.Popen(tied([driver, f"--port={port}"]), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        session = _new_session(f"http://127.0.0.1:{port}", program)
        try:
            yield Browser(session)
        finally:
            httpx.delete(session, timeout=60, trust_env=False)
    finally:
        process.terminate()
        process.wait(20)


def _new_session(driver: str, program: str) -> str:
    # Containers have neither the namespaces of Chromium's sandbox nor a large /dev/shm; what is shown here is our own.
    options = {
        "binary": program,
        "args": ["--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"],
    }
    wanted = {"browserName": "chrome", "goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}}
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            answer = httpx.post(
                f"{driver}/session", json={"capabilities": {"alwaysMatch": wanted}}, timeout=60, trust_env=False
            )
            break
        except httpx.ConnectError:
            assert time.monotonic() < deadline, "chromedriver does not answer"
            time.sleep(0.05)
    assert answer.is_success, answer.text[:2000]
    return f"{driver}/session/{answer.json()['value']['sessionId']}"
