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

from broadcaster.core.backoff import BackOff
from broadcaster.core.cursor import START, Cursor
from broadcaster.core.entry import Entry
from broadcaster.core.notices import StallReason
from broadcaster.log.redis.address import NodeAddress
from broadcaster.log.redis.connect import LogConnection
from broadcaster.log.redis.topology.topology import create_topology
from broadcaster.log.redis.url import RedisUrl
from broadcaster.log.streams.control import ControlListener
from broadcaster.log.streams.reader import Streams
from broadcaster.log.streams.tails import Tail
from broadcaster.log.tail.tail import LiveTail
from tests.support.log.given_topology import GivenTopology
from tests.support.log.redis_cluster import RedisCluster6
from tests.support.log.tail_world import (
    DEADLINE_S,
    NEVER_S,
    NO_PROBES,
    PROBES,
    PUSHES_ONLY,
    TAILS,
    Room,
    Writer,
    subscriber_ids,
    until,
)
from tests.support.log.valkey import ValkeyServer, start_valkey

WRONG_S = 2.0


@pytest.fixture(scope="module")
def servers() -> Iterator[dict[str, ValkeyServer]]:
    """Two, each of which would serve anything."""
    with tempfile.TemporaryDirectory(prefix="bc-") as one, tempfile.TemporaryDirectory(prefix="bc-") as two:
        with start_valkey(Path(one)) as first, start_valkey(Path(two)) as second:
            yield {"one": first, "two": second}


def dialers(servers: dict[str, ValkeyServer], *names: str) -> dict[str, NodeAddress]:
    return {name: NodeAddress.from_url(servers[name].url) for name in names}


@asynccontextmanager
async def open_given_tail(
    servers: dict[str, ValkeyServer], topology: GivenTopology
) -> AsyncIterator[tuple[LiveTail, Writer]]:
    """A tail whose log is always at the first server, whatever its topology names for channels."""
    async with LogConnection(servers["one"].url) as connection:
        await connection.redis.flushall()
        async with LiveTail(
            topology,
            Streams(connection),
            keys=connection.keys,
            publish_probe=connection.redis.spublish,
            times=PUSHES_ONLY,
            subscriber=NO_PROBES,
        ) as tail:
            yield tail, Writer(connection)


async def subscribers(server: ValkeyServer, stream_id: str) -> int:
    async with LogConnection(server.url) as connection:
        return await Writer(connection).subscribers(stream_id)


async def connections(servers: dict[str, ValkeyServer]) -> dict[str, set[str]]:
    """The ids of each server's subscriber connections."""
    ids = {}
    for name, server in servers.items():
        async with LogConnection(server.url) as connection:
            ids[name] = await subscriber_ids(connection.redis)
    return ids


def at(node: str | None) -> Callable[[str], str | None]:
    return lambda channel: node


def spread(names: Sequence[str]) -> Callable[[str], str | None]:
    """Each of the nodes serves some of the channels."""
    return lambda channel: names[sum(channel.encode()) % len(names)] if names else None


async def test_a_stream_without_a_server_is_reported_as_stalled_until_it_has_one(
    servers: dict[str, ValkeyServer],
) -> None:
    topology = GivenTopology(dialers(servers, "one"), at(None))
    async with open_given_tail(servers, topology) as (tail, writer):
        room = Room()
        tail.watch("s", room)
        written = await writer.append("s", 3)
        await room.until(lambda: room.stall is StallReason.LOG_UNAVAILABLE)

        topology.change(node_of=at("one"))

        await room.holds(written)
        await room.until(lambda: room.stall is None)


async def test_a_channel_follows_its_slot_to_another_node(servers: dict[str, ValkeyServer]) -> None:
    topology = GivenTopology(dialers(servers, "one", "two"), at("two"))
    async with open_given_tail(servers, topology) as (tail, writer):
        room = Room()
        watch = tail.watch("s", room)
        await watch.synced()
        missed = await writer.append("s")  # published at another server than the topology names

        topology.change(node_of=at("one"))

        await room.until(lambda: room.lives == 2)
        await room.holds(missed + await writer.append("s"))
        assert await subscribers(servers["two"], "s") == 0
        watch.close()
        while await subscribers(servers["one"], "s"):
            await asyncio.sleep(0.01)


async def test_nodes_come_and_go_and_each_has_one_connection(servers: dict[str, ValkeyServer]) -> None:
    topology = GivenTopology(dialers(servers, "one"), at("one"))
    async with open_given_tail(servers, topology) as (tail, writer):
        room = Room()
        watch = tail.watch("s", room)
        await watch.synced()
        for names in (["one", "two"], ["two"], ["one"], [], ["one", "two"], ["one"]):
            topology.change(dialers(servers, *names), spread(names))
            async with asyncio.timeout(DEADLINE_S):
                while [len(ids) for ids in (await connections(servers)).values()] != [
                    name in names for name in servers
                ]:
                    await asyncio.sleep(0.01)
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
    async with LogConnection(servers["one"].url) as connection:
        await connection.redis.flushall()
        async with LiveTail(
            topology,
            HalfHungLog(Streams(connection), hung="hung"),
            keys=connection.keys,
            publish_probe=connection.redis.spublish,
            times=replace(TAILS, tail_patience_s=0.05, read_s=NEVER_S),
            subscriber=NO_PROBES,
        ) as tail:
            writer = Writer(connection)
            await tail.watch("hung", Room()).synced()
            room = Room()
            await tail.watch("s", room).synced()
            for _ in range(3):
                written = await writer.append("s", push="none")
                await room.until(lambda: room.entries[-1:] == written)  # noqa: B023


async def test_a_stop_arrives_wherever_the_streams_slot_has_gone(servers: dict[str, ValkeyServer]) -> None:
    topology = GivenTopology(dialers(servers, "one"), at("one"))
    stopped, subscribed = asyncio.Event(), asyncio.Event()
    async with LogConnection(servers["two"].url) as connection, asyncio.TaskGroup() as tasks:
        control = ControlListener(connection, topology)
        running = tasks.create_task(control.run())
        control.listen("s", lambda _reason: stopped.set(), on_subscribed=subscribed.set)
        await asyncio.wait_for(subscribed.wait(), DEADLINE_S)
        subscribed.clear()

        topology.change(dialers(servers, "two"), at("two"))
        await asyncio.wait_for(subscribed.wait(), DEADLINE_S)
        await connection.redis.spublish(connection.keys.control("s"), b"stop stopped")

        await asyncio.wait_for(stopped.wait(), DEADLINE_S)
        running.cancel()


async def test_each_probe_moves_with_its_nodes_slots(servers: dict[str, ValkeyServer]) -> None:
    """A probe on a channel that is not the node's own any more would condemn a good connection."""
    probed: Counter[str] = Counter()
    topology = GivenTopology(dialers(servers, "one", "two"), spread(["one", "two"]))

    async def publish(channel: str, payload: bytes) -> None:
        probed[channel] += 1
        async with LogConnection(servers[str(topology.node_of(channel))].url) as connection:
            await connection.redis.spublish(channel, payload)

    async with LogConnection(servers["one"].url) as connection:
        async with LiveTail(
            topology,
            Streams(connection),
            keys=connection.keys,
            publish_probe=publish,
            times=PUSHES_ONLY,
            subscriber=replace(PROBES, probe_s=2.0),
        ):
            await until(lambda: len(probed) == 2)
            before, kept = set(probed), await connections(servers)

            topology.change(node_of=spread(["two", "one"]))

            await until(lambda: [count > 1 for channel, count in probed.items() if channel not in before] == [True] * 2)
            assert await connections(servers) == kept


async def test_a_map_that_is_wrong_makes_no_storm_and_costs_other_channels_nothing(cluster: RedisCluster6) -> None:
    """Every SSUBSCRIBE of the misplaced channel is answered MOVED."""
    truth = create_topology(RedisUrl.parse(cluster.url))
    watching = asyncio.create_task(truth.run())
    await until(lambda: bool(truth.nodes))
    async with LogConnection(cluster.url) as connection:
        channel = connection.keys.live("misplaced")
        right = truth.node_of(channel)
        wrong = next(node for node in truth.nodes if node != right)
        topology = GivenTopology(
            {node: truth.dialer(node) for node in truth.nodes},
            lambda key: wrong if key == channel else truth.node_of(key),
        )
        neighbour = next(f"n{n}" for n in range(1000) if truth.node_of(connection.keys.live(f"n{n}")) == wrong)
        async with LiveTail(
            topology,
            Streams(connection),
            keys=connection.keys,
            publish_probe=connection.redis.spublish,
            times=PUSHES_ONLY,
            subscriber=replace(NO_PROBES, backoff=BackOff(0.05, 2.0)),
        ) as tail:
            beside, misplaced = Room(), Room()
            await tail.watch(neighbour, beside).synced()
            tail.watch("misplaced", misplaced)
            writer = Writer(connection)
            wrong_until = asyncio.get_running_loop().time() + WRONG_S
            while asyncio.get_running_loop().time() < wrong_until:
                written = await writer.append(neighbour)
                await beside.until(lambda: beside.entries[-1:] == written)  # noqa: B023
            assert 3 <= topology.suspicions <= 10
            assert beside.lives == 1  # its connection was not replaced

            topology.change(node_of=truth.node_of)
            await misplaced.holds(await writer.append("misplaced"))
    watching.cancel()
    await truth.aclose()


async def test_the_probes_of_all_nodes_come_back(cluster: RedisCluster6) -> None:
    probed: Counter[str | None] = Counter()
    async with LogConnection(cluster.url) as connection:
        topology = connection.topology
        watching = asyncio.create_task(topology.run())

        async def publish(channel: str, payload: bytes) -> None:
            probed[topology.node_of(channel)] += 1
            await connection.redis.spublish(channel, payload)

        async with LiveTail(
            topology,
            Streams(connection),
            keys=connection.keys,
            publish_probe=publish,
            times=PUSHES_ONLY,
            subscriber=replace(PROBES, probe_s=2.0),
        ):
            await until(lambda: len(probed) == len(cluster.primaries))
            primaries = (await connection.primaries()).values()
            before = [await subscriber_ids(each) for each in primaries]
            await until(lambda: min(probed.values()) > 3)
            assert [await subscriber_ids(each) for each in primaries] == before
            assert [len(ids) for ids in before] == [1] * len(cluster.primaries)
    watching.cancel()
