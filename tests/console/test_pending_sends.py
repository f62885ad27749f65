"""What the user does while a text is on its way to the server."""

from __future__ import annotations

import asyncio
import re

import pytest
from playwright.async_api import Route, expect

from tests.console.conftest import DEADLINE_S, Worker
from tests.support.memory.memory_world import MemoryWorld
from tests.support.servers.browser import Tab, Tabs


async def hold_sends(tab: Tab) -> asyncio.Event:
    """From now on generations are started when the event is set."""
    is_let = asyncio.Event()

    async def hold(route: Route) -> None:
        if route.request.method == "POST":
            await is_let.wait()
        await route.continue_()

    await tab.page.route("**/v1/generations", hold)
    return is_let


async def send_held(tab: Tab, text: str) -> None:
    """Send a text; its request has left the page."""
    async with tab.page.expect_request(lambda request: request.method == "POST"):
        await tab.send(text)


async def test_a_send_stops_no_answer_of_a_conversation_that_was_opened_meanwhile(
    tabs: Tabs, url: str, worker: Worker, world: MemoryWorld
) -> None:
    tab = await tabs.open(url)
    stops: list[str] = []
    tab.page.on("request", lambda request: stops.append(request.url) if request.url.endswith("/stop") else None)
    await tab.send("first")
    running, _ = await worker.take()
    worker.write(running, "A long report")
    await expect(tab.part("answer")).to_contain_text("A long report")
    is_let = await hold_sends(tab)
    await tab.page.get_by_role("link", name="New conversation").click()
    await send_held(tab, "second")
    listed = tab.part("conversations").get_by_role("link")
    await listed.get_by_text("first").click()
    await expect(tab.part("stop")).to_be_visible()
    is_let.set()
    await worker.take()
    await expect(listed).to_have_count(2)
    await expect(tab.part("prompt-shown")).to_have_text(["first"])
    assert (stops, world.streams[running].meta.stop) == ([], None)


async def test_a_send_closes_no_link_that_was_opened_meanwhile(
    tabs: Tabs, url: str, worker: Worker, world: MemoryWorld
) -> None:
    for name in ("nightly", "weekly"):
        world.add(name, kind="feed", status="running", request={})
    tab = await tabs.open(url)
    title, listed = tab.page.locator("#title"), tab.part("generations").get_by_role("link")
    is_let = await hold_sends(tab)
    for text, name in (("from a conversation", "nightly"), ("from a link", "weekly")):
        is_let.clear()
        await send_held(tab, text)
        await listed.get_by_text(name).click()
        await expect(title).to_have_text(name)
        is_let.set()
        await worker.take()
        await expect(tab.part("conversations").get_by_role("link").get_by_text(text)).to_be_visible()
        await expect(title).to_have_text(name)
        assert tab.page.url == f"{url}/#{name}"
    await tab.send("to the end")
    await worker.take()
    await expect(tab.part("prompt-shown")).to_have_text(["to the end"])


async def test_an_edit_stops_the_answer_that_it_cuts_off_though_another_conversation_is_open(
    tabs: Tabs, url: str, worker: Worker, world: MemoryWorld
) -> None:
    tab = await tabs.open(url)
    await tab.send("first")
    running, _ = await worker.take()
    worker.write(running, "A long report")
    await expect(tab.part("stop")).to_be_visible()
    is_let = await hold_sends(tab)
    await tab.part("prompt-shown").hover()
    await tab.part("edit").click()
    await tab.part("edit-text").fill("in short")
    async with tab.page.expect_request(lambda request: request.method == "POST"):
        await tab.part("edit-text").press("Enter")
    await tab.page.get_by_role("link", name="New conversation").click()
    async with tab.page.expect_response(lambda response: response.url.endswith(f"{running}/stop")):
        is_let.set()
    assert world.streams[running].meta.stop is not None


async def test_a_send_that_fails_is_shown_and_not_repeated(tabs: Tabs, url: str) -> None:
    tab = await tabs.open(url)
    sends: list[str] = []

    async def fail(route: Route) -> None:
        if route.request.method == "POST":
            sends.append(route.request.url)
            await route.fulfill(status=503, body="away")
        else:
            await route.continue_()

    await tab.page.route("**/v1/generations", fail)
    for count in (1, 2):
        await tab.send("first")
        await expect(tab.page.locator("#fault")).to_contain_text("HTTP 503")
        assert len(sends) == count
        await tab.page.get_by_role("link", name="New conversation").click()
        await expect(tab.page.locator("#fault")).to_be_hidden()


async def test_what_is_written_during_a_send_stays(tabs: Tabs, url: str, worker: Worker) -> None:
    tab = await tabs.open(url)
    is_let = await hold_sends(tab)
    await send_held(tab, "first")
    await tab.part("prompt").fill("a long next question")
    is_let.set()
    await worker.answer("Well.")
    await tab.has_status("finished")
    await expect(tab.part("prompt")).to_have_value("a long next question")
    await tab.part("prompt").press("Enter")
    await worker.answer("Well, well.")
    await expect(tab.part("answer").last).to_have_text("Well, well.")
    await expect(tab.part("prompt")).to_have_value("")


async def open_with_second_held(tabs: Tabs, url: str, worker: Worker, *, first: str) -> tuple[Tab, asyncio.Event]:
    """A conversation with one answer, whose second text is held back until the event is set."""
    tab = await tabs.open(url)
    await tab.send(first)
    await worker.answer(f"the answer to {first}")
    await tab.has_status("finished")
    is_let = await hold_sends(tab)
    await send_held(tab, "second")
    return tab, is_let


async def test_a_conversation_that_is_deleted_during_a_send_stays_deleted(
    tabs: Tabs, url: str, worker: Worker, world: MemoryWorld
) -> None:
    tab, is_let = await open_with_second_held(tabs, url, worker, first="a secret")
    await tab.page.get_by_role("button", name="Actions for a secret").click()
    await tab.part("row-delete").click()
    await tab.part("delete-confirm").click()
    await expect(tab.part("conversations").get_by_role("link")).to_have_count(0)
    is_let.set()
    await worker.take()
    async with asyncio.timeout(DEADLINE_S):
        while world.streams:
            await asyncio.sleep(0.01)
    await expect(tab.part("conversations").get_by_role("link")).to_have_count(0)
    await expect(tab.part("generations").get_by_role("link")).to_have_count(0)
    assert "secret" not in await tab.page.evaluate("JSON.stringify(localStorage)")


@pytest.mark.parametrize("place", ["", "#nightly"], ids=["a conversation", "a link"])
async def test_settings_that_are_given_during_a_send_stay_and_are_sent_with_the_next_text(
    tabs: Tabs, url: str, worker: Worker, world: MemoryWorld, place: str
) -> None:
    world.add("nightly", kind="feed", status="running", request={})
    tab = await tabs.open(f"{url}/{place}")
    is_let = await hold_sends(tab)
    await send_held(tab, "first")
    await tab.part("settings-open").click()
    system, temperature = (tab.page.get_by_label(label) for label in ("System prompt", "Temperature"))
    await system.fill("Be brief.")
    await temperature.fill("3")
    is_let.set()
    assert "system" not in await worker.answer("one")
    await tab.has_status("finished")
    await expect(system).to_have_value("Be brief.")
    await expect(temperature).to_have_value("3")
    await temperature.fill("2")
    await tab.send("second")
    request = await worker.answer("two")
    assert (request["system"], request["temperature"]) == ("Be brief.", 2)


@pytest.mark.parametrize("is_left", [False, True], ids=["open", "left"])
async def test_a_title_that_is_given_during_a_send_stays(tabs: Tabs, url: str, worker: Worker, is_left: bool) -> None:
    tab, is_let = await open_with_second_held(tabs, url, worker, first="first")
    await tab.page.get_by_role("button", name="Actions for first").click()
    await tab.part("row-rename").click()
    await tab.part("rename-title").fill("Numbers")
    await tab.part("rename-title").press("Enter")
    if is_left:
        await tab.page.get_by_role("link", name="New conversation").click()
    is_let.set()
    await worker.answer("two")
    await expect(tab.part("conversations").get_by_role("link")).to_have_attribute("href", re.compile("#gen_0002"))
    await expect(tab.part("conversations").get_by_role("link")).to_have_text("Numbers")
