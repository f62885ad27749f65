"""Creates that break off: nothing waits for ever, one key starts one generation, and an SDK's retry is no harm.

Both SDKs retry a POST by themselves when its response is lost, twice by default, without any key: what they make up
for themselves (``stainless-python-retry-…``) stays in the client, because neither has a header to send it in.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, cast

import anthropic
import httpx2
import openai
import pytest

from broadcaster.log.jobs.sweeper import Sweeper, SweepTimes
from broadcaster.log.redis.connect import LogConnection
from broadcaster.log.redis.scripts import SCRIPTS
from broadcaster.log.streams.reader import Streams
from broadcaster.testing import Script
from tests.faults.world import FaultWorld, open_world
from tests.support.log.log_world import World
from tests.support.log.valkey import ValkeyServer
from tests.support.servers.redis_relay import open_redis_relay
from tests.support.servers.relay import Link, Relay, opened

STEPS: Final = {
    "key": b"\r\nSET\r\n",
    "announcement": SCRIPTS["announce"].sha.encode(),
    "meta": SCRIPTS["create"].sha.encode(),
    "job": SCRIPTS["enqueue"].sha.encode(),
    "list": SCRIPTS["record"].sha.encode(),
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
    """Requested once more with its key it is the same generation, if it had come to be."""
    async with open_world(tmp_path, redis=server, default_model=MODEL, **SETTINGS) as world:
        world.scripted.script(MODEL, Script.of_text("one answer"))
        await world.worker()
        lasting = (await world.front_end()).url
        earlier: set[str] = set()  # a worker that finds them lost rewrites them
        async with httpx2.AsyncClient(timeout=10) as http:
            for step, commands in STEPS.items():
                await world.connection.redis.flushall()
                async with open_redis_relay(server.url) as relay:
                    victim = await world.front_end(redis_url=relay.url)
                    keys = {"idempotency-key": f"key-{step}"}
                    relay.stop_after(commands)
                    posting = asyncio.create_task(
                        http.post(f"{victim.url}/v1/generations", json={"prompt": "a"}, headers=keys)
                    )
                    await asyncio.wait_for(relay.stopped.wait(), 10)
                    await victim.kill()
                    with contextlib.suppress(httpx2.HTTPError):
                        await posting
                left = {id: status for id, status in (await nothing_waits(world)).items() if id not in earlier}
                assert set(left.values()) <= {"finished"}, (step, left)
                repeated = await http.post(f"{lasting}/v1/generations", json={"prompt": "a"}, headers=keys)
                assert repeated.status_code == 202
                there = {id: status for id, status in (await nothing_waits(world)).items() if id not in earlier}
                assert there == {repeated.json()["id"]: "finished"}, (step, there)
                assert set(left) <= set(there)
                earlier |= there.keys()


async def test_an_announced_generation_stays_in_the_open_index_until_its_meta_is_overdue(
    connection: LogConnection,
) -> None:
    """Else a sweep between announcement and meta would leave a create that breaks off there without a worker."""
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


class CuttingProxy(Relay):
    """Before a front-end: it takes the first request, whose connection is cut in the place of the response.

    The second request passes when ``first_runs`` is set: by then a worker has the first one's generation.
    """

    scheme = "http"

    def __init__(self, target: str) -> None:
        super().__init__(target)
        self.requests: list[bytes] = []
        self.first_runs = asyncio.Event()

    async def on_request(self, link: Link, data: bytes) -> bytes:
        if data.startswith(b"POST "):
            self.requests.append(data.lower())
            link.loses_response = len(self.requests) == 1
            if not link.loses_response:
                await self.first_runs.wait()
        return data


async def post(sdk: str, url: str, body: Mapping[str, Any], headers: Mapping[str, str]) -> httpx2.Response:
    """The SDK's own POST, with its own retries."""
    options: Any = {"headers": dict(headers)}
    if sdk == "openai":
        async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="k") as client:
            return await client.post("/generations", cast_to=httpx2.Response, body=body, options=options)
    async with anthropic.AsyncAnthropic(base_url=url, api_key="k") as other:
        return await other.post("/v1/generations", cast_to=httpx2.Response, body=body, options=options)


@pytest.mark.parametrize("sdk", ["openai", "anthropic"])
async def test_an_sdk_that_retries_a_post_starts_one_generation_with_a_key_and_an_orphan_without(
    tmp_path: Path, server: ValkeyServer, sdk: str
) -> None:
    body = {"prompt": "a", "stream": True, "on_abandon": "cancel"}
    async with open_world(tmp_path, redis=server, default_model=MODEL, **SETTINGS) as world:
        await world.worker()
        url = (await world.front_end()).url

        with_key = world.scripted.conversation(MODEL)
        async with opened(CuttingProxy(url)) as proxy:
            posting = asyncio.create_task(post(sdk, proxy.url, body, {"Idempotency-Key": "one"}))
            await with_key.send_text("one answer")
            await with_key.finish()
            proxy.first_runs.set()
            assert "one answer" in (await asyncio.wait_for(posting, DEADLINE_S)).text
            assert len(proxy.requests) == 2
            assert all(b"idempotency-key: one" in head for head in proxy.requests)
        first = await nothing_waits(world)
        assert list(first.values()) == ["finished"]
        await world.connection.redis.flushall()  # a process that finds it lost may rewrite it

        orphan, wanted = world.scripted.conversation(MODEL), world.scripted.conversation(MODEL)
        async with opened(CuttingProxy(url)) as proxy:
            posting = asyncio.create_task(post(sdk, proxy.url, body, {}))
            await orphan.send_text("for nobody")
            proxy.first_runs.set()
            await wanted.send_text("one ")
            await (await orphan.request()).wait_disconnected(DEADLINE_S)  # no viewer watches it
            await wanted.send_text("answer")
            await wanted.finish()
            text = (await asyncio.wait_for(posting, DEADLINE_S)).text
            assert not any(b"idempotency" in head or b"stainless-python-retry" in head for head in proxy.requests)
            assert [head.count(b"x-stainless-retry-count: 1") for head in proxy.requests] == [0, 1]
        assert "answer" in text
        there = {id: status for id, status in (await nothing_waits(world)).items() if id not in first}
        assert sorted(there.values()) == ["aborted", "finished"]
        (aborted,) = [each for each, status in there.items() if status == "aborted"]
        last = await Streams(world.connection).last(aborted)
        assert last is not None
        assert json.loads(last.event) == {"type": "abort", "reason": "abandoned"}
