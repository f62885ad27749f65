"""The system's own Chromium, headless, driven through playwright: nothing is downloaded.

One Chromium serves all tests of a process, each in a browser profile of its own: a start costs a second of a core.
"""

from __future__ import annotations

import atexit
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final, Literal

from playwright.async_api import Browser, Locator, Page, async_playwright, expect

from tests.support.servers.programs import find_program

NAMES: Final = ("chromium", "chromium-browser", "google-chrome")
ARGUMENTS: Final = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
DEADLINE_MS: Final = 15_000
STOP_S: Final = 10

Status = Literal["queued", "running", "finished", "failed", "aborted"]


def find_browser() -> str:
    """The browser's path."""
    return find_program(*NAMES, remedy="install one, e.g. apt install chromium")


@dataclass
class Tab:
    """The console page in a browser profile of its own: nothing is shared with other tabs but the server."""

    page: Page
    faults: list[str] = field(default_factory=list)

    def part(self, name: str) -> Locator:
        return self.page.get_by_test_id(name)

    async def send(self, text: str) -> None:
        """Type a text and press Enter."""
        await self.part("prompt").fill(text)
        await self.part("prompt").press("Enter")

    async def send_prompt(self, prompt: str) -> str:
        """Send a prompt whose answer takes its time; the link of the generation."""
        await self.send(prompt)
        await expect(self.part("stop")).to_be_visible()
        assert "#gen_" in self.page.url
        return self.page.url

    async def shows(self, text: str) -> None:
        """The answer is exactly this text; inner whitespace counts, as ``to_have_text`` would not have it."""
        await expect(self.part("answer")).to_have_text(text, use_inner_text=True)
        assert await self.part("answer").text_content() == text

    async def has_status(self, status: Status) -> None:
        await expect(self.part("status")).to_have_attribute("data-status", status)

    async def is_connected(self) -> None:
        await expect(self.part("status")).to_have_attribute("data-state", "live")


@dataclass
class Tabs:
    """All tabs of one test."""

    browser: Browser
    opened: list[Tab] = field(default_factory=list)

    async def open(self, url: str, *, any_certificate: bool = False) -> Tab:
        context = await self.browser.new_context(ignore_https_errors=any_certificate)
        tab = Tab(await context.new_page())
        tab.page.on("pageerror", lambda error: tab.faults.append(str(error)))
        self.opened.append(tab)
        await tab.page.goto(url)
        return tab


class BrowserServer:
    """A Chromium that lives as long as this process; one that has ended is replaced."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None
        self._url = ""

    def url(self) -> str:
        """The WebSocket URL to which playwright connects."""
        if self._process is None or self._process.poll() is not None:
            self._process, self._url = self._start()
        return self._url

    def stop(self) -> None:
        """End Chromium, if one runs."""
        if self._process is not None and self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGTERM)
            self._process.wait(STOP_S)

    def _start(self) -> tuple[subprocess.Popen[str], str]:
        with tempfile.NamedTemporaryFile("w", prefix="bc-browser-", suffix=".json") as options:
            json.dump({"executablePath": find_browser(), "args": ARGUMENTS}, options)
            options.flush()
            process = subprocess.Popen(
                [sys.executable, "-m", "playwright", "launch-server", "--browser=chromium", "--config", options.name],
                stdout=subprocess.PIPE,
                text=True,
                start_new_session=True,  # the signal of `stop` reaches node, which ends Chromium; Ctrl-C does not
            )
            assert process.stdout is not None
            url = process.stdout.readline().strip()
        assert url.startswith("ws://"), f"playwright could not start Chromium; it printed {url!r}"
        return process, url


_server: Final = BrowserServer()
atexit.register(_server.stop)


@asynccontextmanager
async def open_tabs() -> AsyncIterator[Tabs]:
    """Tabs for one test; a script error in any of them fails it."""
    url = _server.url()
    expect.set_options(timeout=DEADLINE_MS)
    async with async_playwright() as playwright:
        browser = await playwright.chromium.connect(url)
        tabs = Tabs(browser)
        try:
            yield tabs
        finally:
            await browser.close()
    assert [tab.faults for tab in tabs.opened if tab.faults] == []
