"""Channels and the nodes they belong to: refused, nowhere, moved; what one of them meets costs the others nothing."""

from __future__ import annotations

import asyncio
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from broadcaster.core.cursor import START, Cursor
from broadcaster.core.entry import Entry
from broadcaster.core.notices import StallReason
from broadcaster.log.connect import LogConnection
from broadcaster.log.control import ControlListener
from broadcaster.log.feed import Feed
from broadcaster.log.feed_address import NodeAddress
from broadcaster.log.feed_options import FeedTimes
from broadcaster.log.redis_url import RedisUrl
from broadcaster.log.streams import Streams, Tail
from broadcaster.log.topology import create_topology
from tests.support.feed_log import DEADLINE_S, NEVER_S, PUSHES_ONLY, TAILS, Room, Writer, until
from tests.support.given_topology import GivenTopology
from tests.support.redis_cluster import RedisCluster6
from tests.support.valkey import ValkeyServer, start_valkey

HELD_S = 2.0


@pytest.fixture(scope="module")
def servers() -> Iterator[dict[str, ValkeyServer]]:
    """Two, each of which would serve anything."""
    with tempfile.TemporaryDirectory(prefix="bc-") as one, tempfile.TemporaryDirectory(prefix="bc-") as two:
        with start_valkey(Path(one)) as first, start_valkey(Path(two)) as second:
            yield {"one": first, "two": second}


def dialers(servers: dict[str, ValkeyServer], *names: str) -> dict[str, NodeAddress]:
    return {name: NodeAddress.from_url(servers[name].url) for name in names}


@asynccontextmanager
async def open_given_feed(
    servers: dict[str, ValkeyServer], topology: GivenTopology, *, times: FeedTimes = PUSHES_ONLY
) -> AsyncIterator[tuple[Feed, Writer]]:
    """A feed whose log is always at the first server, whatever its topology says of channels."""
    async with LogConnection.open(servers["one"].url) as connection:
        await connection.redis.flushall()
        async with Feed.open(
            topology,
            Streams(connection),
            keys=connection.keys,
            publish_probe=connection.redis.spublish,
            times=times,
        ) as feed:
            yield feed, Writer(connection)


async def subscribers(server: ValkeyServer, stream_id: str) -> int:
    async with LogConnection.open(server.url) as connection:
        return await Writer(connection).subscribers(stream_id)


def at(node: str | None) -> Callable[[str], str | None]:
    return lambda channel: node


def spread(names: Sequence[str]) -> Callable[[str], str | None]:
    """Each of the nodes serves some of the channels."""
    return lambda channel: names[sum(channel.encode()) % len(names)] if names else None


async def test_a_stream_that_nobody_serves_is_held_and_told_until_somebody_does(
    servers: dict[str, ValkeyServer],
) -> None:
    topology = GivenTopology(dialers(servers, "one"), at(None))
    async with open_given_feed(servers, topology) as (feed, writer):
        room = Room()
        feed.watch("s", room)
        written = await writer.append("s", 3)
        await room.until(lambda: room.stall is StallReason.LOG_UNAVAILABLE)

        topology.change(node_of=at("one"))

        await room.holds(written)
        await room.until(lambda: room.stall is None)


async def test_a_channel_follows_its_slot_to_another_node(servers: dict[str, ValkeyServer]) -> None:
    topology = GivenTopology(dialers(servers, "one", "two"), at("two"))
    async with open_given_feed(servers, topology) as (feed, writer):
        room = Room()
        watch = feed.watch("s", room)
        await watch.synced()
        missed = await writer.append("s")  # published where the stream is said not to be

        topology.change(node_of=at("one"))

        await room.until(lambda: room.lives == 2)
        await room.holds(missed + await writer.append("s"))
        assert await subscribers(servers["two"], "s") == 0
        watch.close()
        while await subscribers(servers["one"], "s"):
            await asyncio.sleep(0.01)


async def test_nodes_come_and_go_and_each_has_one_connection(servers: dict[str, ValkeyServer]) -> None:
    topology = GivenTopology(dialers(servers, "one"), at("one"))
    async with open_given_feed(servers, topology) as (feed, writer):
        room = Room()
        watch = feed.watch("s", room)
        await watch.synced()
        for names in (["one", "two"], ["two"], ["one"], [], ["one", "two"], ["one"]):
            topology.change(dialers(servers, *names), spread(names))
            await until(lambda: feed.stats.connected == len(names))  # noqa: B023
        written = await writer.append("s")
        await room.until(lambda: room.entries[-1:] == written)


class HalfHungLog:
    """A log of two servers, one of which does not answer."""

    def __init__(self, streams: Streams, *, hung: str) -> None:
        self._streams = streams
        self._hung = hung

    async def read(self, stream_id: str, *, after: Cursor = START, count: int = 1000) -> list[Entry]:
        return await self._streams.read(stream_id, after=after, count=count)

    async def tails(self, stream_ids: Sequence[str]) -> list[Tail]:
        if self._hung in stream_ids:
            await asyncio.Event().wait()
        return await self._streams.tails(stream_ids)


async def test_a_node_that_hangs_keeps_the_streams_of_others_from_no_tail_check(
    servers: dict[str, ValkeyServer],
) -> None:
    topology = GivenTopology(
        dialers(servers, "one", "two"), lambda channel: "two" if "{hung}" in channel or "probe" in channel else "one"
    )
    async with LogConnection.open(servers["one"].url) as connection:
        await connection.redis.flushall()
        async with Feed.open(
            topology,
            HalfHungLog(Streams(connection), hung="hung"),
            keys=connection.keys,
            publish_probe=connection.redis.spublish,
            times=replace(TAILS, tail_patience_s=0.05, read_s=NEVER_S),
        ) as feed:
            writer = Writer(connection)
            await feed.watch("hung", Room()).synced()
            room = Room()
            await feed.watch("s", room).synced()
            for _ in range(3):
                written = await writer.append("s", push="none")
                await room.until(lambda: room.entries[-1:] == written)  # noqa: B023


async def test_a_stop_is_heard_wherever_the_streams_slot_has_gone(servers: dict[str, ValkeyServer]) -> None:
    topology = GivenTopology(dialers(servers, "one"), at("one"))
    stopped, asked = asyncio.Event(), asyncio.Event()
    async with LogConnection.open(servers["two"].url) as connection, asyncio.TaskGroup() as tasks:
        control = ControlListener(connection, topology)
        running = tasks.create_task(control.run())
        control.listen("s", lambda _wish: stopped.set(), on_subscribed=asked.set)
        await asyncio.wait_for(asked.wait(), DEADLINE_S)
        asked.clear()

        topology.change(dialers(servers, "two"), at("two"))
        await asyncio.wait_for(asked.wait(), DEADLINE_S)
        await connection.redis.spublish(connection.keys.control("s"), b"stop stopped")

        await asyncio.wait_for(stopped.wait(), DEADLINE_S)
        running.cancel()


async def test_each_probe_moves_with_its_nodes_slots(servers: dict[str, ValkeyServer]) -> None:
    """A probe on a channel that is not the node's own any more would condemn a good connection."""
    probed: set[str] = set()
    topology = GivenTopology(dialers(servers, "one", "two"), spread(["one", "two"]))

    async def publish(channel: str, word: bytes) -> None:
        probed.add(channel)
        async with LogConnection.open(servers[str(topology.node_of(channel))].url) as connection:
            await connection.redis.spublish(channel, word)

    async with LogConnection.open(servers["one"].url) as connection:
        async with Feed.open(
            topology,
            Streams(connection),
            keys=connection.keys,
            publish_probe=publish,
            times=replace(PUSHES_ONLY, probe_every_s=0.05, probe_s=2.0),
        ) as feed:
            await until(lambda: len(probed) == 2)
            before = set(probed)

            topology.change(node_of=spread(["two", "one"]))

            await until(lambda: len(probed - before) == 2)
            assert feed.stats.probe_failures == 0


async def test_a_map_that_is_wrong_makes_no_storm_and_costs_other_channels_nothing(cluster: RedisCluster6) -> None:
    """Every SSUBSCRIBE of the misplaced channel is answered MOVED."""
    truth = create_topology(RedisUrl.parse(cluster.url))
    watching = asyncio.create_task(truth.run())
    await until(lambda: bool(truth.nodes))
    async with LogConnection.open(cluster.url) as connection:
        channel = connection.keys.live("misplaced")
        right = truth.node_of(channel)
        wrong = next(node for node in truth.nodes if node != right)
        topology = GivenTopology(
            {node: truth.dialer(node) for node in truth.nodes},
            lambda key: wrong if key == channel else truth.node_of(key),
        )
        neighbour = next(f"n{n}" for n in range(1000) if truth.node_of(connection.keys.live(f"n{n}")) == wrong)
        async with Feed.open(
            topology,
            Streams(connection),
            keys=connection.keys,
            publish_probe=connection.redis.spublish,
            times=replace(PUSHES_ONLY, backoff_first_s=0.05, backoff_cap_s=2.0),
        ) as feed:
            beside, misplaced = Room(), Room()
            await feed.watch(neighbour, beside).synced()
            feed.watch("misplaced", misplaced)
            writer = Writer(connection)
            held_until = asyncio.get_running_loop().time() + HELD_S
            while asyncio.get_running_loop().time() < held_until:
                written = await writer.append(neighbour)
                await beside.until(lambda: beside.entries[-1:] == written)  # noqa: B023
            assert 3 <= topology.suspicions <= 10
            assert (beside.lives, feed.stats.reconnects) == (1, 0)

            topology.change(node_of=truth.node_of)
            await misplaced.holds(await writer.append("misplaced"))
    watching.cancel()


async def test_the_probes_of_all_nodes_come_back(cluster: RedisCluster6) -> None:
    probed: Counter[str | None] = Counter()
    async with LogConnection.open(cluster.url) as connection:
        topology = create_topology(connection.address)
        watching = asyncio.create_task(topology.run())

        async def publish(channel: str, word: bytes) -> None:
            probed[topology.node_of(channel)] += 1
            await connection.redis.spublish(channel, word)

        async with Feed.open(
            topology,
            Streams(connection),
            keys=connection.keys,
            publish_probe=publish,
            times=replace(PUSHES_ONLY, probe_every_s=0.05, probe_s=2.0),
        ) as feed:
            await until(lambda: len(probed) == len(cluster.primaries) and min(probed.values()) > 3)
            assert (feed.stats.probe_failures, feed.stats.reconnects) == (0, 0)
    watching.cancel()
