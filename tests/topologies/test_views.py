"""Which view counts when servers disagree, and what changes a topology at once."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final

import pytest
from redis import exceptions as rex

from broadcaster.log.redis.topology.cluster import ClusterTopology
from broadcaster.log.redis.topology.key_slots import SLOTS, slot_of
from broadcaster.log.redis.topology.nodes import NodeLimits
from broadcaster.log.redis.topology.placed_client import PlacedRedis
from broadcaster.log.redis.topology.refresh import TopologyTimes
from broadcaster.log.redis.topology.sentinel import SentinelTopology
from broadcaster.log.redis.topology.topology import SingleTopology, create_topology
from broadcaster.log.redis.url import RedisUrl
from tests.support.log.tail_world import DEADLINE_S, until
from tests.support.servers.scripted_server import Reply, ScriptedServer, open_scripted

TIMES: Final = TopologyTimes(every_s=0.05, query_s=0.5, pause_s=0.01, pause_cap_s=0.05)
SELDOM: Final = TopologyTimes(every_s=3600.0, query_s=0.5, pause_s=0.01)
PRIMARY: Final[Reply] = [b"master", 0, []]
REPLICA: Final[Reply] = [b"slave", b"127.0.0.1", 1, b"connected", 0]
QUERY: Final = "SENTINEL MASTER s"


def view(epoch: int, primary: ScriptedServer) -> Reply:
    """A Sentinel's view: ``primary`` since the failover number ``epoch``."""
    return [b"name", b"s", b"ip", b"127.0.0.1", b"port", b"%d" % primary.port, b"config-epoch", b"%d" % epoch]


def name(server: ScriptedServer) -> str:
    return f"127.0.0.1:{server.port}"


@asynccontextmanager
async def following(
    scheme: str, seeds: Sequence[ScriptedServer], path: str = "", *, times: TopologyTimes = TIMES
) -> AsyncIterator[SentinelTopology | ClusterTopology]:
    """The topology of these seeds, kept current."""
    url = f"redis+{scheme}://{','.join(name(seed) for seed in seeds)}{path}"
    topology = create_topology(RedisUrl.parse(url), times=times, rng=random.Random(1))
    assert not isinstance(topology, SingleTopology)
    running = asyncio.create_task(topology.run())
    try:
        yield topology
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await topology.aclose()


async def refreshes(server: ScriptedServer, count: int = 3) -> None:
    """So many more queries have reached this server."""
    seen = len(server.received)
    await until(lambda: len(server.received) >= seen + count)


@pytest.fixture
async def nodes() -> AsyncIterator[tuple[ScriptedServer, ScriptedServer]]:
    """Two data nodes that both report to be primaries: the second took over, and the first does not know it."""
    async with open_scripted(ROLE=PRIMARY) as old, open_scripted(ROLE=PRIMARY) as new:
        yield old, new


@pytest.fixture
async def sentinels() -> AsyncIterator[list[ScriptedServer]]:
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(open_scripted()) for _ in range(3)]


async def test_sentinels_with_an_outdated_view_are_not_followed_while_one_is_silent(
    nodes: tuple[ScriptedServer, ScriptedServer], sentinels: list[ScriptedServer]
) -> None:
    old, new = nodes
    for sentinel in sentinels:
        sentinel.replies[QUERY] = view(2, new)
    async with following("sentinel", sentinels, "/s") as topology:
        await until(lambda: topology.nodes == (name(new),))
        changes: list[tuple[str, ...]] = []
        topology.on_change(lambda: changes.append(topology.nodes))

        leader, *others = sentinels
        del leader.replies[QUERY]
        for sentinel in others:
            sentinel.replies[QUERY] = view(1, old)
        await refreshes(new, 2)
        assert (topology.nodes, changes) == ((name(new),), [])

        del new.replies["ROLE"]  # nor while the primary is silent, too
        await refreshes(new, 2)
        assert (topology.nodes, changes) == ((name(new),), [])

        new.replies["ROLE"] = REPLICA  # then the outdated view is the best that is known
        await until(lambda: topology.nodes == (name(old),))


async def test_sentinels_whose_epochs_were_reset_are_followed(
    nodes: tuple[ScriptedServer, ScriptedServer], sentinels: list[ScriptedServer]
) -> None:
    old, new = nodes
    for sentinel in sentinels:
        sentinel.replies[QUERY] = view(2, old)
    async with following("sentinel", sentinels, "/s") as topology:
        await until(lambda: topology.nodes == (name(old),))
        for sentinel in sentinels:
            sentinel.replies[QUERY] = view(0, new)
        await until(lambda: topology.nodes == (name(new),))


async def test_a_server_that_reports_to_be_a_replica_is_not_dialled(
    nodes: tuple[ScriptedServer, ScriptedServer], sentinels: list[ScriptedServer]
) -> None:
    _, new = nodes
    new.replies["ROLE"] = REPLICA
    for sentinel in sentinels:
        sentinel.replies[QUERY] = view(2, new)
    async with following("sentinel", sentinels, "/s") as topology:
        await refreshes(new)
        assert (topology.nodes, topology.node_of("k")) == ((), None)

        new.replies["ROLE"] = PRIMARY
        await until(lambda: topology.nodes == (name(new),))

        new.replies["ROLE"] = REPLICA
        await until(lambda: topology.nodes == ())


async def test_a_primary_that_does_not_answer_is_kept_until_another_is_named(
    nodes: tuple[ScriptedServer, ScriptedServer], sentinels: list[ScriptedServer]
) -> None:
    old, new = nodes
    for sentinel in sentinels:
        sentinel.replies[QUERY] = view(1, old)
    async with following("sentinel", sentinels, "/s") as topology:
        await until(lambda: topology.nodes == (name(old),))
        del old.replies["ROLE"]
        await refreshes(old)
        assert topology.nodes == (name(old),)

        sentinels[0].replies[QUERY] = view(2, new)  # the newest view counts
        await until(lambda: topology.nodes == (name(new),))


async def test_a_notice_of_a_sentinel_is_acted_on_at_once(
    nodes: tuple[ScriptedServer, ScriptedServer], sentinels: list[ScriptedServer]
) -> None:
    old, new = nodes
    for sentinel in sentinels:
        sentinel.replies[QUERY] = view(1, old)
        sentinel.replies["SUBSCRIBE +switch-master"] = [b"subscribe", b"+switch-master", 1]
    url = RedisUrl.parse(f"redis+sentinel://{','.join(map(name, sentinels))}/s")
    topology = create_topology(url, times=SELDOM)
    async with asyncio.timeout(DEADLINE_S), asyncio.TaskGroup() as tasks:
        running = tasks.create_task(topology.run())
        await until(lambda: any("SUBSCRIBE +switch-master" in each.received for each in sentinels))
        await until(lambda: topology.nodes == (name(old),))
        listened_to = next(each for each in sentinels if "SUBSCRIBE +switch-master" in each.received)
        await until(lambda: sum(each.received.count(QUERY) for each in sentinels) >= 4)  # one after the subscription
        for sentinel in sentinels:
            sentinel.replies[QUERY] = view(2, new)

        listened_to.send([b"message", b"+switch-master", b"s ..."])

        await until(lambda: topology.nodes == (name(new),))
        running.cancel()
    await topology.aclose()


async def test_a_node_that_is_cut_off_is_not_believed_beside_one_that_is_well() -> None:
    async with open_scripted() as first, open_scripted() as second, open_scripted() as third:
        well, cut_off = slots(second), slots(first)
        for server in (first, third):
            server.replies |= {"CLUSTER INFO": b"cluster_state:fail", "CLUSTER SLOTS": cut_off}
        second.replies |= {"CLUSTER INFO": b"cluster_state:ok", "CLUSTER SLOTS": well}
        async with following("cluster", [first, second, third]) as topology:
            await until(lambda: topology.nodes == (name(second),))
            changes: list[None] = []
            topology.on_change(lambda: changes.append(None))
            await refreshes(first, 20)
            assert changes == []

            second.replies["CLUSTER INFO"] = b"cluster_state:fail"  # no node is well: any view is better than none
            await refreshes(first, 20)
            assert topology.nodes


async def test_a_node_that_was_reset_and_one_that_hangs_change_nothing() -> None:
    async with open_scripted() as first, open_scripted() as reset, open_scripted() as hung:
        first.replies |= {"CLUSTER INFO": b"cluster_state:ok", "CLUSTER SLOTS": slots(first)}
        reset.replies |= {"CLUSTER INFO": b"cluster_state:ok", "CLUSTER SLOTS": []}
        async with following("cluster", [first, reset, hung]) as topology:
            await until(lambda: topology.nodes == (name(first),))
            del first.replies["CLUSTER SLOTS"]
            await refreshes(first)
            await refreshes(reset)
            assert topology.nodes == (name(first),)


@asynccontextmanager
async def calling(topology: SentinelTopology | ClusterTopology) -> AsyncIterator[PlacedRedis]:
    """A client of calls over the same topology."""
    limits = NodeLimits(timeout_s=2.0, connect_timeout_s=2.0, max_connections=2)
    client = PlacedRedis(RedisUrl.parse("redis+cluster://127.0.0.1:1"), topology, limits, patience_s=0.0)
    try:
        yield client
    finally:
        await client.aclose()


@pytest.mark.parametrize("is_confirmed", [True, False])
async def test_subscriptions_follow_at_once_when_a_call_is_redirected(*, is_confirmed: bool) -> None:
    """Also when the refresh finds what the redirection has already changed, or takes it back."""
    async with open_scripted() as old, open_scripted(GET=b"v") as new:
        for each in (old, new):
            each.replies |= {"CLUSTER INFO": b"cluster_state:ok", "CLUSTER SLOTS": slots(old)}
        async with following("cluster", [old], times=SELDOM) as topology, calling(topology) as client:
            await until(lambda: topology.nodes == (name(old),))
            changed = asyncio.Event()
            topology.on_change(changed.set)
            old.replies["GET"] = rex.ResponseError(f"MOVED {slot_of('k')} {name(new)}")
            if is_confirmed:
                for each in (old, new):
                    each.replies["CLUSTER SLOTS"] = slots(old, moved=slot_of("k"), target=new)

            assert await client.get("k") == b"v"

            await asyncio.wait_for(changed.wait(), DEADLINE_S)
            assert topology.node_of("k") == name(new if is_confirmed else old)


async def test_subscriptions_follow_at_once_when_a_call_finds_its_server_gone() -> None:
    async with open_scripted() as old, open_scripted() as new:
        for each in (old, new):
            each.replies |= {"CLUSTER INFO": b"cluster_state:ok", "CLUSTER SLOTS": slots(old)}
        async with following("cluster", [old, new], times=SELDOM) as topology, calling(topology) as client:
            await until(lambda: topology.nodes == (name(old),))
            old.replies["GET"] = rex.ResponseError("CLUSTERDOWN The cluster is down")
            for each in (old, new):
                each.replies["CLUSTER SLOTS"] = slots(new)

            with pytest.raises(rex.ClusterDownError):
                await client.get("k")

            await until(lambda: topology.nodes == (name(new),))


def slots(primary: ScriptedServer, *, moved: int | None = None, target: ScriptedServer | None = None) -> Reply:
    """A view in which one node serves all, but for a slot that has moved."""
    if moved is None or target is None:
        return [[0, SLOTS - 1, [b"127.0.0.1", primary.port, b"id"]]]
    first: Reply = [b"127.0.0.1", primary.port, b"id"]
    last: Reply = [b"127.0.0.1", target.port, b"id"]
    return [[0, moved - 1, first], [moved, moved, last], [moved + 1, SLOTS - 1, first]]
