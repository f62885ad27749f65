"""Steadiness: what counts as a break, and that steadiness takes one lease."""

from __future__ import annotations

import asyncio
import math
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from broadcaster.log.redis.connect import LogConnection
from broadcaster.log.redis.embedded import EmbeddedServer
from broadcaster.log.redis.steadiness import Steadiness
from tests.conftest import server_binary
from tests.support.log.log_world import until
from tests.support.servers.redis_relay import open_redis_relay

pytestmark = pytest.mark.alone

LEASE_S = 1.0
LONG_S = 60.0


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[EmbeddedServer]:
    server = EmbeddedServer(tmp_path, binary=server_binary())
    await server.start()
    yield server
    await server.stop()


@pytest.fixture
async def steadiness(server: EmbeddedServer) -> AsyncIterator[Steadiness]:
    async with LogConnection(server.url) as connection:
        watched = Steadiness(connection, lease_ttl_s=LEASE_S)
        task = asyncio.create_task(watched.run())
        yield watched
        task.cancel()
        await asyncio.wait({task})


async def test_redis_is_not_steady_before_one_lease_of_replies(steadiness: Steadiness) -> None:
    began = asyncio.get_running_loop().time()
    assert not steadiness.is_steady
    await until(lambda: steadiness.is_steady)
    assert asyncio.get_running_loop().time() - began >= LEASE_S
    assert steadiness.breaks == 0


async def test_a_pause_ends_when_redis_becomes_steady(steadiness: Steadiness, server: EmbeddedServer) -> None:
    assert steadiness.pause_s(LONG_S) == LONG_S  # no reply yet
    await until(steadiness.answering.is_set)
    assert 0 < steadiness.pause_s(LONG_S) <= LEASE_S
    assert steadiness.pause_s(0.001) == 0.001
    await until(lambda: steadiness.is_steady)
    assert steadiness.pause_s(LONG_S) == LONG_S
    await server.stop()
    await until(lambda: steadiness.breaks == 1)
    assert steadiness.pause_s(LONG_S) == LONG_S


async def test_a_paused_redis_is_a_break(steadiness: Steadiness, server: EmbeddedServer) -> None:
    await until(lambda: steadiness.is_steady)
    assert server.pid is not None
    os.kill(server.pid, signal.SIGSTOP)
    try:
        await until(lambda: not steadiness.is_steady)
    finally:
        os.kill(server.pid, signal.SIGCONT)
    await until(steadiness.answering.is_set)
    assert steadiness.breaks == 1
    assert not steadiness.is_steady


async def test_a_restart_is_a_break_also_when_every_probe_was_answered(
    steadiness: Steadiness, server: EmbeddedServer
) -> None:
    await until(lambda: steadiness.is_steady)
    await server.stop()
    await server.start()
    await until(lambda: steadiness.breaks == 1)
    assert not steadiness.is_steady


async def test_a_connection_that_was_silently_replaced_is_a_break(
    steadiness: Steadiness, server: EmbeddedServer
) -> None:
    await until(lambda: steadiness.is_steady)
    async with LogConnection(server.url) as other:
        await other.redis.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    await until(lambda: steadiness.breaks == 1)


async def test_our_own_stand_still_is_a_break(steadiness: Steadiness) -> None:
    await until(lambda: steadiness.is_steady)
    pause = asyncio.get_running_loop().time() + LEASE_S
    while asyncio.get_running_loop().time() < pause:  # the event loop is blocked: that is the fault
        pass
    assert not steadiness.is_steady  # for a caller in the same turn, before any probe
    await until(lambda: steadiness.breaks == 1)


async def test_a_lease_has_been_answered_for_when_it_is_over(steadiness: Steadiness) -> None:
    loop = asyncio.get_running_loop()
    began = loop.time()
    await until(lambda: steadiness.has_answered_for(0.8))
    assert loop.time() - began >= 0.8
    assert not steadiness.has_answered_for(loop.time() - began + LEASE_S)


async def test_a_silence_that_is_no_break_counts_against_leases_that_it_may_have_cost(steadiness: Steadiness) -> None:
    await until(lambda: steadiness.has_answered_for(1.2))
    pause = asyncio.get_running_loop().time() + 0.14
    while asyncio.get_running_loop().time() < pause:  # the event loop is blocked, not for long
        pass
    await asyncio.sleep(0)
    await until(lambda: not steadiness.has_answered_for(0.4))
    assert steadiness.has_answered_for(1.2)
    await until(lambda: steadiness.has_answered_for(0.4))
    assert steadiness.breaks == 0


async def test_a_redis_that_takes_no_writes_is_a_break(steadiness: Steadiness, server: EmbeddedServer) -> None:
    """Reads are answered all the while, but no lease can be renewed."""
    await until(lambda: steadiness.is_steady)
    async with LogConnection(server.url) as other:
        await other.redis.execute_command("CLIENT", "PAUSE", 800, "WRITE")
    await until(lambda: not steadiness.is_steady)
    assert steadiness.breaks >= 1


async def test_a_full_redis_is_no_break(steadiness: Steadiness, server: EmbeddedServer) -> None:
    async with LogConnection(server.url) as other:
        await other.redis.config_set("maxmemory", 1)
        await until(lambda: steadiness.is_steady)
    assert steadiness.breaks == 0


@pytest.mark.parametrize("is_back", [True, False], ids=["and it is back", "and it is away still"])
async def test_a_caller_that_confirms_sees_a_break_of_the_last_moment(server: EmbeddedServer, *, is_back: bool) -> None:
    """Between two probes Redis may have been replaced: a caller that claims probes first."""
    async with LogConnection(server.url) as connection:
        steadiness = Steadiness(connection, lease_ttl_s=60)  # which probes every half a second
        task = asyncio.create_task(steadiness.run())
        await until(steadiness.answering.is_set)
        await steadiness.confirm()
        assert (steadiness.breaks, steadiness.answered_s) == (0, math.inf)
        await server.stop()
        if is_back:
            await server.start()
        await steadiness.confirm()
        assert (steadiness.breaks, steadiness.answered_s) == (1, 0)
        task.cancel()
        await asyncio.wait({task})


async def probes(server: EmbeddedServer) -> int:
    async with LogConnection(server.url) as other:
        found: dict[str, dict[str, int]] = await other.redis.info("commandstats")
    return found["cmdstat_client|id"]["calls"] if "cmdstat_client|id" in found else 0


async def test_many_requests_for_unknown_streams_share_a_probe_and_break_nothing(
    server: EmbeddedServer,
) -> None:
    async with LogConnection(server.url) as connection:
        steadiness = Steadiness(connection, lease_ttl_s=60)  # which probes every half a second
        task = asyncio.create_task(steadiness.run())
        await until(steadiness.answering.is_set)
        before = await probes(server)
        async with asyncio.timeout(20):
            await asyncio.gather(*(steadiness.check_unknown() for _ in range(1000)))
        assert await probes(server) - before < 20
        assert steadiness.breaks == 0
        task.cancel()
        await asyncio.wait({task})


async def test_a_caller_during_a_probe_gets_the_result_of_one_that_begins_after(server: EmbeddedServer) -> None:
    async with open_redis_relay(server.url) as relay, LogConnection(relay.url) as connection:
        steadiness = Steadiness(connection, lease_ttl_s=60)
        relay.hold_at(b"CLIENT")
        task = asyncio.create_task(steadiness.run())
        async with asyncio.timeout(20):
            await relay.held.wait()
        others = [asyncio.create_task(steadiness.confirm()) for _ in range(10)]
        await asyncio.sleep(0)
        others[0].cancel()  # cancelling one caller does not cancel the shared probe
        relay.resume()
        async with asyncio.timeout(20):
            await asyncio.gather(*others[1:])
        assert await probes(server) in (2, 3)  # the loop's own next one may have come
        task.cancel()
        await asyncio.wait({task})
