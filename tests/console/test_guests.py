"""A tab with a key that opens a shared link, and goes back."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import AsyncIterator

import pytest
from playwright.async_api import expect

from broadcaster.web.services import Services
from tests.console.conftest import DEADLINE_S, Worker, delete_held_back
from tests.console.test_chat import converse
from tests.support.access import token_kit as kit
from tests.support.memory.memory_world import MemoryWorld
from tests.support.servers.browser import Tab, Tabs
from tests.support.servers.front_end import own_app, served

KEY = "key-of-the-page-31f0"
RIGHTS = ["start", "watch", "append", "stop", "admin"]
KEYED = {
    "auth": "keys",
    "api_keys": json.dumps({"web": [{"key": KEY, "rights": RIGHTS}]}),
    "token_keys": kit.TOKEN_KEYS,
}


@pytest.fixture
async def keyed_url(services: Services) -> AsyncIterator[str]:
    async with served(own_app(services, **KEYED), services) as client:
        yield str(client.base_url)


async def open_with_key(tabs: Tabs, url: str) -> Tab:
    tab = await tabs.open(url)
    await tab.part("key").fill(KEY)
    await tab.part("key").press("Enter")
    await expect(tab.part("key-dialog")).to_be_hidden()
    await expect(tab.part("operate-link")).to_be_visible()
    return tab


async def open_guest(tab: Tab, url: str, world: MemoryWorld) -> None:
    """Open a shared link in this tab, and load it anew there."""
    world.add("gen_shared", status="running", tenant="web")
    await tab.page.goto(f"{url}/#gen_shared&token={kit.own_token(time.time())}")
    await tab.is_connected()
    await tab.page.reload()
    await tab.is_connected()
    await expect(tab.part("prompt")).to_be_hidden()


async def test_a_tab_that_was_loaded_on_a_shared_link_has_models_and_operate_after_it_goes_back(
    tabs: Tabs, keyed_url: str, world: MemoryWorld
) -> None:
    tab = await open_with_key(tabs, keyed_url)
    await open_guest(tab, keyed_url, world)
    await tab.page.go_back()
    await expect(tab.part("operate-link")).to_be_visible()
    await tab.part("settings-open").click()
    await tab.part("model-choice").select_option("Other…")
    await expect(tab.page.get_by_label("Model name")).to_have_attribute("placeholder", re.compile(r"claude\*"))


async def test_a_deletion_goes_on_after_a_tab_that_was_loaded_on_a_shared_link_goes_back(
    tabs: Tabs, keyed_url: str, worker: Worker, world: MemoryWorld
) -> None:
    tab = await open_with_key(tabs, keyed_url)
    await converse(tab, worker, "first", "one")
    await delete_held_back(tab, "first")
    await open_guest(tab, keyed_url, world)
    await tab.page.go_back()
    async with asyncio.timeout(DEADLINE_S):
        while list(world.streams) != ["gen_shared"]:
            await asyncio.sleep(0.01)
