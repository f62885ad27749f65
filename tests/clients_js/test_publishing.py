"""``publish`` of the JavaScript client over Redis: one run for an id."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx2
import pytest

from broadcaster.log.redis.connect import LogConnection
from broadcaster.settings import Settings
from broadcaster.web.wiring import open_services
from tests.clients_js.test_calls import cut, document, in_turn
from tests.compat.node_clients import Driver
from tests.support.servers.front_end import DEADLINE_S, own_app, served
from tests.support.servers.sse_server import SseServer

ID = "job-42"


class Feed:
    """A feed as its server shows it."""

    def __init__(self, http: httpx2.AsyncClient) -> None:
        self.http = http
        self.server = str(http.base_url).rstrip("/")

    async def state(self) -> dict[str, Any]:
        found: dict[str, Any] = (await self.http.get(f"/v1/streams/{ID}", params={"parts": "true"})).json()
        return found

    async def until(self, claim: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        async with asyncio.timeout(DEADLINE_S):
            while not claim(state := await self.state()):
                await asyncio.sleep(0.01)
        return state


@pytest.fixture
async def feed(connection: LogConnection) -> AsyncIterator[Feed]:
    settings = Settings(redis_url=connection.url, feed_append_rate=1000)
    async with open_services(settings) as services, served(own_app(services, settings), services) as http:
        yield Feed(http)


async def test_a_second_run_of_an_id_is_refused_and_the_first_one_goes_on(driver: Driver, feed: Feed) -> None:
    pieces = ["It is ", "|", "warm."]
    first = asyncio.create_task(driver.request("publish", stream=ID, list=pieces, server=feed.server))
    await feed.until(lambda state: state.get("text") == "It is ")

    second = await driver.request("publish", stream=ID, list=["It is ", "warm."], server=feed.server)
    await driver.request("open_gate")

    assert second["failure"]["code"] == "stream_exists"
    assert (await first)["state"]["status"] == "finished"
    assert (await feed.state())["text"] == "It is warm."


async def test_runs_that_have_one_name_write_one_feed(driver: Driver, feed: Feed) -> None:
    config = {"metadata": {"producer": "step-1", "job": "42"}}
    options = {"stream": ID, "server": feed.server, "config": config}
    first = asyncio.create_task(driver.request("publish", list=["It is ", "|"], **options))
    state = await feed.until(lambda state: state.get("text") == "It is ")
    second = await driver.request("publish", list=["warm."], **options)
    await driver.request("open_gate")
    await first
    assert state["metadata"] == config["metadata"]
    assert second["state"]["status"] == "finished"
    assert (await feed.state())["text"] == "It is warm."


async def test_a_creation_whose_response_was_lost_is_the_same_one_when_it_is_repeated(
    driver: Driver, server: SseServer
) -> None:
    server.routes["PUT", f"/v1/streams/{ID}"] = in_turn(cut, document({"id": ID}))
    server.routes["POST", f"/v1/streams/{ID}/close"] = document({"id": ID, "status": "finished"})
    published = await driver.request("publish", stream=ID, list=[], server=server.url)
    assert published["state"]["status"] == "finished"
    creations = [request.body for request in server.requests if request.method == "PUT"]
    assert len(creations) == 2
    assert creations[0] == creations[1]
