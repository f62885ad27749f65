"""A feed that trims, created under an id whose earlier feed is gone: old cursors are void; over real sockets."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest

from broadcaster.core.cursor import Cursor
from broadcaster.log.redis.connect import LogConnection
from broadcaster.settings import Settings
from broadcaster.web.services import Services
from broadcaster.web.wiring import open_services
from tests.support.servers.front_end import DEADLINE_S, Received, listen, own_app, served, until_watched

ID = "nightly"
URL = f"/v1/streams/{ID}"
EVENTS = f"{URL}/events"


class Trimmed:
    """A job that writes more than its feed keeps, and viewers of it."""

    def __init__(self, http: httpx2.AsyncClient, connection: LogConnection, services: Services) -> None:
        self.http = http
        self.connection = connection
        self.services = services

    async def create(self, **choice: str) -> None:
        response = await self.http.put(URL, params=choice, json={"on_full": "trim", "max_events": 4})
        assert response.status_code == 201, response.text

    async def write(self, text: str, count: int) -> str:
        """Returns the cursor of the last event."""
        last = await self._append({"type": "text-start", "id": "t"})
        for number in range(count):
            last = await self._append({"type": "text-delta", "id": "t", "delta": f"{text}{number} "})
        return last

    async def close(self) -> None:
        assert (await self.http.post(f"{URL}/close", json={"type": "finish"})).status_code == 200

    async def lose(self, last: str) -> None:
        """Redis comes back empty, and later than the last entry."""
        redis: Any = self.connection.redis
        await redis.flushall()
        async with asyncio.timeout(DEADLINE_S):
            while (time := await redis.time())[0] * 1000 + time[1] // 1000 <= Cursor.parse(last).epoch:
                await asyncio.sleep(0)

    async def resume(self, last: str, dialect: str = "native") -> Received:
        return await listen(self.http, f"{EVENTS}?dialect={dialect}", headers={"last-event-id": last})

    async def _append(self, event: dict[str, str]) -> str:
        response = await self.http.post(EVENTS, json=event)
        assert response.status_code == 200, response.text
        return str(response.json()["ids"][-1])


@pytest.fixture
async def job(connection: LogConnection) -> AsyncIterator[Trimmed]:
    settings = Settings(redis_url=connection.url, feed_append_rate=1000, retry_ms=100)
    async with open_services(settings) as services, served(own_app(services, settings), services) as http:
        yield Trimmed(http, connection, services)


async def create_anew(job: Trimmed, how: str, last: str) -> None:
    match how:
        case "lost":
            await job.lose(last)
            await job.create()
        case "replaced":
            await job.create(if_exists="replace")
        case "deleted":
            assert (await job.http.delete(URL)).status_code == 204
            await job.create(if_exists="replace")


HOWS = ["lost", "replaced", "deleted"]


async def write_two(job: Trimmed, how: str) -> str:
    """Write a feed, and another one in its place, which is over; the cursor of the old one's last event."""
    await job.create()
    last = await job.write("OLD", 3)
    await create_anew(job, how, last)
    await job.write("NEW", 7)
    await job.close()
    return last


@pytest.mark.parametrize("how", HOWS)
async def test_a_viewer_that_resumes_over_a_new_creation_is_notified_that_its_text_is_void(
    job: Trimmed, how: str
) -> None:
    last = await write_two(job, how)

    received = await job.resume(last)

    gap = next(message for message in received.messages if message.event == "hub.gap")
    assert json.loads(gap.data)["reason"] == "reset"
    assert [json.loads(data).get("delta") for _, data in received.entries] == ["NEW3 ", "NEW4 ", "NEW5 ", "NEW6 ", None]
    assert "hub.gap" not in (await job.resume(gap.id)).names


@pytest.mark.parametrize("how", HOWS)
async def test_a_client_of_the_ai_sdk_drops_the_text_of_the_feed_before(job: Trimmed, how: str) -> None:
    last = await write_two(job, how)

    parts = [json.loads(data) for _, data in (await job.resume(last, "ai-sdk")).entries if data != "[DONE]"]

    assert (parts[0]["type"], parts[0]["code"]) == ("error", "attempt")
    assert "".join(part.get("delta", "") for part in parts) == "NEW3 NEW4 NEW5 NEW6 "


@pytest.mark.parametrize("how", HOWS)
async def test_an_old_cursor_is_void_although_the_log_of_the_new_feed_has_expired(job: Trimmed, how: str) -> None:
    last = await write_two(job, how)
    await job.connection.redis.delete(job.connection.keys.log(ID))

    received = await job.resume(last)

    gaps = [json.loads(message.data) for message in received.messages if message.event == "hub.gap"]
    assert [gap["reason"] for gap in gaps] == ["reset"]
    assert [json.loads(data)["type"] for _, data in received.entries] == ["finish"]


async def test_a_viewer_that_watches_is_notified_that_its_text_is_void(job: Trimmed) -> None:
    await job.create()
    last = await job.write("OLD", 3)
    viewer = asyncio.create_task(job.resume(last))
    await until_watched(job.services, ID)
    await create_anew(job, "lost", last)
    await job.write("NEW", 7)
    await job.close()

    async with asyncio.timeout(DEADLINE_S):
        received = await viewer

    gaps = [json.loads(message.data)["reason"] for message in received.messages if message.event == "hub.gap"]
    assert gaps[0] == "reset"
    assert received.entries[-1][1] == '{"type":"finish"}'


async def test_the_attempt_of_a_replacement_voids_by_itself_until_it_is_trimmed(job: Trimmed) -> None:
    await job.create()
    last = await job.write("OLD", 3)
    await job.create(if_exists="replace")
    await job.write("NEW", 1)
    await job.close()

    received = await job.resume(last)

    assert "hub.gap" not in received.names
    assert json.loads(received.entries[0][1]) == {"type": "attempt", "attempt": 2, "reason": "replaced"}


async def test_a_viewer_of_the_same_creation_is_notified_of_nothing_but_the_trim(job: Trimmed) -> None:
    await job.create()
    last = await job.write("A", 1)
    await job.write("B", 7)
    await job.close()

    received = await job.resume(last)

    gaps = [json.loads(message.data) for message in received.messages if message.event == "hub.gap"]
    assert gaps == [{"reason": "trimmed", "from": 3, "to": 6}]


@pytest.mark.parametrize("dialect", ["openai-chat", "openai-responses", "anthropic"])
async def test_a_replaced_feed_is_read_whole_in_dialects_without_a_sign_for_a_gap(job: Trimmed, dialect: str) -> None:
    assert (await job.http.put(URL, json={})).status_code == 201
    await job.write("OLD", 3)
    assert (await job.http.put(URL, params={"if_exists": "replace"}, json={})).status_code == 201
    await job.write("NEW", 3)
    await job.close()

    received = await job.http.get(f"{EVENTS}?dialect={dialect}")

    found = [text in received.text for text in ("NEW0 NEW1 NEW2 ", "OLD", '"code":"gap"', "(gap)")]
    assert found == [True, False, False, False]
