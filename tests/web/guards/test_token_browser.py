"""Viewer tokens in a real browser: an EventSource of another origin with ``?token=``, and one with the cookie."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx2
import pytest
from fastapi import FastAPI
from playwright.async_api import Page, Route

from broadcaster.core import events as ev
from broadcaster.settings import Settings
from broadcaster.web.app import create_app
from broadcaster.web.services import Services
from tests.support.access import token_kit as kit
from tests.support.documents import marked_blocks
from tests.support.memory.memory_world import MemoryWorld
from tests.support.servers.browser import Tabs, open_tabs
from tests.support.servers.front_end import DEADLINE_S, served
from tests.support.servers.relay import Relay, opened
from tests.web.guards.test_cors_browser import answer_with_page

KEYS = json.dumps({"web": ["web-key-0123456789"]})
EVENTS = "/v1/streams/gen_1/events"
COOKIE = "__Host-broadcaster-token"
FLAGS = "; Path=/; Secure; SameSite=Lax"
PAGE = """const texts = [], notes = [];
const page = {
  show: (event) => { texts.push(event.delta ?? event.type); },
  clear: () => { texts.length = 0; },
  note: (text) => { notes.push(text); },
};
const expiring = [];
globalThis.EventSource = class extends EventSource {
  constructor(url) {
    super(url);
    this.addEventListener("hub.expiring", () => expiring.push(url));
  }
};
"""
FOREIGN = "(url) => fetch(url, { mode: 'no-cors', credentials: 'include' }).then(() => {})"
OPEN_FOR_A_WHILE = """async (url) => {
  const names = [];
  const source = new EventSource(url);
  const state = await new Promise((resolve) => {
    const note = ({ type }) => names.push(type);
    for (const name of ["hub.hello", "message", "hub.expiring", "hub.bye"]) source.addEventListener(name, note);
    source.onerror = () => { if (source.readyState === EventSource.CLOSED) resolve("stopped"); };
    source.addEventListener("hub.live", () => { if (!url.includes("short")) { source.close(); resolve("live"); } });
  });
  return [state, names];
}"""


@pytest.fixture
async def tabs() -> AsyncIterator[Tabs]:
    async with open_tabs() as opened:
        yield opened


def keyed(services: Services, **settings: object) -> FastAPI:
    given = {"auth": "keys", "api_keys": KEYS, "token_keys": kit.TOKEN_KEYS, **settings}
    return create_app(Settings.model_validate(given), services=services)


async def watch(page: Page, url: str) -> tuple[str, list[str]]:
    state, names = await page.evaluate(OPEN_FOR_A_WHILE, url)
    return state, names


async def test_an_event_source_of_another_origin_watches_with_its_token_until_that_expires(
    services: Services, world: MemoryWorld, tabs: Tabs
) -> None:
    world.add("gen_1", tenant="web")
    world.append("gen_1", ev.TextDelta(id="0", delta="Salt."))
    async with page_server() as page_url:
        async with served(keyed(services, cors_origins=[page_url]), services) as client:
            server = str(client.base_url).rstrip("/")
            page = (await tabs.open(page_url)).page
            good = kit.own_token(time.time())
            assert await watch(page, f"{server}{EVENTS}?token={good}") == ("live", ["hub.hello", "message"])
            for refused in (kit.own_token(time.time() - 700), kit.own_token(time.time(), aud="other")):
                assert await watch(page, f"{server}{EVENTS}?token={refused}") == ("stopped", [])
            short = kit.own_token(time.time(), exp=time.time() + 2)
            state, names = await watch(page, f"{server}{EVENTS}?after=&short&token={short}")
            assert (state, names[0], names[-1]) == ("stopped", "hub.hello", "hub.bye")
            assert "hub.expiring" in names


class Backend:
    """The page's own backend of docs/tokens.md, which makes tokens: a short one first, and nothing while it is away."""

    def __init__(self) -> None:
        self.tokens: list[str] = []
        self.failures = 0

    async def answer(self, route: Route) -> None:
        if self.tokens and not self.failures:
            self.failures += 1
            await route.abort()
        else:
            life_s = 600 if self.tokens else 2
            self.tokens.append(kit.own_token(time.time(), exp=time.time() + life_s))
            await route.fulfill(json={"events_url": f"{EVENTS}?token={self.tokens[-1]}"})


async def test_the_documented_page_resumes_after_its_token_expired_while_it_was_disconnected(
    services: Services, world: MemoryWorld, tabs: Tabs
) -> None:
    world.add("gen_1", tenant="web")
    world.append("gen_1", ev.TextDelta(id="0", delta="Rivers "))
    backend = Backend()
    async with served(keyed(services, token_notice_s=0), services) as client:
        async with opened(Relay(str(client.base_url))) as network:
            page = (await tabs.open("about:blank")).page
            origin = f"http://127.0.0.1:{network.port}"
            await page.route(f"{origin}/", lambda route: route.fulfill(body="<body>", content_type="text/html"))
            await page.route(f"{origin}/my/token/*", backend.answer)
            await page.goto(f"{origin}/")
            await follow(page)
            await page.wait_for_function("texts.length === 1")
            await network.refuse()
            await until_expired(client, backend.tokens[0])
            world.append("gen_1", ev.TextDelta(id="0", delta="carry it."), ev.Finish())
            await network.switch(str(client.base_url))
            await page.wait_for_function("texts.length === 3")
            assert await page.evaluate("texts") == ["Rivers ", "carry it.", "finish"]
    assert (len(backend.tokens), backend.failures) == (2, 1)


async def follow(page: Page) -> None:
    """Run the documented page."""
    await page.add_script_tag(content=PAGE + marked_blocks("docs/tokens.md")["follow"].text)
    await page.evaluate("follow('gen_1', page)")


async def test_the_documented_page_starts_over_after_a_loss_and_ends_when_its_backend_refuses(
    services: Services, world: MemoryWorld, tabs: Tabs
) -> None:
    world.add("gen_1", tenant="web")
    world.append("gen_1", *(ev.TextDelta(id="0", delta=each) for each in ("Rivers ", "freeze.")))
    async with served(keyed(services), services) as client:
        page = (await tabs.open("about:blank")).page
        origin = str(client.base_url).rstrip("/")
        await page.route(f"{origin}/", lambda route: route.fulfill(body="<body>", content_type="text/html"))
        answers = iter([200, 200, 404])

        async def answer(route: Route) -> None:
            url = f"{EVENTS}?token={kit.own_token(time.time(), exp=time.time() + 600)}"
            await route.fulfill(status=next(answers), json={"events_url": url})

        await page.route(f"{origin}/my/token/*", answer)
        await page.goto(f"{origin}/")
        await follow(page)
        await page.wait_for_function("texts.length === 2")
        world.lose_tail("gen_1", keep_seq=1)
        world.append("gen_1", ev.TextDelta(id="0", delta="carry it."), ev.Finish())
        await page.wait_for_function("texts.length === 3 && texts[2] === 'finish'")
        assert await page.evaluate("texts") == ["Rivers ", "carry it.", "finish"]
        await page.evaluate("follow('gen_1', page)")
        await page.wait_for_function("notes.length === 1")
        assert await page.evaluate("notes") == ["not available: HTTP 404"]


async def test_the_documented_page_does_not_replace_a_token_that_is_hardly_newer_than_the_last(
    services: Services, world: MemoryWorld, tabs: Tabs
) -> None:
    world.add("gen_1", tenant="web")
    tokens = []
    async with served(keyed(services), services) as client:
        page = (await tabs.open("about:blank")).page
        origin = str(client.base_url).rstrip("/")
        await page.route(f"{origin}/", lambda route: route.fulfill(body="<body>", content_type="text/html"))

        async def answer(route: Route) -> None:
            now_s = time.time()
            tokens.append(kit.own_token(now_s - 100, exp=now_s + 20))
            await route.fulfill(json={"events_url": f"{EVENTS}?token={tokens[-1]}"})

        await page.route(f"{origin}/my/token/*", answer)
        await page.goto(f"{origin}/")
        await follow(page)
        await page.wait_for_function("expiring.length === 2")
        world.append("gen_1", ev.Finish())
        await page.wait_for_function("texts.length === 1")
    assert len(tokens) == 2


async def until_expired(client: httpx2.AsyncClient, token: str) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while (await client.get("/v1/streams/gen_1", params={"token": token})).status_code != 401:
            await asyncio.sleep(0.02)


async def test_a_page_of_the_same_host_watches_with_the_cookie_and_a_foreign_one_does_not(
    services: Services, world: MemoryWorld, tabs: Tabs
) -> None:
    world.add("gen_1", tenant="web")
    world.append("gen_1", ev.TextDelta(id="0", delta="Salt."))
    async with page_server() as foreign, served(keyed(services), services) as client:
        server = str(client.base_url).replace("127.0.0.1", "localhost").rstrip("/")
        page = (await tabs.open("about:blank")).page
        await page.route(f"{server}/", lambda route: route.fulfill(body="<title>App</title>", content_type="text/html"))
        await page.goto(f"{server}/")
        cookie = f"{COOKIE}={kit.own_token(time.time())}{FLAGS}"
        await page.evaluate("(cookie) => { document.cookie = cookie; }", cookie)
        assert await watch(page, f"{server}{EVENTS}") == ("live", ["hub.hello", "message"])
        # A page on another port is of the same site: the browser sends the cookie from there, too.
        await page.goto(foreign)
        async with page.expect_response(lambda response: response.url == f"{server}{EVENTS}") as refused:
            await page.evaluate(FOREIGN, f"{server}{EVENTS}")
        response = await refused.value
        assert COOKIE in (await response.request.all_headers())["cookie"]
        assert response.status == 403


@asynccontextmanager
async def page_server() -> AsyncIterator[str]:
    """The origin of an empty page that no front-end serves."""
    pages = await asyncio.start_server(answer_with_page, "127.0.0.1", 0)
    async with pages:
        yield f"http://localhost:{pages.sockets[0].getsockname()[1]}"
