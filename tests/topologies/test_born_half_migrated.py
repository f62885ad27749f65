"""A generation that is created in a slot while that stays half migrated: it waits, and then it runs as any other."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import asynccontextmanager
from typing import Any, Final

from broadcaster.core.events import Event, Finish, TextDelta, Usage, decode_event
from broadcaster.core.providers.model_routing import ModelRoutes
from broadcaster.log.jobs.sweeper import Sweeper, SweepTimes
from broadcaster.log.redis.connect import LogConnection
from broadcaster.log.streams.control import ControlListener
from tests.support.log.log_world import World
from tests.support.log.redis_cluster import RedisCluster6
from tests.support.log.tail_world import PROMISED_S, Room, until
from tests.support.log.topology_world import TopologyWorld, open_topology_world
from worker.attempt import AttemptTimes
from worker.engine import Engine, RunnerTimes
from worker.providers.base import ProviderRequest, ProviderStream
from worker.providers.registry import Providers
from worker.runner import Runner
from worker.slots import Slots

MIGRATING_S: Final = 3.0
WELL_S: Final = 20.0
LEASE_S: Final = 10.0
SWEEP_S: Final = 0.3
TEXTS: Final = [f"{number} " for number in range(30)]


class Reciting:
    """A provider, and each of its streams: some text, delta by delta, and the end."""

    @asynccontextmanager
    async def stream(self, request: ProviderRequest) -> AsyncIterator[ProviderStream]:
        yield self

    async def __aiter__(self) -> AsyncIterator[list[Event]]:
        for text in TEXTS:
            yield [TextDelta(id="0", delta=text)]
            await asyncio.sleep(0.01)
        yield [Finish(finish_reason="stop")]

    received_bytes = 0

    def usage_so_far(self) -> Usage:
        return Usage(input_tokens=1, output_tokens=1, estimated=True)

    async def start(self) -> None:
        """Nothing is to be made ready."""

    async def aclose(self) -> None:
        """Nothing is open between streams."""


async def test_a_generation_born_in_a_half_migrated_slot_is_run_and_seen_whole(cluster: RedisCluster6) -> None:
    """And one that lay there unbegun when the slot was opened, while others run in it; a front-end sweeps all along."""
    async with open_topology_world(cluster.url) as world:
        await world.start_on_all()
        slot = world.slot_of(world.streams[0].stream_id)
        target = next(node for node in cluster.primaries if node is not cluster.primary_of_slot(slot))
        names: Iterator[str] = iter([world.stream_in(slot, name="gen_a"), world.stream_in(slot, name="gen_b")])
        front_end = World(world.connection, create_id=lambda: next(names))
        async with sweeping(front_end):
            waiting, watching_it = await create(world, front_end)
            cluster.begin_migration(slot, target)
            begun = asyncio.get_running_loop().time()
            born = asyncio.create_task(create(world, front_end))
            async with worker(world):
                await until(lambda: asyncio.get_running_loop().time() > begun + MIGRATING_S)
                assert not born.done()  # what is created is written with several keys at once
                await asyncio.to_thread(cluster.finish_migration, slot)
                moved_id, watching_the_other = await born
                assert {world.slot_of(each) for each in (waiting, moved_id)} == {slot}
                for stream_id, room in ((waiting, watching_it), (moved_id, watching_the_other)):
                    await is_seen_whole(front_end, stream_id, room)
        await asyncio.to_thread(cluster.wait_ok, WELL_S)
        await world.catch_up()
        await world.finish()


async def create(world: TopologyWorld, front_end: World) -> tuple[str, Room]:
    """A generation, and a room that watches it."""
    stream_id = await front_end.create()
    room = Room()
    world.tail.watch(stream_id, room)
    return stream_id, room


async def is_seen_whole(front_end: World, stream_id: str, room: Room) -> None:
    async def is_over() -> bool:
        meta = await front_end.streams.meta(stream_id)
        return meta is not None and meta.is_over

    async with asyncio.timeout(WELL_S):
        while not await is_over():
            await asyncio.sleep(0.01)
    log = await front_end.streams.read(stream_id)
    await room.holds(log, within_s=PROMISED_S)
    events = [decode_event(entry.event) for entry in log]
    assert [entry.seq for entry in log] == list(range(1, len(log) + 1))
    assert "".join(each.delta for each in events if isinstance(each, TextDelta)) == "".join(TEXTS)
    assert isinstance(events[-1], Finish)
    meta = await front_end.streams.meta(stream_id)
    assert meta is not None
    assert (meta.status, meta.attempts) == ("finished", 1)


@asynccontextmanager
async def running(*coroutines: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """These, until the block ends; a defect in one ends the test."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(each) for each in coroutines]
        yield
        for task in tasks:
            task.cancel()


@asynccontextmanager
async def sweeping(front_end: World) -> AsyncIterator[None]:
    """A front-end's sweep."""
    sweeper = Sweeper(
        SweepTimes(60_000, 60_000, 1_800_000),
        queue=front_end.queue,
        claims=front_end.claims,
        streams=front_end.streams,
        steadiness=front_end.steadiness,
    )
    async with running(front_end.steadiness.run(), sweeper.run(every_s=SWEEP_S)):
        yield


@asynccontextmanager
async def worker(world: TopologyWorld) -> AsyncIterator[None]:
    """A worker's runner over the cluster, as its composition root puts it together."""
    connection: LogConnection = world.world.connection
    own = World(connection, worker="runner", lease_ms=int(LEASE_S * 1000))
    await own.queue.create_group()
    reader = own.reader()
    async with own.appender() as appender:
        keeper = own.keeper(appender, is_patient=False)
        control = ControlListener(connection, world.topology)
        providers = Providers(ModelRoutes({"m": "reciting"}), {"reciting": Reciting})
        engine = Engine(
            own.queue, reader, own.claims, own.streams, appender, keeper, own.steadiness, control, providers
        )
        times = RunnerTimes(LEASE_S, 0.0, AttemptTimes(generation_timeout_s=60, append_deadline_s=60))
        slots = Slots(concurrency=4, buffer_bytes=2**20, max_bytes=2**16)
        runner = Runner(engine, slots, times=times, max_bytes=2**16)
        async with running(own.steadiness.run(), keeper.run(), control.run(), runner.take_new(), runner.take_silent()):
            yield
        await runner.drain(grace_s=0, hurried=asyncio.Event())
    await reader.aclose()
