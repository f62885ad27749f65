"""Redis loses what a client of a Response was sent, and another history takes its place.

A client knows a number alone (``starting_after``). Whatever it requests, and of which front-end, it ends with the newer
history's whole text: no number means an event of both.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import openai
import pytest

from broadcaster.log.redis.connect import LogConnection
from broadcaster.testing import ScriptedProvider
from tests.support.log.valkey import ValkeyServer, start_valkey
from tests.support.servers.processes import Running, Stack, open_stack

pytestmark = pytest.mark.second_engine

MODEL: Final = "claude-scripted"
DEADLINE_S: Final = 20.0
# A worker that a busy machine does not run for a whole lease would stop: with good reason, but not the one tested here.
SETTINGS: Final[dict[str, Any]] = {"lease_ttl_s": 2.0, "stall_timeout_s": 30}


@dataclass
class Client:
    """It joins the deltas of one Response, and resumes by the number of the last event when it is cut off."""

    sdk: openai.AsyncOpenAI
    id: str
    number: int = -1
    text: str = ""
    ended: Any = None

    def at(self, sdk: openai.AsyncOpenAI) -> Client:
        """A twin that has read as much, and goes on at another front-end."""
        return Client(sdk, self.id, self.number, self.text)

    async def read(self, *, until: str | None = None) -> None:
        """To the end, or until its text ends so."""
        async with asyncio.timeout(DEADLINE_S):
            while self.ended is None and (until is None or not self.text.endswith(until)):
                try:
                    await self._read_on(until)
                except openai.APIError:
                    await asyncio.sleep(0.05)

    async def _read_on(self, until: str | None) -> None:
        rest = await self.sdk.responses.retrieve(self.id, stream=True, starting_after=self.number)
        async with rest as stream:
            async for event in stream:
                if event.type == "error":
                    return
                assert event.sequence_number > self.number
                self.number = event.sequence_number
                if event.type == "response.in_progress":
                    self.text = ""
                elif event.type == "response.output_text.delta":
                    self.text += event.delta
                elif event.type in ("response.completed", "response.failed"):
                    self.ended = event
                if until is not None and self.text.endswith(until):
                    return


@dataclass
class LossyWorld:
    """A Redis that keeps what it last saved, and nothing after it."""

    server: ValkeyServer
    connection: LogConnection
    provider: ScriptedProvider
    stack: Stack

    async def lose(self) -> None:
        """Back to the snapshot."""
        self.server.kill()
        await asyncio.to_thread(self.server.start)

    async def epoch(self, client: Client) -> int:
        """Of the newest entry."""
        await self.connection.redis.connection_pool.disconnect()
        log = self.connection.keys.log(client.id.removeprefix("resp_"))
        newest: Any = await self.connection.redis.xrevrange(log, count=1)
        return int(newest[0][0].split(b"-")[0])

    async def front_end(self, clients: list[openai.AsyncOpenAI]) -> openai.AsyncOpenAI:
        running = await self.stack.front_end(**SETTINGS)
        clients.append(
            openai.AsyncOpenAI(base_url=f"{running.url}/v1", api_key="any", max_retries=0, timeout=DEADLINE_S)
        )
        return clients[-1]

    async def worker(self) -> Running:
        return await self.stack.worker(**SETTINGS)


@pytest.fixture
async def world(tmp_path: Path, scripted: ScriptedProvider) -> AsyncIterator[LossyWorld]:
    with tempfile.TemporaryDirectory(prefix="bc-") as folder, start_valkey(Path(folder), port=0) as server:
        async with (
            LogConnection(server.url) as connection,
            open_stack(tmp_path, redis_url=server.url, provider_url=scripted.base_url, default_model=MODEL) as stack,
        ):
            yield LossyWorld(server, connection, scripted, stack)


@pytest.fixture
async def scripted() -> AsyncIterator[ScriptedProvider]:
    async with ScriptedProvider() as provider:
        yield provider


@pytest.fixture
async def clients() -> AsyncIterator[list[openai.AsyncOpenAI]]:
    opened: list[openai.AsyncOpenAI] = []
    yield opened
    for each in opened:
        await each.close()


async def ends_with(text: str, *, client: Client, fresh: openai.AsyncOpenAI) -> None:
    """At the front-end that knows the lost history, and at one that has just come."""
    for each in (client, client.at(fresh)):
        await each.read()
        assert each.ended.response.output_text == text
        assert each.text == text


async def test_the_tail_is_lost_together_with_its_worker(world: LossyWorld, clients: list[openai.AsyncOpenAI]) -> None:
    lost, restarted = (world.provider.conversation(MODEL) for _ in range(2))
    worker = await world.worker()
    known = await world.front_end(clients)
    response = await known.responses.create(model=MODEL, input="Hi", background=True)
    client = Client(known, response.id)
    await lost.send_text("Once ")
    await client.read(until="Once ")
    await world.connection.redis.save()
    for word in ("upon ", "a ", "time ", "a ", "cat ", "sat ", "there."):
        await lost.send_text(word)
    await client.read(until="there.")
    await worker.kill()
    await world.lose()
    await world.worker()
    fresh = await world.front_end(clients)
    for word in ("A ", "quite ", "different ", "story ", "came ", "of ", "it ", "all."):
        await restarted.send_text(word)
    await restarted.finish()
    await ends_with("A quite different story came of it all.", client=client, fresh=fresh)


async def test_entries_of_an_earlier_attempt_are_lost_and_the_living_worker_rebases(
    world: LossyWorld, clients: list[openai.AsyncOpenAI]
) -> None:
    torn, whole = (world.provider.conversation(MODEL) for _ in range(2))
    first = await world.worker()
    known = await world.front_end(clients)
    response = await known.responses.create(model=MODEL, input="Hi", background=True)
    client = Client(known, response.id)
    await torn.send_text("Once ")
    await client.read(until="Once ")
    await world.connection.redis.save()
    for word in ("upon ", "a ", "time."):
        await torn.send_text(word)
    await client.read(until="time.")
    await first.kill()
    await world.worker()
    for word in ("A ", "better ", "story "):
        await whole.send_text(word)
    await client.read(until="better story ")
    early, epoch = client.at(known), await world.epoch(client)
    await world.lose()
    fresh = await world.front_end(clients)
    for word in ("began ", "like ", "this."):
        await whole.send_text(word)
    await whole.finish()
    await ends_with("A better story began like this.", client=client, fresh=fresh)
    await ends_with("A better story began like this.", client=early, fresh=fresh)
    assert await world.epoch(client) > epoch
