"""Chromium through nginx: why HTTP/2, and what its own EventSource makes of a front-end that dies."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Page

from broadcaster.client import AsyncClient
from broadcaster.log.redis.connect import LogConnection
from broadcaster.log.streams.reader import Streams
from tests.support.servers.browser import Tabs, open_tabs
from tests.support.servers.nginx import Nginx, open_nginx
from tests.support.servers.processes import Running, Stack

STREAMS = [f"job-{n}" for n in range(10)]
OPEN, CLOSED = 1, 2  # EventSource.readyState
DEADLINE_S = 20.0

WATCH = """ids => {
    window.sources = {};
    window.seen = {};
    for (const id of ids) {
        const source = window.sources[id] = new EventSource(`/v1/streams/${id}/events`);
        const seen = window.seen[id] = {entries: [], opened: 0};
        source.onopen = () => { seen.opened += 1; };
        source.onmessage = message => { seen.entries.push([message.lastEventId, message.data]); };
    }
}"""
# With its length given, as fetch does of a string.
POST_TOO_MUCH = """async () => {
    const url = new URL("/v1/generations", location.href).href;
    const answer = await fetch(url, {
        method: "POST", headers: {"content-type": "application/json"}, body: "x".repeat(5 * 2 ** 20),
    });
    const told = {status: answer.status, type: answer.headers.get("content-type"), text: await answer.text()};
    return {...told, protocol: performance.getEntriesByName(url)[0]?.nextHopProtocol};
}"""
SOURCES = "() => Object.entries(sources).map(([id, source]) => ({...seen[id], id, state: source.readyState}))"


@pytest.fixture
async def tabs() -> AsyncIterator[Tabs]:
    async with open_tabs() as opened:
        yield opened


@pytest.fixture
async def front_ends(stack: Stack) -> list[Running]:
    return [await stack.front_end() for _ in range(2)]


@pytest.fixture
async def nginx(tmp_path: Path, front_ends: list[Running]) -> AsyncIterator[Nginx]:
    async with open_nginx(tmp_path / "nginx", [each.url for each in front_ends]) as opened:
        yield opened


@pytest.fixture
async def client(front_ends: list[Running]) -> AsyncIterator[AsyncClient]:
    """Of the front-end that stays; the ten streams are there."""
    async with AsyncClient(front_ends[1].url) as opened:
        for each in STREAMS:
            await opened.create_stream(each)
        yield opened


async def until(page: Page, condition: Callable[[list[dict[str, Any]]], bool]) -> list[dict[str, Any]]:
    """What the page's sources have seen, when the condition holds of it."""
    async with asyncio.timeout(DEADLINE_S):
        while not condition(views := await page.evaluate(SOURCES)):
            await asyncio.sleep(0.02)
    return list(views)


async def test_ten_streams_of_one_page_live_on_one_http_2_connection_and_go_on_when_their_front_end_is_killed(
    tabs: Tabs, nginx: Nginx, client: AsyncClient, front_ends: list[Running], connection: LogConnection
) -> None:
    page = (await tabs.open(nginx.tls_url, any_certificate=True)).page
    assert await page.evaluate("performance.getEntriesByType('navigation')[0].nextHopProtocol") == "h2"
    await page.evaluate(WATCH, STREAMS)
    for n in range(3):
        await append_to_all(client, n)
        await until(page, lambda views, n=n: all(len(each["entries"]) == n + 1 for each in views))  # type: ignore[misc]
    assert all(each["state"] == OPEN for each in await page.evaluate(SOURCES))
    await front_ends[0].kill()
    await append_to_all(client, 3)
    for each in STREAMS:
        await client.close(each)
    # 204 closes an EventSource for good.
    views = await until(page, lambda views: all(each["state"] == CLOSED for each in views))
    for view in views:
        stored = await Streams(connection).read(view["id"])
        assert view["entries"] == [[str(entry.cursor), entry.event.decode()] for entry in stored]
        assert len(stored) == 5
    # Some were with the one that was killed, and came back by themselves.
    assert sum(view["opened"] for view in views) > len(STREAMS)


async def test_without_tls_a_seventh_stream_waits_until_one_of_six_is_closed(
    tabs: Tabs, nginx: Nginx, client: AsyncClient
) -> None:
    page = (await tabs.open(nginx.url)).page
    assert await page.evaluate("performance.getEntriesByType('navigation')[0].nextHopProtocol") == "http/1.1"
    await page.evaluate(WATCH, STREAMS)
    await append_to_all(client, 0)
    views = await until(page, lambda views: sum(bool(each["entries"]) for each in views) >= 6)
    assert sum(bool(each["entries"]) for each in views) == 6
    first = next(each["id"] for each in views if each["entries"])
    await page.evaluate("id => sources[id].close()", first)
    await until(page, lambda views: sum(bool(each["entries"]) for each in views) == 7)


async def test_over_http_2_a_body_that_is_too_large_is_refused_with_the_front_ends_problem_too(
    tabs: Tabs, nginx: Nginx
) -> None:
    page = (await tabs.open(nginx.tls_url, any_certificate=True)).page
    refused = await page.evaluate(POST_TOO_MUCH)
    assert refused["protocol"] == "h2"
    assert (refused["status"], refused["type"]) == (413, "application/problem+json")
    assert json.loads(refused["text"])["code"] == "body_too_large"


async def append_to_all(client: AsyncClient, number: int) -> None:
    for each in STREAMS:
        await client.append(each, {"type": "data-line", "data": number})
