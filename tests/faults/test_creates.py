"""Creates that break off: nothing waits for ever, one key starts one generation, and an SDK's retry is no harm.

Both SDKs send a POST again by themselves when its answer is lost, twice by default, without any key: what they make up
for themselves (``stainless-python-retry-…``) stays in the client, because neither has a header to send it in.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final, cast

import anthropic
import httpx2
import openai
import pytest

from broadcaster.log.connect import LogConnection
from broadcaster.log.scripts import ANNOUNCE, CREATE, ENQUEUE, RECORD
from broadcaster.log.streams import Streams
from broadcaster.log.sweeper import Sweeper, SweepTimes
from broadcaster.testing import Script
from tests.faults.world import FaultWorld, open_world
from tests.support.log_world import World
from tests.support.valkey import ValkeyServer

STEPS: Final = {
    "key": b"\r\nSET\r\n",
    "announcement": ANNOUNCE.sha.encode(),
    "meta": CREATE.sha.encode(),
    "job": ENQUEUE.sha.encode(),
    "list": RECORD.sha.encode(),
}
MODEL: Final = "claude-scripted"
SETTINGS: Final = {
    "lease_ttl_s": 1,
    "stall_timeout_s": 6,
    "presence_ttl_s": 0.9,
    "abandon_grace_s": 2,
    "redis_timeout_s": 1,
}
DEADLINE_S: Final = 20


class StoppingRelay:
    """Before a server: once a chosen command is done, everything stands still."""

    def __init__(self, url: str) -> None:
        self._port = int(url.rpartition(":")[2])
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._order: bytes | None = None
        self.reached = asyncio.Event()

    @property
    def url(self) -> str:
        assert self._server is not None
        return f"redis://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    def stop_after(self, words: bytes) -> None:
        """Stand still once the next command that holds these words is done: its answer is the first that is lost."""
        self._order = words

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        from_server, to_server = await asyncio.open_connection("127.0.0.1", self._port)
        answers = asyncio.create_task(self._carry(from_server, writer))
        try:
            while data := await reader.read(65536):
                if self._order is not None and self._order in data:
                    answers.cancel()
                    await asyncio.wait({answers})
                    to_server.write(data)
                    await from_server.read(65536)
                    self.reached.set()
                if self.reached.is_set():
                    continue  # until the client is killed
                to_server.write(data)
        except OSError:
            pass  # the client is gone
        finally:
            answers.cancel()
            writer.close()
            to_server.close()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while (data := await reader.read(65536)) and not self.reached.is_set():
            writer.write(data)


@asynccontextmanager
async def open_stopping_relay(url: str) -> AsyncIterator[StoppingRelay]:
    relay = StoppingRelay(url)
    relay._server = await asyncio.start_server(relay._serve, "127.0.0.1", 0)
    try:
        yield relay
    finally:
        relay._server.close()
        for task in list(relay._tasks):
            task.cancel()
        await asyncio.gather(*relay._tasks, return_exceptions=True)


async def generations(connection: LogConnection) -> dict[str, str]:
    """Every generation whose meta there is, and its status."""
    keys = cast(list[bytes], await connection.redis.keys("*:meta"))
    ids = [key.decode().split("{")[1].split("}")[0] for key in keys]
    metas = await Streams(connection).metas(ids)
    return {meta.id: meta.status for meta in metas if meta is not None}


async def nothing_waits(world: FaultWorld) -> dict[str, str]:
    """Until no generation is queued or running and the open index is empty."""
    async with asyncio.timeout(DEADLINE_S):
        while True:
            there = await generations(world.connection)
            is_open = await world.connection.redis.zcard(world.connection.keys.open)
            if not is_open and not {"queued", "running"} & set(there.values()):
                return there
            await asyncio.sleep(0.05)


async def test_a_front_end_killed_after_any_step_of_a_create_leaves_nothing_that_waits_for_ever(
    tmp_path: Path, server: ValkeyServer
) -> None:
    """Asked for again with its key it is the same generation, if it had come to be."""
    async with open_world(tmp_path, redis=server, default_model=MODEL, **SETTINGS) as world:
        world.scripted.script(MODEL, Script.of_text("one answer"))
        await world.worker()
        lasting = (await world.front_end()).url
        earlier: set[str] = set()  # a worker that finds them lost writes them again
        async with httpx2.AsyncClient(timeout=10) as http:
            for step, words in STEPS.items():
                await world.connection.redis.flushall()
                async with open_stopping_relay(server.url) as relay:
                    victim = await world.front_end(redis_url=relay.url)
                    keys = {"idempotency-key": f"key-{step}"}
                    relay.stop_after(words)
                    asked = asyncio.create_task(
                        http.post(f"{victim.url}/v1/generations", json={"prompt": "a"}, headers=keys)
                    )
                    await asyncio.wait_for(relay.reached.wait(), 10)
                    await victim.kill()
                    with contextlib.suppress(httpx2.HTTPError):
                        await asked
                left = {id: status for id, status in (await nothing_waits(world)).items() if id not in earlier}
                assert set(left.values()) <= {"finished"}, (step, left)
                again = await http.post(f"{lasting}/v1/generations", json={"prompt": "a"}, headers=keys)
                assert again.status_code == 202
                there = {id: status for id, status in (await nothing_waits(world)).items() if id not in earlier}
                assert there == {again.json()["id"]: "finished"}, (step, there)
                assert set(left) <= set(there)
                earlier |= there.keys()


async def test_what_is_about_to_be_written_down_stays_in_the_open_index_and_goes_when_it_never_is(
    connection: LogConnection,
) -> None:
    """Else a sweep between the announcement and the meta would leave a create that breaks off there to nobody."""
    world = World(connection)
    sweeper = Sweeper(
        SweepTimes(60_000, 60_000, 1_800_000, unwritten_ms=3000),
        queue=world.queue,
        claims=world.claims,
        streams=world.streams,
        steadiness=world.steadiness,
    )
    await world.queue.announce("gen_1")
    announced_at = time.monotonic()
    await sweeper.sweep()
    assert await world.queue.newest_open(10) == ["gen_1"]
    async with asyncio.timeout(DEADLINE_S):
        while await world.queue.newest_open(10):
            await sweeper.sweep()
            await asyncio.sleep(0.05)
    assert time.monotonic() - announced_at > 3


class CuttingProxy:
    """Before a front-end: the first request is taken by it, and its connection is cut before the answer."""

    def __init__(self, url: str) -> None:
        self._port = int(url.rpartition(":")[2])
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self.requests: list[bytes] = []

    @property
    def url(self) -> str:
        assert self._server is not None
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        from_server, to_server = await asyncio.open_connection("127.0.0.1", self._port)
        is_cut = not self.requests
        head = await reader.readuntil(b"\r\n\r\n")
        self.requests.append(head.lower())
        length = int(head.lower().partition(b"content-length:")[2].split()[0])
        to_server.write(head + await reader.readexactly(length))
        try:
            while data := await from_server.read(65536):
                if is_cut:
                    break
                writer.write(data)
                await writer.drain()
        except OSError:
            pass  # the client is gone
        finally:
            writer.transport.abort()
            to_server.close()


@asynccontextmanager
async def open_cutting_proxy(url: str) -> AsyncIterator[CuttingProxy]:
    proxy = CuttingProxy(url)
    proxy._server = await asyncio.start_server(proxy._serve, "127.0.0.1", 0)
    try:
        yield proxy
    finally:
        proxy._server.close()
        for task in list(proxy._tasks):
            task.cancel()
        await asyncio.gather(*proxy._tasks, return_exceptions=True)


async def post(sdk: str, url: str, body: Mapping[str, Any], headers: Mapping[str, str]) -> httpx2.Response:
    """The SDK's own POST, with its own retries."""
    options: Any = {"headers": dict(headers)}
    if sdk == "openai":
        async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="k") as client:
            return await client.post("/generations", cast_to=httpx2.Response, body=body, options=options)
    async with anthropic.AsyncAnthropic(base_url=url, api_key="k") as other:
        return await other.post("/v1/generations", cast_to=httpx2.Response, body=body, options=options)


@pytest.mark.parametrize("sdk", ["openai", "anthropic"])
async def test_an_sdk_that_posts_again_by_itself_starts_one_generation_with_a_key_and_an_orphan_without(
    tmp_path: Path, server: ValkeyServer, sdk: str
) -> None:
    body = {"prompt": "a", "stream": True, "on_abandon": "cancel"}
    async with open_world(tmp_path, redis=server, default_model=MODEL, **SETTINGS) as world:
        await world.worker()
        url = (await world.front_end()).url

        with_key = world.scripted.conversation(MODEL)
        async with open_cutting_proxy(url) as proxy:
            asked = asyncio.create_task(post(sdk, proxy.url, body, {"Idempotency-Key": "one"}))
            await with_key.send_text("one answer")
            await with_key.finish()
            assert "one answer" in (await asyncio.wait_for(asked, DEADLINE_S)).text
            assert len(proxy.requests) == 2
            assert all(b"idempotency-key: one" in head for head in proxy.requests)
        assert list((await nothing_waits(world)).values()) == ["finished"]
        await world.connection.redis.flushall()

        orphan, wanted = world.scripted.conversation(MODEL), world.scripted.conversation(MODEL)
        async with open_cutting_proxy(url) as proxy:
            asked = asyncio.create_task(post(sdk, proxy.url, body, {}))
            await orphan.send_text("for nobody")
            await wanted.send_text("one ")
            await (await orphan.request()).wait_disconnected(DEADLINE_S)  # nobody watches it
            await wanted.send_text("answer")
            await wanted.finish()
            text = (await asyncio.wait_for(asked, DEADLINE_S)).text
            assert not any(b"idempotency" in head or b"stainless-python-retry" in head for head in proxy.requests)
            assert [head.count(b"x-stainless-retry-count: 1") for head in proxy.requests] == [0, 1]
        assert "answer" in text
        there = await nothing_waits(world)
        assert sorted(there.values()) == ["aborted", "finished"]
        (aborted,) = [each for each, status in there.items() if status == "aborted"]
        last = await Streams(world.connection).last(aborted)
        assert last is not None
        assert json.loads(last.event) == {"type": "abort", "reason": "abandoned"}
