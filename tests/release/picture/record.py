"""``python -m tests.release.picture.record FOLDER``: frames of one run of ``broadcaster demo``, and their times.

A prompt is typed, the worker is killed in mid-answer by the page's own button, and the page is reloaded. Nothing is
staged: the model is the local one, and the times are those of this machine.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

from playwright.async_api import Error, Page, ViewportSize, async_playwright, expect

from tests.support.servers.browser import ARGUMENTS, find_browser
from tests.support.servers.processes import running_program

PROMPT: Final = "Explain how rivers shape the land. Use a list."
SIZE: Final = ViewportSize(width=1060, height=660)
FRAMES_PER_S: Final = 5.0
KEY_PAUSE_MS: Final = 35.0
# So much of an answer is on the page before something is done to it.
READABLE_CHARS: Final = 160
HOLD_S: Final = 2.0
START_S: Final = 120.0
PATIENCE_MS: Final = 180_000.0


class Camera:
    """Takes a frame every so often, until its block ends."""

    def __init__(self, page: Page, folder: Path) -> None:
        self.caption = ""
        self._page = page
        self._folder = folder
        self._frames: list[dict[str, Any]] = []

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Camera]:
        """Take frames while the block runs; then write their list."""
        taking = asyncio.create_task(self._take())
        try:
            yield self
            await asyncio.sleep(HOLD_S)
        finally:
            taking.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await taking
            (self._folder / "frames.json").write_text(json.dumps(self._frames, indent=1), "utf-8")

    async def _take(self) -> None:
        while True:
            began = time.monotonic()
            name, caption = f"{len(self._frames):05}.png", self.caption
            with contextlib.suppress(Error):  # the page is just being loaded
                await self._page.screenshot(path=self._folder / name, animations="allow")
                self._frames.append({"file": name, "at_s": round(began, 3), "caption": caption})
            await asyncio.sleep(max(0.0, began + 1 / FRAMES_PER_S - time.monotonic()))


@asynccontextmanager
async def demo(folder: Path) -> AsyncIterator[str]:
    """The URL of a demo with data of its own; ended with the block."""
    log = folder / "demo.log"
    program = Path(sys.executable).with_name("broadcaster")
    command = (str(program), "demo", "--port", "0", "--data-dir", str(folder / "data"))
    async with running_program(*command, environment=os.environ, folder=Path.cwd(), log=log) as running:
        line = await running.logged("broadcaster is up: http", START_S)
        await running.logged("ready in ", START_S)
        yield line.rpartition(" ")[2]


async def perform(page: Page, camera: Camera) -> None:
    """The scenes, each begun when the one before shows what it should."""
    camera.caption = "broadcaster demo: a real model on this machine"
    await page.get_by_test_id("prompt").press_sequentially(PROMPT, delay=KEY_PAUSE_MS)
    await page.get_by_test_id("prompt").press("Enter")
    await _reads(page)
    camera.caption = "kill -9 of the worker, in mid-answer"
    await page.get_by_test_id("demo-kill-worker").click()
    await expect(page.get_by_test_id("demo-story")).to_contain_text("text arrived again", timeout=PATIENCE_MS)
    camera.caption = "another worker restarts the answer, on the same page"
    await _reads(page)
    camera.caption = "reload: nothing is lost, nothing is repeated"
    await page.reload()
    await expect(page.get_by_test_id("status")).to_have_attribute("data-status", "finished", timeout=PATIENCE_MS)
    camera.caption = "the answer is whole"


async def _reads(page: Page) -> None:
    """Until the answer has something to read."""
    shown = "([name, count]) => (document.querySelector(name)?.textContent ?? '').length >= count"
    await page.wait_for_function(shown, arg=["[data-testid=answer]", READABLE_CHARS], timeout=PATIENCE_MS)


async def record(folder: Path) -> None:
    """All of it, into an empty folder."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    with tempfile.TemporaryDirectory(prefix="picture-") as temporary:
        async with demo(Path(temporary)) as url, async_playwright() as playwright:
            browser = await playwright.chromium.launch(executable_path=find_browser(), args=list(ARGUMENTS))
            page = await browser.new_page(viewport=SIZE, color_scheme="light")
            await page.goto(url)
            async with Camera(page, folder).running() as camera:
                await perform(page, camera)
            await browser.close()


def main(arguments: Sequence[str]) -> int:
    """Record, and print how many frames there are."""
    folder = Path(arguments[0])
    asyncio.run(record(folder))
    print(f"picture: {len(list(folder.glob('*.png')))} frames in {folder}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
