"""The console page in a real browser: every tab sees the same answer, and only Stop stops it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import httpx2
import pytest
from playwright.async_api import Page, Request, expect

from broadcaster.client import AsyncClient
from broadcaster.testing import ClientGone, ScriptedProvider
from tests.support.servers.browser import Tab, Tabs, open_tabs
from tests.support.servers.processes import Stack

MODEL = "claude-scripted"
DEADLINE_S = 20.0
KEY, OTHER_KEY = "key-of-the-page-31f0", "key-of-others-99ab1"
KEYED = {"auth": "keys", "api_keys": f'{{"page": ["{KEY}"], "others": ["{OTHER_KEY}"]}}'}


@pytest.fixture
async def tabs() -> AsyncIterator[Tabs]:
    async with open_tabs() as opened:
        yield opened


async def test_two_tabs_show_the_same_answer_live(tabs: Tabs, front_end_url: str, scripted: ScriptedProvider) -> None:
    conversation = scripted.conversation(MODEL)
    first = await tabs.open(front_end_url)
    link = await first.send_prompt("count, please")
    await conversation.send_text("one ")
    await first.shows("one ")
    second = await tabs.open(link)
    for tab in (first, second):
        await tab.shows("one ")
        await tab.is_connected()
    await expect(first.part("viewers")).to_have_text("2 watching")
    await conversation.send_text("two ")
    await conversation.send_text("three")
    for tab in (first, second):
        await tab.shows("one two three")
        await tab.has_status("running")
        await expect(tab.part("prompt-shown")).to_have_text("count, please")
    await conversation.finish()
    for tab in (first, second):
        await tab.has_status("finished")
        await tab.shows("one two three")
        await expect(tab.part("stop")).to_be_hidden()


async def test_a_reload_in_the_middle_loses_nothing_and_doubles_nothing(
    tabs: Tabs, front_end_url: str, scripted: ScriptedProvider
) -> None:
    conversation = scripted.conversation(MODEL)
    tab = await tabs.open(front_end_url)
    await tab.send_prompt("count, please")
    text_so_far = ""
    for number in range(6):
        await conversation.send_text(f"{number} ")
        text_so_far += f"{number} "
        await tab.shows(text_so_far)
        await tab.page.reload()
        await tab.shows(text_so_far)
    await conversation.finish()
    await tab.has_status("finished")
    await tab.shows(text_so_far)
    await tab.page.reload()
    await tab.has_status("finished")
    await tab.shows(text_so_far)


async def test_closing_every_tab_does_not_stop_it(tabs: Tabs, front_end_url: str, scripted: ScriptedProvider) -> None:
    conversation = scripted.conversation(MODEL)
    first = await tabs.open(front_end_url)
    link = await first.send_prompt("go on without me")
    await conversation.send_text("seen, ")
    await first.shows("seen, ")
    await first.page.context.close()
    await conversation.send_text("unseen, ")
    await conversation.send_text("done")
    await conversation.finish()
    later = await tabs.open(link)
    await later.has_status("finished")
    await later.shows("seen, unseen, done")


async def test_stop_stops_it_for_all_viewers(tabs: Tabs, front_end_url: str, scripted: ScriptedProvider) -> None:
    conversation = scripted.conversation(MODEL)
    first = await tabs.open(front_end_url)
    second = await tabs.open(await first.send_prompt("talk for ever"))
    await conversation.send_text("on and on ")
    await second.shows("on and on ")
    await second.part("stop").click()
    for tab in (first, second):
        await tab.has_status("aborted")
        await tab.shows("on and on ")
        await expect(tab.part("status")).to_have_text("Stopped")
    with pytest.raises(ClientGone):
        async with asyncio.timeout(DEADLINE_S):
            while True:
                await conversation.send_text("is anybody there? ")


async def test_a_front_end_that_dies_and_comes_back_is_resumed_by_the_browser_itself(
    tabs: Tabs, stack: Stack, scripted: ScriptedProvider
) -> None:
    conversation = scripted.conversation(MODEL)
    await stack.worker()
    front_end = await stack.front_end()
    tab = await tabs.open(front_end.url)
    await tab.send_prompt("hold on")
    await conversation.send_text("before, ")
    await tab.shows("before, ")
    await front_end.kill()
    await expect(tab.part("status")).to_have_attribute("data-state", "reconnecting")
    await conversation.send_text("between, ")
    await stack.front_end(port=urlsplit(front_end.url).port)
    await tab.shows("before, between, ")
    await tab.is_connected()
    await conversation.send_text("after")
    await conversation.finish()
    await tab.has_status("finished")
    await tab.shows("before, between, after")


async def test_the_list_shows_what_runs_and_opens_it(
    tabs: Tabs, front_end_url: str, scripted: ScriptedProvider
) -> None:
    conversation = scripted.conversation(MODEL)
    first = await tabs.open(front_end_url)
    link = await first.send_prompt("find me in the list")
    await conversation.send_text("found")
    await first.shows("found")
    second = await tabs.open(front_end_url)
    await second.part("generations").get_by_text("find me in the list").click()
    await second.shows("found")
    assert second.page.url == link
    await conversation.finish()
    await expect(second.part("generations")).to_contain_text("finished")


async def test_a_colleague_watches_an_agents_answer_grow_by_the_id_in_its_head(
    tabs: Tabs, front_end_url: str, scripted: ScriptedProvider
) -> None:
    conversation = scripted.conversation(MODEL)
    body = {"model": MODEL, "input": [{"role": "user", "content": "Make it"}], "stream": True, "store": False}
    async with httpx2.AsyncClient(timeout=DEADLINE_S) as agent:
        beginning = asyncio.create_task(conversation.send_text("Looking "))  # the head waits for content
        async with agent.stream("POST", f"{front_end_url}/v1/responses", json=body) as answer:
            await beginning
            colleague = await tabs.open(f"{front_end_url}/#{answer.headers['broadcaster-generation-id']}")
            await colleague.shows("Looking ")
            await colleague.is_connected()
            await conversation.send_text("at the files.")
            await colleague.shows("Looking at the files.")
            await colleague.has_status("running")
            await conversation.finish()
            assert b"response.completed" in await answer.aread()
    await colleague.has_status("finished")


async def test_markup_that_a_model_writes_stays_text(
    tabs: Tabs, front_end_url: str, scripted: ScriptedProvider
) -> None:
    conversation = scripted.conversation(MODEL)
    tab = await tabs.open(front_end_url)
    await tab.send_prompt("<b>bold</b> & brave")
    hostile = "<img src=x onerror=document.title='taken'>\n<script>document.title='taken'</script> &amp; end"
    await conversation.send_text(hostile)
    await conversation.finish()
    await tab.has_status("finished")
    await expect(tab.part("answer")).to_have_text(hostile, use_inner_text=True)
    assert await tab.part("answer").locator("img, script").count() == 0
    await expect(tab.part("prompt-shown")).to_have_text("<b>bold</b> & brave")
    assert "taken" not in await tab.page.title()


async def test_nothing_that_a_stream_holds_becomes_a_part_of_the_page(tabs: Tabs, front_end_url: str) -> None:
    hostile = "<img src=x onerror=\"document.title='taken'\"><script>document.title='taken'</script><svg onload=1>"
    link = "javascript:document.title='taken'"
    events: list[dict[str, Any]] = [
        {"type": "start", "messageId": hostile},
        {"type": "reasoning-start", "id": hostile},
        {"type": "reasoning-delta", "id": hostile, "delta": hostile},
        {"type": "reasoning-end", "id": hostile},
        {"type": "text-start", "id": "0"},
        {"type": "text-delta", "id": "0", "delta": hostile},
        {"type": "text-end", "id": "0"},
        {"type": "tool-input-start", "toolCallId": hostile, "toolName": hostile},
        {"type": "tool-input-available", "toolCallId": hostile, "toolName": hostile, "input": {hostile: hostile}},
        {"type": "tool-output-available", "toolCallId": hostile, "output": {"__proto__": {"polluted": hostile}}},
        {"type": "source-url", "sourceId": hostile, "url": link, "title": hostile},
        {"type": "file", "url": link, "mediaType": "text/html"},
        {"type": "data-progress", "id": "p", "data": {"done": hostile, "total": hostile, "message": hostile}},
        {"type": "data-x", "data": {"__proto__": {"polluted": hostile}}},
    ]
    end = {"type": "error", "errorText": hostile, "code": "hostile"}
    async with httpx2.AsyncClient(base_url=front_end_url) as http:
        assert (await http.put("/v1/streams/hostile")).status_code == 201
        assert (await http.post("/v1/streams/hostile/events", json=events)).status_code == 200
        assert (await http.post("/v1/streams/hostile/close", json=end)).status_code == 200
    for fragment in ("hostile", "../../docs", "__proto__", "%3Cimg%20src=x%3E", "hostile~x"):
        tab = await tabs.open("about:blank")
        requested: list[str] = []
        tab.page.on("request", partial(_note, requested))
        await tab.page.goto(f"{front_end_url}/#{fragment}")
        if fragment == "hostile":
            await tab.has_status("failed")
            await expect(tab.part("answer")).to_contain_text(hostile)
        await expect(tab.part("prompt")).to_be_visible()
        assert await tab.page.locator("img, svg[onload], a[href^='javascript:']").count() == 0
        assert await tab.page.evaluate("({}).polluted === undefined")
        assert "taken" not in await tab.page.title()
        assert [url for url in requested if not url.startswith(front_end_url)] == []
        assert not [url for url in requested if urlsplit(url).path == "/docs"]


def _note(urls: list[str], request: Request) -> None:
    urls.append(request.url)


async def test_a_refused_prompt_is_reported_in_a_sentence_with_its_code_and_kept(
    tabs: Tabs, front_end_url: str
) -> None:
    tab = await tabs.open(front_end_url)
    await tab.part("model-choice").select_option("Other…")
    await tab.page.get_by_label("Model name").fill("nobody-serves-this")
    await tab.part("prompt").fill("hello")
    await tab.part("prompt").press("Enter")
    await expect(tab.part("fault")).to_contain_text("The model is unknown")
    await expect(tab.part("fault")).to_contain_text("unknown_model")
    await expect(tab.part("prompt")).to_have_value("hello")


async def give_key(tab: Tab, key: str) -> None:
    await tab.part("key").fill(key)
    await tab.part("key").press("Enter")


async def stores(page: Page) -> tuple[str, str]:
    """All that the page's session and its profile remember."""
    return await page.evaluate("[JSON.stringify(sessionStorage), JSON.stringify(localStorage) + document.cookie]")


async def test_a_page_requests_a_key_tries_it_and_resumes_with_it_after_reloads_and_losses(
    tabs: Tabs, stack: Stack, scripted: ScriptedProvider
) -> None:
    conversation = scripted.conversation(MODEL)
    await stack.worker()
    front_end = await stack.front_end(**KEYED)
    tab = await tabs.open(front_end.url)
    await expect(tab.part("key-dialog")).to_be_visible()
    await give_key(tab, "key-of-nobody-00000")
    await expect(tab.part("key-dialog-fault")).to_contain_text("does not accept this key")
    await give_key(tab, KEY)
    await expect(tab.part("key-dialog")).to_be_hidden()
    link = await tab.send_prompt("count, please")
    await conversation.send_text("one ")
    await tab.shows("one ")
    await tab.is_connected()
    await tab.page.reload()
    await tab.shows("one ")
    await tab.is_connected()

    # What resumes is the page's own event source: it sends the header that a new one of the page's would not.
    async with tab.page.expect_request(lambda request: "last-event-id" in request.headers) as resumed:
        await front_end.kill()
        await expect(tab.part("status")).to_have_attribute("data-state", "reconnecting")
        await conversation.send_text("two ")
        await stack.front_end(port=urlsplit(front_end.url).port, **KEYED)
    assert KEY not in (await resumed.value).url
    await tab.shows("one two ")
    await tab.is_connected()
    await conversation.send_text("three")
    await conversation.finish()
    await tab.has_status("finished")
    await tab.shows("one two three")
    session, profile = await stores(tab.page)
    assert (KEY in session, KEY in profile) == (True, False)

    other = await tabs.open(link)
    await give_key(other, OTHER_KEY)
    await expect(other.part("ending")).to_contain_text("Nothing was found under this link")


async def test_a_link_opened_without_a_key_shows_the_answer_once_there_is_one(
    tabs: Tabs, stack: Stack, scripted: ScriptedProvider
) -> None:
    conversation = scripted.conversation(MODEL)
    await stack.worker()
    front_end = await stack.front_end(**KEYED)
    async with AsyncClient(front_end.url, KEY) as client:
        generation = await client.start("hi")
    await conversation.send_text("behind the door")
    tab = await tabs.open(f"{front_end.url}/#{generation.id}")
    await expect(tab.part("status")).to_have_text("Signed out: a key is needed")
    await give_key(tab, KEY)
    await tab.shows("behind the door")
    await tab.is_connected()
    # A key that is no longer accepted: the page requests another, and the answer goes on with that.
    await front_end.kill()
    await conversation.send_text(", and on")
    keys = {"auth": "keys", "api_keys": f'{{"page": ["{KEY}-next"]}}'}
    await stack.front_end(port=urlsplit(front_end.url).port, **keys)
    await expect(tab.part("key-dialog")).to_be_visible()
    await give_key(tab, f"{KEY}-next")
    await tab.shows("behind the door, and on")
    await conversation.finish()
    await tab.has_status("finished")
