"""``publish`` of the JavaScript client over Redis: one run for an id, and entries that Redis has lost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx2
import pytest

from broadcaster.log.redis.connect import LogConnection
from broadcaster.settings import Settings
from broadcaster.web.wiring import open_services
from tests.clients_js.test_calls import cut, document, in_turn, problem
from tests.compat.node_clients import Driver
from tests.support.servers.front_end import DEADLINE_S, own_app, served
from tests.support.servers.sse_server import Exchange, SseServer

ID = "job-42"
LOST = "Redis lost a part of this stream"
END = {"type": "error", "code": "log_lost", "errorText": LOST}


class Feed:
    """A feed as its server shows it."""

    def __init__(self, http: httpx2.AsyncClient, connection: LogConnection) -> None:
        self.http = http
        self.connection = connection
        self.server = str(http.base_url).rstrip("/")

    async def state(self) -> dict[str, Any]:
        found: dict[str, Any] = (await self.http.get(f"/v1/streams/{ID}", params={"parts": "true"})).json()
        return found

    async def until(self, claim: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        async with asyncio.timeout(DEADLINE_S):
            while not claim(state := await self.state()):
                await asyncio.sleep(0.01)
        return state

    async def lose(self, metadata: dict[str, Any], lease_s: float) -> None:
        """Redis comes back empty, and a renewal creates the feed anew."""
        await self.connection.redis.flushall()
        response = await self.http.put(f"/v1/streams/{ID}", json={"lease_s": lease_s, "metadata": metadata})
        assert response.is_success


@pytest.fixture
async def feed(connection: LogConnection) -> AsyncIterator[Feed]:
    settings = Settings(redis_url=connection.url, feed_append_rate=1000)
    async with open_services(settings) as services, served(own_app(services, settings), services) as http:
        yield Feed(http, connection)


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


async def test_a_call_that_writes_to_a_feed_waits_as_long_as_the_server_requires(
    driver: Driver, server: SseServer
) -> None:
    path = f"/v1/streams/{ID}"
    for method, below in (("PUT", ""), ("POST", "/close")):
        server.routes[method, path + below] = document({"id": ID, "status": "finished"})
    busy = problem(503, "busy", retry=True, **{"retry-after": "6"})
    server.routes["POST", f"{path}/events"] = in_turn(busy, document({}))
    published = await driver.request("publish", stream=ID, list=["x"], server=server.url)
    assert published["state"]["status"] == "finished"


async def test_a_call_that_writes_to_a_feed_does_not_begin_a_pause_that_outlasts_it(
    driver: Driver, server: SseServer
) -> None:
    server.routes["PUT", f"/v1/streams/{ID}"] = problem(429, "rate_limited", retry=True, **{"retry-after": "60"})
    failed = await driver.request("publish", stream=ID, list=["x"], server=server.url)
    assert (failed["failure"]["code"], len(server.requests)) == ("rate_limited", 1)


async def test_a_source_that_ends_in_any_turn_of_an_append_has_its_text_completed(driver: Driver) -> None:
    stored = (await driver.request("ends", most=80))["stored"]
    assert {tuple(types[-2:]) for types in stored} == {("text-end", "finish")}
    assert {types.count("text-delta") for types in stored} == {2}


async def test_a_renewal_that_finds_less_than_was_stored_ends_the_feed_with_an_error(
    driver: Driver, server: SseServer
) -> None:
    """Another writer has appended since: the numbers of the next append rise."""
    path = f"/v1/streams/{ID}"
    renewed = asyncio.Event()

    async def renew(exchange: Exchange) -> None:
        await document({"id": ID, "last_seq": 0})(exchange)
        if any(request.path.endswith("/events") for request in server.requests):
            renewed.set()

    server.routes["PUT", path] = renew
    server.routes["POST", "/v1/generations/gen_1/stop"] = document({"id": "gen_1"})
    server.routes["POST", f"{path}/events"] = in_turn(document({"last_seq": 2}), document({"last_seq": 9}))
    server.routes["POST", f"{path}/close"] = document({"id": ID, "last_seq": 10})
    options = {"server": server.url, "config": {"lease_s": 0.3}}
    run = asyncio.create_task(driver.request("publish", stream=ID, list=["It is not ", "|", "warm."], **options))
    async with asyncio.timeout(DEADLINE_S):
        await renewed.wait()
    await driver.request("stop", stream="gen_1", server=server.url)  # the client has read what came before
    await driver.request("open_gate")
    assert (await run)["failure"]["code"] == "log_lost"
    assert [request.body for request in server.requests if request.path.endswith("/close")] == [END]


async def test_an_append_after_a_loss_ends_the_feed_with_an_error(driver: Driver, feed: Feed) -> None:
    pieces = ["not ", "|", "warm."]
    run = asyncio.create_task(driver.request("publish", stream=ID, list=pieces, server=feed.server))
    state = await feed.until(lambda state: state.get("text") == "not ")
    await feed.lose(state["metadata"], state["lease_s"])
    await driver.request("open_gate")
    assert (await run)["failure"]["code"] == "log_lost"
    state = await feed.state()
    assert (state["status"], state["error"]) == ("failed", {"code": "log_lost", "message": LOST})


async def test_a_run_whose_end_alone_is_stored_throws(driver: Driver, feed: Feed) -> None:
    pieces = [{"type": "data-x", "data": 1}, "|"]
    run = asyncio.create_task(driver.request("publish", stream=ID, list=pieces, server=feed.server))
    state = await feed.until(lambda state: state.get("last_seq") == 1)
    await feed.lose(state["metadata"], state["lease_s"])
    await driver.request("open_gate")
    assert (await run)["failure"]["code"] == "log_lost"
