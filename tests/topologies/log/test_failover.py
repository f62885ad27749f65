"""A primary is killed or hangs under appends: nothing acknowledged is lost, and no other worker takes anything over."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest

from broadcaster.errors import LogUnavailable
from broadcaster.log.jobs.claims import Outcome
from broadcaster.log.jobs.generations import GenerationRequest
from broadcaster.log.redis.connect import LogConnection
from broadcaster.log.redis.keys import KeyNames
from broadcaster.log.redis.steadiness import Steadiness
from broadcaster.log.redis.topology.sentinel import STALE_S
from tests.support.log.log_world import TENANT, World, until
from tests.support.log.redis_cluster import ClusterNode, RedisCluster6
from tests.support.log.redis_sentinel import DataNode, Sentinels, wait_until
from tests.topologies.log.appending import BACK_S, Running, running

STREAMS = 12
FAILOVER_S = 60.0
HANGS_S = 30.0
"""What a call may take at a server that hangs: longer than anything here."""
LONG_LEASE_MS = 60_000
SOON_S = 5.0
"""From a failover until every stream is written again: a refresh, every second, and a new connection."""
REQUEST = GenerationRequest(model="m", request={"messages": []})


@pytest.fixture
async def other(at_sentinels: LogConnection) -> AsyncIterator[World]:
    """Another worker, which would take over what it may."""
    async with LogConnection(at_sentinels.url, timeout_s=2.0, patience_s=0) as opened:
        yield World(opened, worker="w2", lease_ms=3000)


async def test_behind_sentinels_nothing_is_lost_or_taken_over_when_the_primary_is_killed(
    sentinels: Sentinels, at_sentinels: LogConnection, other: World
) -> None:
    ids = [await World(at_sentinels).create() for _ in range(STREAMS)]
    async with running(at_sentinels, ids) as run, asyncio.TaskGroup() as group:
        watching = group.create_task(other.steadiness.run())
        taking = group.create_task(_take_over_what_may_be(other, ids))
        await until(lambda: other.steadiness.is_steady, BACK_S)
        breaks = other.steadiness.breaks

        sentinels.primary.kill()
        # What it had answered before still arrives: only after the break is an append one of its successor's.
        await until(lambda: other.steadiness.breaks > breaks, BACK_S)
        back_s = await run.appended(1)

        await until(lambda: other.steadiness.is_steady, BACK_S)
        await run.appended(10)
        watching.cancel()
        taking.cancel()
    _report("sentinel", back_s, run)


async def test_on_a_cluster_nothing_is_lost_when_the_primary_of_some_streams_is_killed(
    cluster: RedisCluster6, at_cluster: LogConnection
) -> None:
    servers: dict[str, str] = {}
    while len(servers) < STREAMS or len(set(servers.values())) < 3:  # where an id lies is chance
        stream_id = await World(at_cluster).create()
        servers[stream_id] = at_cluster.server_of(at_cluster.keys.log(stream_id))
    ids = [*servers]
    async with running(at_cluster, ids) as run:
        steady = run.world.steadiness
        await until(lambda: steady.is_steady, BACK_S)
        killed = cluster.primary_of(at_cluster.keys.log(ids[0]))
        breaks = steady.breaks

        cluster.kill(killed)
        await until(lambda: steady.breaks > breaks, BACK_S)
        back_s = await run.appended(1)

        await run.appended(10)
    _report("cluster", back_s, run)
    healthy_s = max(run.longest_s[each] for each in ids if servers[each] != killed.name)
    assert healthy_s < back_s / 2, "streams of the other primaries waited for the one that was gone"


async def test_behind_sentinels_a_primary_that_hangs_and_is_replaced_costs_no_answer(
    sentinels: Sentinels, other: World
) -> None:
    async with LogConnection(sentinels.url, timeout_s=HANGS_S, patience_s=0) as connection:
        ids = [await World(connection).create() for _ in range(STREAMS)]
        old = sentinels.primary
        await _outlives(connection, other, ids, hung=old, wait_failover=lambda: sentinels.wait_failover(FAILOVER_S))


async def test_on_a_cluster_a_primary_that_hangs_and_is_replaced_costs_no_answer(cluster: RedisCluster6) -> None:
    async with (
        LogConnection(cluster.url, timeout_s=HANGS_S, patience_s=0) as connection,
        LogConnection(cluster.url, timeout_s=2.0, patience_s=0) as beside,
    ):
        old = cluster.primaries[0]
        new = cluster.replica_of(old)
        ids: list[str] = []
        while len(ids) < STREAMS / 3:  # where an id lies is chance
            created = await World(connection).create()
            if connection.server_of(KeyNames("bc").log(created)) == old.name:
                ids.append(created)

        def wait_failover() -> ClusterNode:
            wait_until(lambda: cluster.primary_of(KeyNames("bc").log(ids[0])) is new, FAILOVER_S, "no failover")
            return new

        other = World(beside, worker="w2", lease_ms=3000)
        await _outlives(connection, other, ids, hung=old, wait_failover=wait_failover)


async def test_a_start_waits_for_the_failover_of_the_queues_primary(cluster: RedisCluster6) -> None:
    async with LogConnection(cluster.url, timeout_s=BACK_S) as connection:
        world = World(connection)
        await world.create()

        cluster.kill(cluster.primary_of(KeyNames("bc").ready))
        created = await world.generations.create(REQUEST, tenant=TENANT, idempotency_key="k")

        meta = await world.generations.get(created.id, tenant=TENANT)
        assert meta.status == "queued"


async def test_a_paused_primary_is_left_for_the_one_that_replaced_it(
    sentinels: Sentinels, at_sentinels: LogConnection
) -> None:
    world = World(at_sentinels)
    await world.create()
    old = sentinels.primary

    old.pause()
    paused_at = asyncio.get_running_loop().time()
    sentinels.wait_failover(BACK_S)
    await until(lambda: asyncio.get_running_loop().time() - paused_at > STALE_S)
    old.resume()  # for seconds it accepts writes, until a Sentinel has reconfigured it
    stream_id = await world.create()

    assert at_sentinels.server_of("any").endswith(f":{sentinels.primary.port}")
    assert sentinels.primary is not old
    assert sentinels.primary.execute("EXISTS", world.keys.meta(stream_id)) == 1


async def test_the_exchange_of_a_primary_is_a_break_though_every_server_answers(cluster: RedisCluster6) -> None:
    async with LogConnection(cluster.url, timeout_s=2.0) as connection:
        steadiness = Steadiness(connection, lease_ttl_s=2.0)
        task = asyncio.create_task(steadiness.run())
        await until(lambda: steadiness.is_steady, BACK_S)
        breaks = steadiness.breaks

        await asyncio.to_thread(cluster.hand_over, cluster.replica_of(cluster.primaries[0]), BACK_S)

        await until(lambda: steadiness.breaks > breaks, BACK_S)
        assert not steadiness.is_steady
        await until(lambda: steadiness.is_steady, BACK_S)
        task.cancel()


async def _outlives(
    connection: LogConnection,
    other: World,
    ids: list[str],
    *,
    hung: DataNode | ClusterNode,
    wait_failover: Callable[[], DataNode | ClusterNode],
) -> None:
    """The primary stands still: its connections stay established, and what was sent there is never answered.

    The first answer is another worker's, with a lease so long that one renewal hangs, or is waited for, all the time.
    """
    loop = asyncio.get_running_loop()
    first, *rest = ids
    seldom = World(connection, worker="seldom", lease_ms=LONG_LEASE_MS)
    claim = await seldom.claim(first)
    async with seldom.appender() as appender, running(connection, rest) as run, asyncio.TaskGroup() as group:
        keeper = seldom.keeper(appender, is_patient=False)
        await seldom.writer(first, claim, appender, keeper)
        tasks = [group.create_task(other.steadiness.run()), group.create_task(_take_over_what_may_be(other, ids))]
        await until(lambda: other.steadiness.is_steady, BACK_S)
        hung_at = loop.time()
        hung.pause()
        try:
            tasks.append(group.create_task(keeper.run()))
            new = await asyncio.to_thread(wait_failover)
            switched_at = loop.time()
            lease = seldom.keys.lease(first)
            async with asyncio.timeout(SOON_S):
                back_s = await run.appended(1)
                while loop.time() - _renewed_s_ago(new, lease) < hung_at + 0.5:
                    await asyncio.sleep(0.05)
            renewed_s = loop.time() - switched_at
            await until(lambda: other.steadiness.is_steady, BACK_S)
        finally:
            hung.resume()
        await run.appended(10)
        for task in tasks:
            task.cancel()
    print(f"after the failover: every stream appended again within {back_s:.2f} s, renewed within {renewed_s:.2f} s")


def _renewed_s_ago(server: DataNode | ClusterNode, lease: str) -> float:
    return (LONG_LEASE_MS - int(server.execute("PTTL", lease))) / 1000


async def _take_over_what_may_be(world: World, ids: list[str]) -> None:
    """What a worker does with jobs that seem abandoned: claim them, if it has seen Redis answer for a lease."""
    while True:
        for each in ids:
            try:
                claim = await world.claim(each, may_take_over=world.steadiness.is_steady)
            except LogUnavailable:
                continue
            assert claim.outcome is Outcome.LEASED or not world.steadiness.is_steady
            assert claim.outcome is not Outcome.GRANTED
        await asyncio.sleep(0.05)


def _report(kind: str, back_s: float, run: Running) -> None:
    longest_s = max(run.longest_s.values())
    print(f"{kind}: every stream appended again {back_s:.2f} s after the kill; longest {longest_s:.2f} s")
