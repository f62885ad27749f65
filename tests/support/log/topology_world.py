"""Streams written and watched over a changing set of servers: the real writer, the real tail, rooms that check."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Final

from redis.crc import key_slot

from broadcaster.core.entry import Entry
from broadcaster.core.events import Finish, TextDelta
from broadcaster.log.jobs.lease import LeaseKeeper
from broadcaster.log.redis.connect import LogConnection
from broadcaster.log.redis.topology.topology import Topology
from broadcaster.log.streams.appender import Appender
from broadcaster.log.streams.reader import Streams
from broadcaster.log.streams.writer import StreamWriter
from broadcaster.log.tail.tail import LiveTail
from tests.support.log.log_world import World
from tests.support.log.tail_world import PROMISED_S, Room, until

_PACE_S: Final = 0.02
# A worker beside other tests renews in time: the leases are not what these tests measure.
_LEASE_MS: Final = 2000
_END_S: Final = 30.0


@dataclass
class LiveStream:
    """One generation: something is written to it all the time, and one room follows it."""

    stream_id: str
    writer: StreamWriter
    room: Room
    is_ending: asyncio.Event = field(default_factory=asyncio.Event)

    async def write(self) -> None:
        """An event now and then, until the end is requested."""
        while not self.is_ending.is_set():
            self.writer.write([TextDelta(id="0", delta=f"{self.writer.last_seq + 1} ")])
            try:
                async with asyncio.timeout(_PACE_S):
                    await self.is_ending.wait()
            except TimeoutError:
                continue

    async def catches_up(self) -> None:
        """What is written by now reaches the room within the promised time."""
        seq = self.writer.last_seq
        await self.room.until(lambda: self.room.last_seq >= seq, within_s=PROMISED_S)


@dataclass
class TopologyWorld:
    """One worker's writers and one front-end's tail, as their composition roots put them together."""

    connection: LogConnection  # the front-end's
    world: World  # the worker's
    topology: Topology
    tail: LiveTail
    appender: Appender
    keeper: LeaseKeeper
    tasks: asyncio.TaskGroup
    streams: list[LiveStream] = field(default_factory=list)

    async def start(self) -> LiveStream:
        """One more generation under way, watched from its start."""
        stream_id, claim = await self.world.granted()
        writer = await self.world.writer(stream_id, claim, self.appender, self.keeper)
        room = Room()
        watch = self.tail.watch(stream_id, room)
        async with asyncio.timeout(PROMISED_S):
            await watch.synced()
        stream = LiveStream(stream_id, writer, room)
        self.tasks.create_task(stream.write())
        self.streams.append(stream)
        return stream

    async def start_on_all(self) -> None:
        """At least two generations at each node."""
        wanted = dict.fromkeys(self.topology.nodes, 2)
        while any(wanted.values()):
            stream = await self.start()
            node = self.topology.node_of(self.world.keys.log(stream.stream_id))
            assert node is not None
            wanted[node] = max(0, wanted[node] - 1)

    def slot_of(self, stream_id: str) -> int:
        return int(key_slot(self.world.keys.log(stream_id).encode()))

    def stream_in(self, slot: int, *, name: str) -> str:
        """A stream id of that slot."""
        return next(id for number in range(10**6) if self.slot_of(id := f"{name}-{number}") == slot)

    async def catch_up(self) -> None:
        """All of them, at once: as long after the fault as a viewer may have to wait."""
        await asyncio.gather(*[stream.catches_up() for stream in self.streams])

    async def finish(self) -> None:
        """End all; every room has exactly what the log has, to the last entry."""
        for stream in self.streams:
            stream.is_ending.set()
        ends = [stream.writer.end([Finish(finish_reason="stop")], deadline_s=_END_S) for stream in self.streams]
        assert all(await asyncio.gather(*ends))
        for stream in self.streams:
            held = await Streams(self.connection).read(stream.stream_id, count=10_000)
            assert [entry.seq for entry in held] == list(range(1, len(held) + 1))
            await stream.room.until(_holds(stream.room, held), within_s=PROMISED_S)


def _holds(room: Room, entries: list[Entry]) -> Callable[[], bool]:
    return lambda: room.entries == entries


@asynccontextmanager
async def open_topology_world(url: str) -> AsyncIterator[TopologyWorld]:
    """Everything running, over the servers behind a URL."""
    async with AsyncExitStack() as stack:
        connection = await stack.enter_async_context(LogConnection(url))
        topology = connection.topology
        workers = await stack.enter_async_context(LogConnection(url, patience_s=0.0))
        world = World(workers, max_events=10_000, max_bytes=2**20, lease_ms=_LEASE_MS)
        tasks = await stack.enter_async_context(asyncio.TaskGroup())
        running = [tasks.create_task(topology.run()), tasks.create_task(world.steadiness.run())]
        appender = await stack.enter_async_context(world.appender())
        keeper = world.keeper(appender, is_patient=False)
        running.append(tasks.create_task(keeper.run()))
        tail = await stack.enter_async_context(
            LiveTail(topology, Streams(connection), keys=connection.keys, publish_probe=connection.redis.spublish)
        )
        await until(lambda: bool(topology.nodes))
        opened = TopologyWorld(connection, world, topology, tail, appender, keeper, tasks)
        try:
            yield opened
        finally:
            for stream in opened.streams:
                stream.is_ending.set()
            for task in running:
                task.cancel()
