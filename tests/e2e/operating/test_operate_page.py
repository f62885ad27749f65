"""The operator's page in a real browser: workers and what they run, a timeline, and the requeue of a dead letter.

With ``SHOTS=<folder>`` it stores what it sees there, light, dark and narrow.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator
from pathlib import Path

import httpx2
import pytest
from playwright.async_api import expect

from broadcaster.log.redis.connect import LogConnection
from broadcaster.testing import ScriptedProvider
from tests.support.log.log_world import World
from tests.support.servers.browser import Tab, Tabs, open_tabs
from tests.support.servers.processes import Stack

MODEL = "claude-scripted"
OPERATOR, TENANT = "the-key-of-the-operator", "a-key-of-one-tenant"
EVERY_RIGHT = ["start", "watch", "append", "stop", "admin"]
KEYED = {
    "auth": "keys",
    "api_keys": json.dumps({"ops": [{"key": OPERATOR, "rights": EVERY_RIGHT}], "web": [TENANT]}),
}
SHOTS = os.environ.get("SHOTS")
DESK, PHONE = {"width": 1200, "height": 900}, {"width": 360, "height": 740}
LOW = {"width": 1200, "height": 400}


@pytest.fixture
async def tabs() -> AsyncIterator[Tabs]:
    async with open_tabs() as opened:
        yield opened


async def enter(tab: Tab, key: str) -> None:
    await tab.part("key").fill(key)
    await tab.part("key-dialog-open").click()
    await expect(tab.part("key-dialog")).to_be_hidden()


async def start(url: str) -> str:
    async with httpx2.AsyncClient(base_url=url, headers={"x-api-key": OPERATOR}) as client:
        response = await client.post("/v1/generations", json={"prompt": "count, please", "model": MODEL})
    assert response.status_code == 202, response.text
    return str(response.json()["id"])


async def shoot(tab: Tab, name: str) -> None:
    if SHOTS is None:
        return
    for scheme, size in (("light", DESK), ("dark", DESK), ("light", PHONE), ("dark", PHONE)):
        await tab.page.emulate_media(color_scheme=scheme, reduced_motion="reduce")  # type: ignore[arg-type]
        await tab.page.set_viewport_size(size)  # type: ignore[arg-type]
        form = "narrow" if size is PHONE else "wide"
        await tab.page.screenshot(path=Path(SHOTS) / f"operate-{name}-{scheme}-{form}.png")
    await tab.page.set_viewport_size(DESK)  # type: ignore[arg-type]


async def test_an_operator_sees_what_runs_opens_its_timeline_and_requeues_a_dead_letter(
    tabs: Tabs, stack: Stack, connection: LogConnection, scripted: ScriptedProvider
) -> None:
    world = World(connection, max_attempts=1)
    await world.queue.create_group()
    dead = await world.die()
    conversation = scripted.conversation(MODEL)
    await stack.worker()
    front_end = await stack.front_end(**KEYED)
    generation_id = await start(front_end.url)
    await conversation.send_text("one ")
    # Its heartbeat ends soon. The worker of the answer keeps its lease through a second without the processor.
    idle = await stack.worker(lease_ttl_s=1)

    tab = await tabs.open(front_end.url)
    await enter(tab, OPERATOR)
    await tab.page.set_viewport_size(LOW)  # type: ignore[arg-type]
    await tab.part("operate-link").click()
    listed = tab.part("operate-workers")
    row = listed.get_by_role("row").filter(has=tab.page.get_by_role("link", name=generation_id))
    await expect(row).to_contain_text(MODEL)
    await expect(row).to_contain_text("1 of ")
    await expect(listed.get_by_role("columnheader").first).to_have_text("Worker")
    await expect(listed).to_contain_text("2 alive")
    await idle.kill()
    await expect(listed).to_contain_text("1 without a sign of life")
    await expect(listed).to_contain_text("last sign ")
    assert await tab.page.evaluate("document.getElementById('scroll').scrollTop") == 0
    await tab.page.set_viewport_size(DESK)  # type: ignore[arg-type]
    await shoot(tab, "overview")

    await row.get_by_role("link", name=generation_id).click()
    timeline = tab.part("operate-timeline")
    for step in ("Queued", "Attempt 1 granted", "First token: text"):
        await expect(timeline).to_contain_text(step)
    await expect(timeline).not_to_contain_text("Finished")
    await conversation.send_text("two ")
    await conversation.finish()
    await expect(timeline).to_contain_text("Finished")
    await expect(timeline.locator("svg .course-attempt")).to_have_count(1)
    await shoot(tab, "timeline")

    letters = tab.part("operate-dead-letters")
    button = letters.get_by_role("button", name=f"Requeue {dead}")
    await button.click()
    await shoot(tab, "requeue")
    await tab.part("requeue-cancel").click()
    assert await world.redis.xlen(world.keys.dead) == 1
    await button.focus()
    await tab.page.keyboard.press("Enter")
    await tab.part("requeue-confirm").click()
    await expect(tab.part("operate-notice")).to_contain_text(f"{dead} was requeued as gen_")
    await expect(letters).to_contain_text("No answer has failed on every attempt.")
    await tab.page.set_viewport_size(PHONE)  # type: ignore[arg-type]
    assert await tab.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert await tab.page.evaluate("document.getElementById('scroll').scrollWidth <= innerWidth")


async def test_a_tenants_key_is_offered_no_operators_view(tabs: Tabs, stack: Stack) -> None:
    front_end = await stack.front_end(**KEYED)
    tab = await tabs.open(f"{front_end.url}#/operate")
    await enter(tab, TENANT)
    await expect(tab.part("operate-notice")).to_contain_text("needs a key with the right “admin”")
    await expect(tab.part("operate-link")).to_be_hidden()
    await expect(tab.part("operate-workers")).to_be_hidden()


async def test_the_view_is_read_while_it_is_visible_and_not_otherwise(tabs: Tabs, stack: Stack) -> None:
    front_end = await stack.front_end()
    tab = await tabs.open(f"{front_end.url}#/operate")
    reads: list[str] = []
    tab.page.on("request", lambda request: reads.append(request.url) if "/v1/admin/" in request.url else None)
    await expect(tab.part("operate-queue")).to_contain_text("No answer waits for a worker.")
    async with asyncio.timeout(20):
        while sum(url.endswith("/queue") for url in reads) < 2:
            await asyncio.sleep(0.05)
    await tab.page.evaluate("location.hash = ''")
    await expect(tab.part("operate")).to_be_hidden()
    async with tab.page.expect_response(lambda response: "/v1/streams" in response.url):
        pass
    seen = len(reads)
    for _ in range(2):  # the list is read every two seconds, too
        async with tab.page.expect_response(lambda response: "/v1/streams" in response.url):
            pass
    assert len(reads) == seen
