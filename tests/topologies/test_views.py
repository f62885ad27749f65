"""Whom a topology believes when servers tell different things."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final

import pytest

from broadcaster.log.redis_url import RedisUrl
from broadcaster.log.topology import Topology, create_topology
from broadcaster.log.topology_watch import TopologyTimes
from tests.support.feed_log import DEADLINE_S, until
from tests.support.telling_server import Answer, TellingServer, open_telling

TIMES: Final = TopologyTimes(every_s=0.05, ask_s=0.5, pause_s=0.01, pause_cap_s=0.05)
PRIMARY: Final[Answer] = [b"master", 0, []]
REPLICA: Final[Answer] = [b"slave", b"127.0.0.1", 1, b"connected", 0]
ASKED: Final = "SENTINEL MASTER s"


def view(epoch: int, primary: TellingServer) -> Answer:
    """A sentinel's word: ``primary`` since the failover number ``epoch``."""
    return [b"name", b"s", b"ip", b"127.0.0.1", b"port", b"%d" % primary.port, b"config-epoch", b"%d" % epoch]


def name(server: TellingServer) -> str:
    return f"127.0.0.1:{server.port}"


@asynccontextmanager
async def following(scheme: str, seeds: Sequence[TellingServer], path: str = "") -> AsyncIterator[Topology]:
    """The topology of these seeds, kept current."""
    url = f"redis+{scheme}://{','.join(name(seed) for seed in seeds)}{path}"
    topology = create_topology(RedisUrl.parse(url), times=TIMES, rng=random.Random(1))
    running = asyncio.create_task(topology.run())
    try:
        yield topology
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def looks(server: TellingServer, count: int = 3) -> None:
    """So many more looks have come by this server."""
    seen = len(server.asked)
    await until(lambda: len(server.asked) >= seen + count)


@pytest.fixture
async def nodes() -> AsyncIterator[tuple[TellingServer, TellingServer]]:
    """Two data nodes that both say they are primaries: the second took over and the first does not know it."""
    async with open_telling(ROLE=PRIMARY) as old, open_telling(ROLE=PRIMARY) as new:
        yield old, new


@pytest.fixture
async def sentinels() -> AsyncIterator[list[TellingServer]]:
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(open_telling()) for _ in range(3)]


async def test_sentinels_that_tell_of_the_past_are_not_followed_while_one_is_silent(
    nodes: tuple[TellingServer, TellingServer], sentinels: list[TellingServer]
) -> None:
    old, new = nodes
    for sentinel in sentinels:
        sentinel.answers[ASKED] = view(2, new)
    async with following("sentinel", sentinels, "/s") as topology:
        await until(lambda: topology.nodes == (name(new),))
        changes: list[tuple[str, ...]] = []
        topology.on_change(lambda: changes.append(topology.nodes))

        leader, *others = sentinels
        del leader.answers[ASKED]
        for sentinel in others:
            sentinel.answers[ASKED] = view(1, old)
        await looks(new, 2)
        assert (topology.nodes, changes) == ((name(new),), [])

        del new.answers["ROLE"]  # nor while the primary is silent, too
        await looks(new, 2)
        assert (topology.nodes, changes) == ((name(new),), [])

        new.answers["ROLE"] = REPLICA  # then the past is the best that is known
        await until(lambda: topology.nodes == (name(old),))


async def test_sentinels_whose_epochs_were_reset_are_followed(
    nodes: tuple[TellingServer, TellingServer], sentinels: list[TellingServer]
) -> None:
    old, new = nodes
    for sentinel in sentinels:
        sentinel.answers[ASKED] = view(2, old)
    async with following("sentinel", sentinels, "/s") as topology:
        await until(lambda: topology.nodes == (name(old),))
        for sentinel in sentinels:
            sentinel.answers[ASKED] = view(0, new)
        await until(lambda: topology.nodes == (name(new),))


async def test_nobody_is_dialled_that_does_not_call_itself_the_primary(
    nodes: tuple[TellingServer, TellingServer], sentinels: list[TellingServer]
) -> None:
    _, new = nodes
    new.answers["ROLE"] = REPLICA
    for sentinel in sentinels:
        sentinel.answers[ASKED] = view(2, new)
    async with following("sentinel", sentinels, "/s") as topology:
        await looks(new)
        assert (topology.nodes, topology.node_of("k")) == ((), None)

        new.answers["ROLE"] = PRIMARY
        await until(lambda: topology.nodes == (name(new),))

        new.answers["ROLE"] = REPLICA
        await until(lambda: topology.nodes == ())


async def test_a_primary_that_does_not_answer_is_kept_until_another_is_named(
    nodes: tuple[TellingServer, TellingServer], sentinels: list[TellingServer]
) -> None:
    old, new = nodes
    for sentinel in sentinels:
        sentinel.answers[ASKED] = view(1, old)
    async with following("sentinel", sentinels, "/s") as topology:
        await until(lambda: topology.nodes == (name(old),))
        del old.answers["ROLE"]
        await looks(old)
        assert topology.nodes == (name(old),)

        sentinels[0].answers[ASKED] = view(2, new)  # the first good answer counts
        await until(lambda: topology.nodes == (name(new),))


async def test_a_word_of_a_sentinel_is_acted_on_at_once(
    nodes: tuple[TellingServer, TellingServer], sentinels: list[TellingServer]
) -> None:
    old, new = nodes
    for sentinel in sentinels:
        sentinel.answers[ASKED] = view(1, old)
        sentinel.answers["SUBSCRIBE +switch-master"] = [b"subscribe", b"+switch-master", 1]
    url = RedisUrl.parse(f"redis+sentinel://{','.join(map(name, sentinels))}/s")
    seldom = TopologyTimes(every_s=3600.0, ask_s=0.5, pause_s=0.01)
    topology = create_topology(url, times=seldom)
    async with asyncio.timeout(DEADLINE_S), asyncio.TaskGroup() as tasks:
        running = tasks.create_task(topology.run())
        await until(lambda: any("SUBSCRIBE +switch-master" in each.asked for each in sentinels))
        await until(lambda: topology.nodes == (name(old),))
        heard = next(each for each in sentinels if "SUBSCRIBE +switch-master" in each.asked)
        await until(lambda: sum(each.asked.count(ASKED) for each in sentinels) >= 4)  # the look after the subscription
        for sentinel in sentinels:
            sentinel.answers[ASKED] = view(2, new)

        heard.say([b"message", b"+switch-master", b"s ..."])

        await until(lambda: topology.nodes == (name(new),))
        running.cancel()


async def test_a_node_that_is_cut_off_is_not_believed_beside_one_that_is_well() -> None:
    async with open_telling() as first, open_telling() as second, open_telling() as third:
        well, cut_off = slots(second), slots(first)
        for server in (first, third):
            server.answers |= {"CLUSTER INFO": b"cluster_state:fail", "CLUSTER SLOTS": cut_off}
        second.answers |= {"CLUSTER INFO": b"cluster_state:ok", "CLUSTER SLOTS": well}
        async with following("cluster", [first, second, third]) as topology:
            await until(lambda: topology.nodes == (name(second),))
            changes: list[None] = []
            topology.on_change(lambda: changes.append(None))
            await looks(first, 20)
            assert changes == []

            second.answers["CLUSTER INFO"] = b"cluster_state:fail"  # nobody is well: any view is better than none
            await looks(first, 20)
            assert topology.nodes


async def test_a_node_that_was_reset_and_one_that_hangs_change_nothing() -> None:
    async with open_telling() as first, open_telling() as reset, open_telling() as hung:
        first.answers |= {"CLUSTER INFO": b"cluster_state:ok", "CLUSTER SLOTS": slots(first)}
        reset.answers |= {"CLUSTER INFO": b"cluster_state:ok", "CLUSTER SLOTS": []}
        async with following("cluster", [first, reset, hung]) as topology:
            await until(lambda: topology.nodes == (name(first),))
            del first.answers["CLUSTER SLOTS"]
            await looks(first)
            await looks(reset)
            assert topology.nodes == (name(first),)


def slots(primary: TellingServer) -> Answer:
    """A view in which one node serves all."""
    return [[0, 16383, [b"127.0.0.1", primary.port, b"id"]]]
