"""The JavaScript client over real processes: front-ends and workers are killed, and nothing is lost or repeated."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from broadcaster.client import AsyncClient, ClientError
from broadcaster.testing import ScriptedProvider
from tests import clients_js
from tests.compat.node_clients import Driver, start_driver
from tests.support.servers.processes import Stack
from tests.support.servers.programs import find_program, lacking

MODEL = "claude-scripted"
DEADLINE_S = 20.0


@pytest.fixture
async def driver() -> AsyncIterator[Driver]:
    node = find_program("node", remedy="install it, e.g. apt install nodejs")
    async with start_driver(node, Path(clients_js.__file__).parent / "driver.mjs") as driver:
        yield driver


@pytest.fixture
async def ws_driver() -> AsyncIterator[Driver]:
    if not find_spec("websockets"):
        lacking("no package websockets found: make install")
    node = find_program("node", remedy="install it, e.g. apt install nodejs")
    script = Path(clients_js.__file__).parent / "driver.mjs"
    async with start_driver(node, script, options=["--experimental-websocket"]) as driver:
        yield driver


async def until_stored(client: AsyncClient, stream_id: str, text: str) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while await stored_text(client, stream_id) != text:
            await asyncio.sleep(0.02)


async def stored_text(client: AsyncClient, stream_id: str) -> str | None:
    try:
        return (await client.stream(stream_id, parts=True)).text
    except ClientError:  # not created yet
        return None


async def test_an_answer_is_whole_over_a_killed_front_end_and_a_killed_worker(
    stack: Stack, scripted: ScriptedProvider, driver: Driver
) -> None:
    lost, whole = scripted.conversation(MODEL), scripted.conversation(MODEL)
    worker = await stack.worker(lease_ttl_s=1)
    front_end = await stack.front_end(lease_ttl_s=1)
    server = {"server": front_end.url}
    started = (await driver.request("start", request="count, please", **server))["result"]
    following = asyncio.create_task(driver.request("follow", url=started["events_url"], **server))
    await lost.send_text("one ")
    async with AsyncClient(front_end.url) as client:
        async with asyncio.timeout(DEADLINE_S):
            while (await client.stream(started["id"])).viewers != 1:
                await asyncio.sleep(0.02)
        await front_end.kill()
        await lost.send_text("two ")
        await stack.front_end(port=urlsplit(front_end.url).port, lease_ttl_s=1)
        await worker.kill()
        await stack.worker(lease_ttl_s=1)
        await whole.send_text("all of it")
        await whole.finish()
        result = await following
        stored = await client.get(started["id"], wait_s=DEADLINE_S)
    cursors = [update["cursor"] for update in result["updates"] if update["kind"] == "entry"]
    assert [int(cursor.partition("-")[2]) for cursor in cursors] == list(range(1, stored.last_seq + 1))
    assert (result["state"]["text"], result["state"]["attempt"]) == ("all of it", 2)
    assert (result["state"]["parts"], result["state"]["usage"]) == (stored.parts, stored.usage)
    assert "reconnecting" in [update.get("name") for update in result["updates"]]


async def test_over_websockets_an_answer_is_whole_over_a_killed_front_end(
    stack: Stack, scripted: ScriptedProvider, ws_driver: Driver
) -> None:
    conversation = scripted.conversation(MODEL)
    await stack.worker()
    front_end = await stack.front_end()
    server = {"server": front_end.url, "transport": "ws"}
    started = (await ws_driver.request("start", request="count, please", server=front_end.url))["result"]
    following = asyncio.create_task(ws_driver.request("follow", url=started["events_url"], **server))
    await conversation.send_text("one ")
    async with AsyncClient(front_end.url) as client:
        async with asyncio.timeout(DEADLINE_S):
            while (await client.stream(started["id"])).viewers != 1:
                await asyncio.sleep(0.02)
        await front_end.kill()
        await conversation.send_text("two ")
        await stack.front_end(port=urlsplit(front_end.url).port)
        await conversation.send_text("three")
        await conversation.finish()
        result = await following
        stored = await client.get(started["id"], wait_s=DEADLINE_S)
    cursors = [update["cursor"] for update in result["updates"] if update["kind"] == "entry"]
    assert [int(cursor.partition("-")[2]) for cursor in cursors] == list(range(1, stored.last_seq + 1))
    assert (result["state"]["text"], result["state"]["parts"]) == ("one two three", stored.parts)
    assert "reconnecting" in [update.get("name") for update in result["updates"]]


async def test_what_is_published_over_a_killed_front_end_is_stored_once(stack: Stack, driver: Driver) -> None:
    front_end = await stack.front_end()
    first, second = [f"{number} " for number in range(50)], [f"{number} " for number in range(50, 100)]
    pieces = [*first, "|", *second]
    publishing = asyncio.create_task(driver.request("publish", stream="job", list=pieces, server=front_end.url))
    async with AsyncClient(front_end.url) as client:
        await until_stored(client, "job", "".join(first))
        await front_end.kill()
        await driver.request("open_gate")
        await stack.front_end(port=urlsplit(front_end.url).port)
        assert (await publishing)["state"]["status"] == "finished"
        await until_stored(client, "job", "".join(first + second))
