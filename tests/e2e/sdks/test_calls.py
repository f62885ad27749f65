"""Calls over real processes: one key over two front-ends, deletions that stay, a Redis that does not answer."""

from __future__ import annotations

import asyncio
import json
import signal
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import cast

import httpx2
import pytest

from broadcaster.client import AsyncClient, ClientError
from broadcaster.log.redis.connect import LogConnection
from broadcaster.log.streams.reader import Streams
from broadcaster.testing import Script, ScriptedProvider
from tests.support.log.valkey import start_valkey
from tests.support.servers.processes import Stack, open_stack
from tests.support.watching import watch

MODEL = "claude-scripted"
SECRET = "do-not-keep-me"


async def until(condition: Callable[[], Awaitable[bool]], timeout_s: float = 20) -> None:
    async with asyncio.timeout(timeout_s):
        while not await condition():
            await asyncio.sleep(0.02)


async def until_text(connection: LogConnection, stream_id: str, text: str) -> None:
    async def is_there() -> bool:
        entries = await Streams(connection).read(stream_id)
        return text.encode() in b"".join(entry.event for entry in entries)

    await until(is_there)


async def keys_of(connection: LogConnection, stream_id: str) -> set[str]:
    found = cast(list[bytes], await connection.redis.keys(f"*{stream_id}*"))
    return {key.decode() for key in found}


async def test_posts_that_race_over_two_front_ends_with_one_key_start_one_generation(
    stack: Stack, scripted: ScriptedProvider, connection: LogConnection
) -> None:
    scripted.script(MODEL, Script.of_text("one answer"))
    worker = await stack.worker()
    urls = [(await stack.front_end()).url for _ in range(2)]
    async with httpx2.AsyncClient(timeout=20) as http:
        answers = await asyncio.gather(
            *(
                http.post(f"{urls[n % 2]}/v1/generations", json={"prompt": "a"}, headers={"idempotency-key": "k"})
                for n in range(40)
            )
        )
    assert {answer.status_code for answer in answers} == {202}
    (stream_id,) = {answer.json()["id"] for answer in answers}
    replayed = [answer.headers.get("idempotent-replayed") for answer in answers]
    assert (replayed.count(None), replayed.count("true")) == (1, 39)
    async with AsyncClient(urls[0]) as client:
        assert (await client.get(stream_id, wait_s=20)).text == "one answer"
        assert [each.id for each in await client.list()] == [stream_id]
    assert worker.log.read_text().count("attempt_started") == 1


async def test_a_deletion_stops_it_and_ends_its_viewers_and_nothing_of_it_is_left(
    stack: Stack, scripted: ScriptedProvider, connection: LogConnection
) -> None:
    conversation = scripted.conversation(MODEL)
    await stack.worker()
    front_end = await stack.front_end()
    async with AsyncClient(front_end.url) as client:
        generation = await client.start(SECRET)
        viewer = asyncio.create_task(watch(front_end.url, generation.id))
        await conversation.send_text("half an ans")
        await until_text(connection, generation.id, "half an ans")
        began = time.monotonic()
        await client.delete(generation.id)
        print(f"deletion of a running generation: {1000 * (time.monotonic() - began):.0f} ms")
        await client.delete(generation.id)
        with pytest.raises(ClientError, match="no generation has this id"):
            await client.get(generation.id)
        assert list(await client.list()) == []
    types = [json.loads(data)["type"] for _, data in (await viewer).entries]
    assert types[-1] == "abort"
    assert await keys_of(connection, generation.id) == {connection.keys.meta(generation.id)}
    left = await connection.redis.dump(connection.keys.meta(generation.id))
    assert left is not None
    assert SECRET.encode() not in left


async def test_a_worker_paused_across_the_deletion_brings_nothing_back(
    stack: Stack, scripted: ScriptedProvider, connection: LogConnection
) -> None:
    conversation = scripted.conversation(MODEL)
    zombie = await stack.worker(lease_ttl_s=2)
    front_end = await stack.front_end(lease_ttl_s=2)
    tombstone = set()
    async with AsyncClient(front_end.url) as client:
        generation = await client.start(SECRET)
        await conversation.send_text("half an ans")
        await until_text(connection, generation.id, "half an ans")
        zombie.signal(signal.SIGSTOP)
        viewer = asyncio.create_task(watch(front_end.url, generation.id))
        await client.delete(generation.id)  # the lease must lapse first: no other process may end it
        await conversation.send_text("wer that nobody wants any more")
        tombstone = {connection.keys.meta(generation.id)}
        assert await keys_of(connection, generation.id) == tombstone
        zombie.signal(signal.SIGCONT)
        over = await zombie.logged("attempt_ended")
        assert json.loads(over)["outcome"] == "lost"
        with pytest.raises(ClientError, match="no generation has this id"):
            await client.get(generation.id)
        types = [json.loads(data)["type"] for _, data in (await viewer).entries]
        assert types[-1] == "abort"
        second = scripted.conversation(MODEL)
        after = await client.start("the worker is well")
        await second.send_text("yes")
        await second.finish()
        assert (await client.get(after.id, wait_s=20)).text == "yes"
    assert await keys_of(connection, generation.id) == tombstone
    assert set(await connection.redis.hkeys(connection.keys.meta(generation.id))).isdisjoint({b"request", b"worker"})


async def test_a_redis_that_does_not_answer_is_reported_within_bounded_time(
    tmp_path: Path, scripted: ScriptedProvider
) -> None:
    (tmp_path / "redis").mkdir()
    with start_valkey(tmp_path / "redis") as server:
        async with open_stack(
            tmp_path, redis_url=server.url, provider_url=scripted.base_url, default_model=MODEL, redis_timeout_s=0.5
        ) as stack:
            url = (await stack.front_end()).url
            async with httpx2.AsyncClient(base_url=url, timeout=20) as http:
                known = (await http.post("/v1/generations", json={"prompt": "a"})).json()["id"]
                server.pause()
                path = f"/v1/generations/{known}"
                for method, target, body in (
                    ("POST", "/v1/generations", {"prompt": "b"}),
                    ("GET", "/v1/generations", None),
                    ("GET", path, None),
                    ("GET", f"{path}?wait_s=9", None),
                    ("POST", f"{path}/stop", None),
                    ("DELETE", path, None),
                ):
                    began = time.monotonic()
                    answer = await http.request(method, target, json=body)
                    took_s = time.monotonic() - began
                    print(f"{method} {target.split('?')[0][:20]}: {answer.status_code} after {took_s:.2f} s")
                    assert (answer.status_code, answer.json()["code"]) == (503, "log_unavailable")
                    assert answer.headers["retry-after"] == "1"
                    assert took_s < 8
                assert (await http.get("/healthz")).status_code == 200
                server.resume()
                async with asyncio.timeout(20):
                    while (await http.get(path)).status_code != 200:
                        await asyncio.sleep(0.05)
