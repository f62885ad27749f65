"""Bodies and JSON responses that a front-end holds are counted together, and no call pays for an answer twice."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import openai
import pytest

from broadcaster.core.cursor import START, Cursor
from broadcaster.core.entry import Entry
from broadcaster.core.events import Finish, Start, TextDelta
from broadcaster.hub.limits import TenantBound
from broadcaster.web.guards.json_ledger import FIRST_ENTRIES, FIRST_READS_AT_ONCE, JsonHold, JsonLedger, MeteredReader
from broadcaster.web.services import Services
from tests.support.memory.memory_world import MemoryWorld, memory_services
from tests.support.servers.front_end import DEADLINE_S, in_process, own_app, served
from tests.web.surfaces.calls import CALLS, REQUEST

BOUND = 2**20
LARGE = "x" * (BOUND // 3)
WHOLE = {
    "a generation that is waited for": ("/v1/generations", {"messages": REQUEST, "stream": False}),
    "chat completions": CALLS["chat completions"],
    "messages": CALLS["messages"],
    "responses": CALLS["responses"],
}


@pytest.fixture
def ledger() -> JsonLedger:
    return JsonLedger(max_bytes=BOUND)


async def test_a_body_counts_as_it_arrives_and_until_its_request_is_answered(
    world: MemoryWorld, ledger: JsonLedger
) -> None:
    taken: list[int] = []
    world.on_create = lambda _: taken.append(ledger.used_bytes)
    async with memory_services(world, json_ledger=ledger) as services:
        async with in_process(own_app(services)) as client:
            assert (await client.post("/v1/generations", json={"prompt": LARGE[: BOUND // 8]})).status_code == 202
            assert BOUND // 2 < taken[0] <= BOUND
            assert not ledger.used_bytes

            refused = await client.post("/v1/generations", json={"prompt": LARGE})
            assert (refused.status_code, refused.json()["code"]) == (503, "busy")
            assert len(world.requests) == 1
            assert not ledger.used_bytes


async def test_a_body_that_stops_halfway_counts_until_its_connection_is_gone(
    world: MemoryWorld, ledger: JsonLedger
) -> None:
    async with memory_services(world, json_ledger=ledger) as services:
        async with served(own_app(services), services) as client:
            async with _half_sent(client.base_url.host, client.base_url.port or 0):
                await _until(lambda: ledger.used_bytes > BOUND // 4)
            await _until(lambda: not ledger.used_bytes)


# An answer in OpenAI's shape names 200 characters of a field; the shape of /api/chat names it whole, in 100 KB.
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/responses", "/api/chat"])
async def test_a_refusal_of_a_long_name_is_counted_until_it_is_sent_and_no_longer(
    world: MemoryWorld, ledger: JsonLedger, path: str
) -> None:
    messages = [{"id": "m", "role": "user", "content": "x", "parts": [{"type": "text", "text": "x"}]}]
    body = {LARGE[:100_000]: 1, "model": "m", "messages": messages, "input": "x", "id": "c"}
    async with memory_services(world, json_ledger=ledger) as services:
        async with in_process(own_app(services)) as client:
            refused = await client.post(path, json=body)
    assert refused.status_code == 400
    assert len(refused.content) > 100_000 or path.startswith("/v1/")
    assert not ledger.used_bytes


async def test_a_tenant_is_refused_beyond_its_share(world: MemoryWorld) -> None:
    ledger = JsonLedger(tenant_bytes=TenantBound(BOUND))
    async with memory_services(world, json_ledger=ledger) as services:
        async with in_process(own_app(services)) as client:
            refused = await client.post("/v1/generations", json={"prompt": LARGE})
    assert (refused.status_code, refused.json()["code"]) == (429, "tenant_limit")
    assert "TENANT_JSON_BYTES" in refused.json()["detail"]
    assert not world.requests


@pytest.mark.parametrize(("path", "body"), WHOLE.values(), ids=WHOLE)
async def test_a_response_that_cannot_be_sent_names_its_generation_and_demands_no_repetition(
    world: MemoryWorld, ledger: JsonLedger, path: str, body: dict[str, Any]
) -> None:
    answers_with_more_than_fits(world)
    async with memory_services(world, json_ledger=ledger) as services:
        async with in_process(own_app(services)) as client:
            refused = await client.post(path, json=body)
    assert refused.status_code in (503, 529)
    assert refused.headers["broadcaster-generation-id"] in world.streams
    assert refused.json().get("retry") is False or refused.headers["x-should-retry"] == "false"
    assert not ledger.used_bytes


async def test_a_real_sdk_pays_for_such_an_answer_once(world: MemoryWorld, ledger: JsonLedger) -> None:
    answers_with_more_than_fits(world)
    async with memory_services(world, json_ledger=ledger) as services:
        assert await _call_by_sdk(services) == 503
    assert len(world.requests) == 1


async def test_what_is_not_counted_yet_is_read_by_few_requests_at_once(ledger: JsonLedger) -> None:
    """An entry may have a megabyte, and its bytes are known only when they are here."""
    log = _WatchedLog()
    holds = [JsonHold(ledger, "") for _ in range(3 * FIRST_READS_AT_ONCE)]
    reads = [asyncio.create_task(MeteredReader(log, hold).read("f")) for hold in holds]
    await _until(lambda: log.reading == FIRST_READS_AT_ONCE)
    log.may_end.set()
    assert [len(entries) for entries in await asyncio.gather(*reads)] == [1] * len(holds)
    assert (log.most_reading, log.counts) == (FIRST_READS_AT_ONCE, [FIRST_ENTRIES] * len(holds))


class _WatchedLog:
    def __init__(self) -> None:
        self.may_end = asyncio.Event()
        self.reading = self.most_reading = 0
        self.counts: list[int] = []

    async def read(self, stream_id: str, *, after: Cursor = START, count: int = 1000) -> list[Entry]:
        self.counts.append(count)
        self.reading += 1
        self.most_reading = max(self.most_reading, self.reading)
        await self.may_end.wait()
        self.reading -= 1
        return [Entry(1, 1, b"{}")]


def answers_with_more_than_fits(world: MemoryWorld) -> None:
    """Each generation ends at once with a text beyond the ledger's bound."""
    text = [TextDelta(id="0", delta=LARGE) for _ in range(4)]
    world.on_create = lambda each: world.append(each, Start(), *text, Finish())


async def _call_by_sdk(services: Services) -> int:
    async with served(own_app(services), services) as client:
        url = str(client.base_url).rstrip("/")
        async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="any", timeout=DEADLINE_S) as sdk:
            with pytest.raises(openai.APIStatusError) as refused:
                await sdk.chat.completions.create(model="local", messages=REQUEST)  # type: ignore[arg-type]
    return refused.value.status_code


@asynccontextmanager
async def _half_sent(host: str, port: int) -> AsyncIterator[None]:
    """A connection whose body has half of its bytes."""
    _, writer = await asyncio.open_connection(host, port)
    head = f"POST /v1/generations HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: {BOUND // 4}\r\n"
    writer.write(head.encode() + b"content-type: application/json\r\n\r\n" + b" " * (BOUND // 8))
    try:
        yield
    finally:
        writer.transport.abort()


async def _until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while not condition():
            await asyncio.sleep(0.01)
