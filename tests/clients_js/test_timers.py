"""Times of the JavaScript client that no timer takes."""

from __future__ import annotations

import asyncio

import pytest

from tests.clients_js.test_calls import document
from tests.clients_js.test_watching import TEXT, follow
from tests.compat.node_clients import Driver
from tests.support.servers.sse_server import Exchange, SseServer, frame

LONGEST_TIMER_MS = 2**31 - 1


@pytest.mark.parametrize("idle_ms", [LONGEST_TIMER_MS + 1, 2**40])
@pytest.mark.parametrize("transport", ["auto", "sse"])
async def test_a_connection_may_be_silent_for_longer_than_a_timer_takes(
    driver: Driver, server: SseServer, idle_ms: int, transport: str
) -> None:
    async def serve_slowly(exchange: Exchange) -> None:
        await exchange.open_stream()
        await exchange.send(frame(server.entries[0]))
        await server.wait_for(lambda: len(server.requests) >= 3)
        for entry in server.entries[1:]:
            await exchange.send(frame(entry))
        await exchange.end()

    server.plans.append(serve_slowly)
    patient = asyncio.create_task(follow(driver, server, idleTimeoutMs=idle_ms, transport=transport))
    await server.wait_for(lambda: len(server.requests) == 1)
    server.plans.append(server.raw(b":\n\n", hold=True))
    # The silence lasts as long as that of a connection that is replaced for it.
    await follow(driver, server, idleTimeoutMs=200)
    result = await patient
    assert "reconnecting" not in [update.get("name") for update in result["updates"]]
    assert result["state"]["text"] == TEXT


async def test_a_feed_without_a_lease_is_created_and_not_renewed(driver: Driver, server: SseServer) -> None:
    for method, path in (("PUT", ""), ("POST", "/events"), ("POST", "/close")):
        server.routes[method, f"/v1/streams/job{path}"] = document({"id": "job"})
    publishing = asyncio.create_task(
        driver.request("publish", stream="job", list=["one", "|"], server=server.url, config={"lease_s": None})
    )
    await server.wait_for(lambda: any(request.path.endswith("/events") for request in server.requests))
    # A connection that is silent for so long is replaced: a renewal would have come before.
    server.plans.append(server.raw(b":\n\n", hold=True))
    await follow(driver, server, idleTimeoutMs=200)
    await driver.request("open_gate")
    assert "failure" not in await publishing
    assert [request.body["lease_s"] for request in server.requests if request.method == "PUT"] == [None]
