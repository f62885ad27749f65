"""The link that the page shares where keys are needed: read-only, without a key, and revocable."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from playwright.async_api import Request, expect

from broadcaster.testing import ScriptedProvider
from tests.support.access import token_kit as kit
from tests.support.servers.browser import Tab, Tabs, open_tabs
from tests.support.servers.processes import Stack

MODEL = "claude-scripted"
KEY = "key-of-the-page-31f0"
KEYED = {"auth": "keys", "api_keys": f'{{"page": ["{KEY}"]}}'}


@pytest.fixture
async def tabs() -> AsyncIterator[Tabs]:
    async with open_tabs() as opened:
        yield opened


async def open_answer(tabs: Tabs, url: str) -> Tab:
    """A tab with a key, in which a generation runs."""
    tab = await tabs.open(url)
    await tab.part("key").fill(KEY)
    await tab.part("key").press("Enter")
    await expect(tab.part("key-dialog")).to_be_hidden()
    await tab.send_prompt("count, please")
    return tab


async def copied_link(tab: Tab) -> str:
    await tab.part("copy").click()
    await expect(tab.part("copy")).not_to_contain_text("Copy link")
    return await tab.part("copy").get_attribute("data-link") or ""


async def test_a_shared_link_watches_without_a_key_reads_alone_and_is_revoked(
    tabs: Tabs, stack: Stack, scripted: ScriptedProvider
) -> None:
    conversation = scripted.conversation(MODEL)
    await stack.worker()
    front_end = await stack.front_end(**KEYED, token_keys=kit.TOKEN_KEYS)
    tab = await open_answer(tabs, front_end.url)
    await conversation.send_text("one ")
    await tab.shows("one ")
    link = await copied_link(tab)
    assert "&token=eyJ" in link
    token = link.rpartition("=")[2]

    urls: list[str] = []
    guest = await tabs.open("about:blank")

    def note(request: Request) -> None:
        urls.append(request.url)

    guest.page.on("request", note)
    await guest.page.goto(link)
    await guest.shows("one ")
    await guest.is_connected()
    await conversation.send_text("two ")
    await guest.shows("one two ")
    await expect(guest.part("key-dialog")).to_be_hidden()
    for name in ("stop", "prompt", "generations", "copy"):
        await expect(guest.part(name)).to_be_hidden()
    await guest.page.reload()
    await guest.shows("one two ")
    assert not [url for url in urls if token in url and "#" not in url]
    assert token not in await guest.page.evaluate("JSON.stringify([sessionStorage, localStorage]) + document.cookie")

    await tab.part("revoke").click()
    await expect(guest.part("status")).to_have_text("This link was revoked")
    await expect(guest.part("viewers")).to_be_empty()  # it is told of them no more
    await expect(tab.part("revoke")).to_be_hidden()
    await conversation.send_text("three")
    await tab.shows("one two three")
    assert await guest.part("answer").text_content() == "one two "
    await guest.page.reload()
    await expect(guest.part("status")).to_have_text("This link was revoked")
    await conversation.finish()
    await tab.has_status("finished")
    assert not tab.faults
    assert not guest.faults


async def test_without_a_key_to_sign_with_the_link_needs_a_key(
    tabs: Tabs, stack: Stack, scripted: ScriptedProvider
) -> None:
    conversation = scripted.conversation(MODEL)
    await stack.worker()
    front_end = await stack.front_end(**KEYED)
    tab = await open_answer(tabs, front_end.url)
    await conversation.send_text("one ")
    link = await copied_link(tab)
    assert link == tab.page.url
    await expect(tab.part("copy")).to_contain_text("needs a key")
    await expect(tab.part("revoke")).to_be_hidden()
