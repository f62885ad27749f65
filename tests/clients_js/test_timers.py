"""Times of the JavaScript client that no timer takes."""

from __future__ import annotations

import asyncio

import pytest

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
