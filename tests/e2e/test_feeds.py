"""Feeds over real processes: a publisher's front-end is killed, the page draws how far a job is."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from playwright.async_api import expect

from broadcaster.client import AsyncClient
from broadcaster.core.events import DataEvent, Error, TextDelta
from tests.e2e.test_cli import start_cli
from tests.support.servers.browser import Tabs, open_tabs
from tests.support.servers.ports import free_port
from tests.support.servers.processes import Stack
from tests.support.watching import ids, watch

ID = "build-42"
DEADLINE_S = 30.0


def progress(done: int, *, id: str | None = "copy", message: str = "copying") -> DataEvent:
    return DataEvent(type="data-progress", id=id, data={"done": done, "total": 4, "message": message})


def numbers(entries: list[tuple[str, str]]) -> list[Any]:
    return [json.loads(data)["data"] for _, data in entries[:-1]]


async def test_lines_published_over_a_killed_front_end_are_all_there_once_for_every_viewer(stack: Stack) -> None:
    port, count = free_port(), 300
    front_end = await stack.front_end(port=port, retry_ms=100)
    other = await stack.front_end()
    cli = await start_cli(front_end.url, "publish", ID, "-", "--create", "--close", stdin=asyncio.subprocess.PIPE)
    assert cli.stdin is not None
    async with AsyncClient(other.url) as client:
        await client.create_stream(ID)
        for number in range(count):
            cli.stdin.write(json.dumps({"type": "data-line", "data": number}).encode() + b"\n")
            if number in (count // 3, 2 * count // 3):
                await until_held(client, number // 2)
                await front_end.kill()
                front_end = await stack.front_end(port=port, retry_ms=100)
        cli.stdin.close()
        async with asyncio.timeout(DEADLINE_S):
            await cli.wait()
        assert cli.returncode == 0
        state = await client.stream(ID)
    assert (state.status, state.last_seq) == ("finished", count + 1)
    seen = [await watch(url, ID) for url in (front_end.url, other.url)]
    assert [numbers(each.entries) for each in seen] == [list(range(count))] * 2
    assert ids(seen[0]) == ids(seen[1])
    assert (await watch(other.url, ID, after=ids(seen[0])[-1])).status == 204


async def until_held(client: AsyncClient, seq: int) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while (await client.stream(ID)).last_seq < seq:
            await asyncio.sleep(0.02)


@pytest.mark.second_engine
async def test_writers_on_two_front_ends_are_one_order_for_viewers_of_both(stack: Stack) -> None:
    first, second = await stack.front_end(), await stack.front_end()
    async with AsyncClient(first.url) as one, AsyncClient(second.url) as two:
        await one.create_stream(ID)
        viewers = [asyncio.create_task(watch(each.url, ID)) for each in (first, second) for _ in range(2)]

        async def write(client: AsyncClient, name: str) -> None:
            for number in range(50):
                await client.append(ID, DataEvent(type="data-line", data=f"{name}{number}"))

        await asyncio.gather(write(one, "a"), write(one, "b"), write(two, "c"), write(two, "d"))
        await two.close(ID)
    seen = await asyncio.gather(*viewers)
    assert all(each.entries == seen[0].entries for each in seen)
    assert [id.partition("-")[2] for id in ids(seen[0])] == [str(seq) for seq in range(1, 202)]
    assert sorted(numbers(seen[0].entries)) == sorted(f"{name}{number}" for name in "abcd" for number in range(50))


@pytest.fixture
async def tabs() -> AsyncIterator[Tabs]:
    async with open_tabs() as opened:
        yield opened


async def test_the_page_draws_a_feed_that_was_opened_by_its_link(tabs: Tabs, stack: Stack) -> None:
    front_end = await stack.front_end()
    async with AsyncClient(front_end.url) as client:
        await client.create_stream(ID)
        await client.append(ID, [progress(1), progress(1, id=None, message="old"), progress(2, id=None, message="new")])
        tab = await tabs.open(f"{front_end.url}#{ID}")
        steps = tab.part("step").filter(visible=True)
        await expect(steps).to_have_count(2)
        await tab.is_connected()
        await tab.has_status("running")
        shown = [await each.inner_text() for each in await steps.all()]
        assert [text.split("\n")[0] for text in shown] == ["copying", "new"]
        assert "25% (1/4)" in shown[0]
        await client.append(ID, progress(3))
        bar = tab.part("step").first.locator("progress")
        await expect(bar).to_have_js_property("value", 3)
        await expect(tab.part("stop")).to_be_hidden()
        await client.append(ID, TextDelta(id="0", delta="built"))
        await client.close(ID, Error(error_text="the disk is full", code="disk_full"))
        await tab.has_status("failed")
        await expect(tab.part("ending")).to_contain_text("disk_full")
        await expect(tab.page.locator("#title")).to_have_text(ID)
