"""A front-end whose pushes are lost lags behind another one, and viewers move to it with ids that it does not know yet.

Nothing was lost, so no viewer is notified of a loss, and no viewer receives anything twice.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from pathlib import Path
from typing import Final

import httpx2

from tests.support.log.valkey import ValkeyServer
from tests.support.servers.processes import open_stack
from tests.support.servers.redis_relay import RedisRelay, open_redis_relay

DIALECTS: Final = ("native", "delta", "named", "ai-sdk")
ROUNDS: Final = 3
DEADLINE_S: Final = 20.0
EVENTS: Final = "/v1/streams/job/events"
HELD_BACK: Final = "of-this-no-push-arrives"


class Front:
    """A front-end, as its clients reach it."""

    def __init__(self, url: str) -> None:
        self.client = httpx2.AsyncClient(base_url=url, timeout=DEADLINE_S)

    async def append(self, text: str) -> str:
        """One event; its id."""
        response = await self.client.post(EVENTS, json={"type": "text-delta", "id": "t", "delta": text})
        assert response.status_code == 200, response.text
        return str(response.json()["last_id"])

    async def follow(self, dialect: str, *, after: str | None = None) -> AsyncGenerator[str, None]:
        """The lines of a response, first an empty one once it has begun."""
        headers = {} if after is None else {"Last-Event-ID": after}
        async with self.client.stream("GET", EVENTS, params={"dialect": dialect}, headers=headers) as response:
            assert response.status_code == 200
            yield ""
            async for line in response.aiter_lines():
                yield line


async def through(lines: AsyncIterator[str], wanted_text: str) -> list[str]:
    """The lines up to the one with this text."""
    seen: list[str] = []
    async with asyncio.timeout(DEADLINE_S):
        async for line in lines:
            seen.append(line)
            if wanted_text in line:
                return seen
    raise AssertionError(f"it ended after {seen}")


async def test_a_viewer_that_moves_to_a_front_end_that_lags_is_sent_nothing_twice(
    tmp_path: Path, server: ValkeyServer
) -> None:
    async with (
        open_redis_relay(server.url) as relay,
        open_stack(tmp_path, redis_url=server.url, provider_url="http://127.0.0.1:1") as stack,
    ):
        ahead = Front((await stack.front_end()).url)
        behind = Front((await stack.front_end(redis_url=relay.url)).url)
        async with ahead.client, behind.client:
            assert (await ahead.client.put("/v1/streams/job")).status_code == 201
            await ahead.append("first")
            watching = behind.follow("native")
            await through(watching, "hub.live")
            for number, dialect in enumerate(DIALECTS * ROUNDS):
                await move(relay, ahead, behind, dialect=dialect, number=number)
            await watching.aclose()
        assert relay.pushes_lost >= ROUNDS * len(DIALECTS)


async def move(relay: RedisRelay, ahead: Front, behind: Front, *, dialect: str, number: int) -> None:
    """A viewer has the newest entry of one front-end, and resumes at the other, which has not received it."""
    relay.lose_pushes(HELD_BACK.encode())
    newest = await ahead.append(HELD_BACK)
    lines = behind.follow(dialect, after=newest)
    await anext(lines)
    next_text = f"next-{number}"
    next_id = await ahead.append(next_text)
    seen = await through(lines, next_text)
    await lines.aclose()
    output = "\n".join(seen)
    assert "gap" not in output, output
    assert HELD_BACK not in output, output
    assert "first" not in output, output
    assert [line for line in seen if line.startswith("id:")] in ([f"id: {next_id}"], []), output
