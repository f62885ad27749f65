"""Redis answers nothing, or only some: paused, stopped, full. No worker takes over, nothing is lost, all are notified.

Workers go on into their buffers. A generation cannot be requested meanwhile: the error has a code and a delay.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import pytest
from redis.asyncio import Redis

from broadcaster.client import AsyncClient
from broadcaster.testing import Script
from tests.faults.figures import Figures
from tests.faults.http_post import post
from tests.faults.redis.redis_trouble import (
    LEASE_S,
    Answer,
    begin,
    gaps,
    judge,
    mark,
    open_system,
    repaired,
    send_more,
    tellings,
    until,
    until_so,
)
from tests.faults.world import FaultWorld
from tests.support.log.valkey import ValkeyServer

TWO_LEASES_S: Final = 2 * LEASE_S + 0.5
REDIS_TIMEOUT_S: Final = 1.0


@pytest.mark.second_engine
async def test_a_redis_that_stands_still_for_two_leases_costs_no_attempt_and_no_event(
    tmp_path: Path, server: ValkeyServer, rounds: int, figures: Figures
) -> None:
    async with open_system(tmp_path, server, redis_timeout_s=REDIS_TIMEOUT_S) as world:
        for _ in range(rounds):
            for silence in (stopped, paused_for_writes, paused_for_all):
                answers = await begin(world, 3)
                answers[2].talk.is_silent = True
                marks = mark(answers)
                async with silence(world, server):
                    began = time.monotonic()
                    await until(lambda: time.monotonic() - began > TWO_LEASES_S)  # noqa: B023
                name = silence.__name__.replace("_", " ")
                figures.add(f"repair after Redis was {name}", await repaired(answers, since=marks), "s")
                answers[2].talk.is_silent = False
                await send_more(answers)
                await repaired(answers)
                assert [each.talk.starts for each in answers] == [1] * 3, name
                assert gaps(answers) == []
                await judge(world, figures, answers)


@asynccontextmanager
async def stopped(world: FaultWorld, server: ValkeyServer) -> AsyncIterator[None]:
    server.pause()
    try:
        yield
    finally:
        server.resume()


@asynccontextmanager
async def paused_for_writes(world: FaultWorld, server: ValkeyServer) -> AsyncIterator[None]:
    async with paused(world, "WRITE"):
        yield


@asynccontextmanager
async def paused_for_all(world: FaultWorld, server: ValkeyServer) -> AsyncIterator[None]:
    async with paused(world, "ALL"):
        yield


@asynccontextmanager
async def paused(world: FaultWorld, mode: str) -> AsyncIterator[None]:
    """It ends by itself: during a pause of all, no process could end it."""
    await world.connection.redis.execute_command("CLIENT", "PAUSE", int(TWO_LEASES_S * 1000), mode)
    yield


@pytest.mark.second_engine
async def test_a_full_redis_loses_nothing_and_refuses_new_generations_with_a_reason(
    tmp_path: Path, server: ValkeyServer, rounds: int, figures: Figures
) -> None:
    async with open_system(tmp_path, server) as world:
        for _ in range(rounds):
            answers = await begin(world, 3)
            marks = mark(answers)
            await world.connection.redis.config_set("maxmemory", 1)
            await send_more(answers, int(1.5 * LEASE_S / answers[0].talk.every_s))
            refused = await post(world.urls[0], "/v1/generations", {"prompt": "hi"})
            assert (refused.status, refused.document["code"], refused.headers["retry-after"]) == (
                503,
                "log_unavailable",
                "1",
            )
            sizes = [await world.connection.redis.xlen(world.connection.keys.log(each.stream)) for each in answers]
            await world.connection.redis.config_set("maxmemory", 0)
            figures.add("repair after Redis was full", await repaired(answers, since=marks), "s")
            assert all(size < each.talk.sent for size, each in zip(sizes, answers, strict=True))
            assert [each.talk.starts for each in answers] == [1] * 3
            assert tellings(answers) == []
            await judge(world, figures, answers)


@pytest.mark.second_engine
async def test_a_worker_that_stands_still_for_a_lease_while_redis_is_full_keeps_its_streams(
    tmp_path: Path, server: ValkeyServer, figures: Figures
) -> None:
    """Its leases lapse, but the other worker cannot claim anything before there is memory."""
    async with open_system(tmp_path, server, workers=1) as world:
        answers, redis, (worker,) = await begin(world, 2), world.connection.redis, world.workers
        leases = [world.connection.keys.lease(each.stream) for each in answers]
        await world.worker()
        await redis.config_set("maxmemory", 1)
        worker.signal(signal.SIGSTOP)
        await until_so(lambda: are_there(redis, leases, 0))
        worker.signal(signal.SIGCONT)
        await until_so(lambda: are_there(redis, leases, 2))
        await redis.config_set("maxmemory", 0)
        await send_more(answers)
        await repaired(answers)
        assert [each.talk.starts for each in answers] == [1] * 2
        await judge(world, figures, answers)


async def are_there(redis: Redis, keys: list[str], count: int) -> bool:
    return int(await redis.exists(*keys)) == count


async def test_a_generation_that_waits_while_redis_is_full_starts_when_it_is_not(
    tmp_path: Path, server: ValkeyServer, figures: Figures
) -> None:
    """Longer than the stall time-out: workers of a full Redis live, and what waits is not ended for want of one."""
    async with open_system(tmp_path, server, workers=1, stall_timeout_s=LEASE_S + 0.5, concurrency=1) as world:
        (running,) = await begin(world, 1)
        async with AsyncClient(world.urls[0]) as client:
            world.scripted.script("claude-waits", Script.of_text("well"))
            waiting = (await client.start("hi", model="claude-waits")).id
            world.streams.append(waiting)
            viewers = world.view(waiting, 2)
            await until(lambda: all("hub.hello" in viewer.notices for viewer in viewers))
            await world.connection.redis.config_set("maxmemory", 1)
            began = time.monotonic()
            await until(lambda: time.monotonic() - began > TWO_LEASES_S + 0.5)
            await world.connection.redis.config_set("maxmemory", 0)
            await repaired([running])
            running.talk.finish()
            await until(lambda: all(viewer.is_over.is_set() for viewer in viewers), 15)
            assert (await client.get(waiting)).status == "finished"
        await judge(world, figures, [running])


async def test_a_redis_that_is_away_is_reported_to_callers_and_to_viewers(
    tmp_path: Path, server: ValkeyServer, figures: Figures
) -> None:
    async with open_system(tmp_path, server, workers=1, redis_timeout_s=REDIS_TIMEOUT_S) as world:
        (answer,) = await begin(world, 1)
        for silence in ("killed", "stopped"):
            server.kill() if silence == "killed" else server.pause()
            for path, body in (("/v1/generations", {"prompt": "hi"}),):
                refused = await post(world.urls[0], path, body)
                assert (refused.status, "retry-after" in refused.headers) == (503, True), path
                assert b"log_unavailable" in refused.body, path
            since = mark([answer])[0]
            late = world.view(answer.stream)[0]
            await are_notified(answer, since)
            # It may connect before the room that it joins is notified.
            await until(lambda late=late: bool({"hub.bye", "hub.stalled"} & set(late.notices)), 15)  # type: ignore[misc]
            await asyncio.to_thread(server.start) if silence == "killed" else server.resume()
            answer.viewers.append(late)
            await repaired([answer])
            await send_more([answer])
            await repaired([answer])
        await judge(world, figures, [answer])


async def are_notified(answer: Answer, since: list[int]) -> None:
    """Until every viewer that was there was notified that Redis is away."""

    def is_so() -> bool:
        rows = zip(answer.viewers, since, strict=True)
        return all(
            "hub.stalled" in [getattr(each, "name", "") for each in viewer.trace.happenings[at:]] for viewer, at in rows
        )

    await until(is_so)


async def test_a_buffer_that_redis_outlasts_ends_the_answer_with_stream_full_and_grows_no_more(
    tmp_path: Path, server: ValkeyServer, figures: Figures
) -> None:
    async with open_system(tmp_path, server, workers=1, max_bytes=200_000) as world:
        (answer,) = await begin(world, 1)
        server.pause()
        answer.talk.burst = 50_000
        await until(lambda: answer.talk.is_over.is_set(), 20)  # its provider was hung up on
        size = resident_bytes(world.workers[0].pid)
        began = time.monotonic()
        await until(lambda: time.monotonic() - began > 1.0)
        figures.add("growth of a worker whose buffer is full", resident_bytes(world.workers[0].pid) - size, "bytes")
        assert resident_bytes(world.workers[0].pid) - size < 2**20
        server.resume()
        figures.add("end sent after a full buffer", await repaired([answer]), "s")
        history = await judge(world, figures, [answer])
        last = history.log[answer.stream][-1].event
        assert b'"code":"stream_full"' in last


def resident_bytes(pid: int) -> int:
    """Memory of a process that is in RAM."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
