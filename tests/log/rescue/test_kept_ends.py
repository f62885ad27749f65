"""A stop that was answered and an end that no worker wrote stay so when Redis loses them in a failover."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

import pytest

from broadcaster.core.events import Abort, encode_event
from broadcaster.errors import LogUnavailable
from broadcaster.log.jobs.claims import Outcome
from broadcaster.log.jobs.generations import GenerationRequest
from broadcaster.log.jobs.rescue import kept_ends
from broadcaster.log.jobs.rescue.kept_ends import KeptEnds
from broadcaster.log.jobs.stops import STOPPED
from broadcaster.log.jobs.sweeper import Sweeper, SweepTimes
from broadcaster.log.redis.connect import LogConnection
from broadcaster.log.streams import terminals
from broadcaster.log.streams.tails import Tail
from tests.support.log.log_world import TENANT, World, until

REQUEST = GenerationRequest(model="m", request={"messages": []}, webhook={"url": "https://hooks.example.com/h"})


@pytest.fixture
async def world(connection: LogConnection) -> World:
    world = World(connection, has_rescue=True)
    await world.queue.create_group()
    return world


def ends_of(world: World) -> KeptEnds:
    assert world.rescue is not None
    return world.rescue.ends


async def accept(world: World) -> str:
    return (await world.generations.create(REQUEST, tenant=TENANT)).id


@dataclass
class Snapshot:
    """What the replica has of a generation and of the queue when its primary is killed."""

    dumps: dict[bytes, bytes]

    @classmethod
    async def take(cls, world: World) -> Snapshot:
        return cls({key: await world.redis.dump(key) for key in await world.redis.keys("bc:*")})

    async def come_back(self, world: World) -> None:
        await world.redis.delete(*await world.redis.keys("bc:*"))
        for key, dump in self.dumps.items():
            await world.redis.restore(key, 0, dump)
        note_a_break(world)


def note_a_break(world: World) -> None:
    world.steadiness.breaks += 1
    world.steadiness.answering.set()


async def status(world: World, stream_id: str) -> str:
    meta = await world.streams.meta(stream_id)
    assert meta is not None
    return meta.status


async def test_a_stop_of_what_waits_that_redis_lost_is_rewritten_before_a_worker_may_take_it(world: World) -> None:
    stream_id = await accept(world)
    before = await Snapshot.take(world)
    await world.generations.stop(stream_id, tenant=TENANT)
    await before.come_back(world)

    await ends_of(world).turn()

    assert await status(world, stream_id) == "aborted"
    assert await world.texts(stream_id) == [terminals.STOPPED]
    assert await world.queue.newest_open(10) == []
    assert await world.redis.zrange(world.keys.webhooks_due, 0, -1) == [stream_id.encode()]


async def test_a_time_out_that_the_sweep_found_and_redis_lost_is_rewritten(world: World) -> None:
    stream_id = await accept(world)
    before = await Snapshot.take(world)
    probing = asyncio.create_task(world.steadiness.run())
    await until(lambda: world.steadiness.is_steady)
    await until_swept(sweeper(world, queue_timeout_ms=-1), world, stream_id)
    probing.cancel()
    await asyncio.wait({probing})
    await before.come_back(world)

    await ends_of(world).turn()

    assert await world.texts(stream_id) == [terminals.QUEUE_TIMEOUT]


async def test_a_lost_abandonment_is_repeated(world: World) -> None:
    stream_id = await accept(world)
    await world.redis.hset(world.keys.meta(stream_id), "stop", "abandoned")
    probing = asyncio.create_task(world.steadiness.run())
    await until(lambda: world.steadiness.is_steady)
    before = await Snapshot.take(world)
    await until_swept(sweeper(world), world, stream_id)
    probing.cancel()
    await asyncio.wait({probing})
    await before.come_back(world)
    await world.redis.hdel(world.keys.meta(stream_id), "stop")

    await ends_of(world).turn()

    assert await world.texts(stream_id) == [encode_event(Abort(reason="abandoned"))]


async def test_a_lost_stop_of_a_running_generation_is_requested_once_more(world: World) -> None:
    stream_id, claim = await World(world.connection, worker="w2").granted()
    before = await Snapshot.take(world)
    await world.generations.stop(stream_id, tenant=TENANT)
    await before.come_back(world)

    await ends_of(world).turn()

    meta = await world.streams.meta(stream_id)
    assert meta is not None
    assert (meta.status, meta.stop, meta.epoch) == ("running", STOPPED, claim.epoch)


async def test_a_stop_waits_for_the_rewrite_of_the_generation_and_stops_it_then(world: World) -> None:
    creator = World(world.connection, has_rescue=True)
    assert creator.rescue is not None
    stream_id = await accept(creator)
    await world.generations.stop(stream_id, tenant=TENANT)
    await world.redis.flushall()
    note_a_break(world)
    await ends_of(world).turn()
    await creator.rescue.accepted.check(is_after_break=True)
    assert await status(world, stream_id) == "queued"

    await ends_of(world).turn()

    assert await status(world, stream_id) == "aborted"


async def test_a_generation_that_a_worker_runs_by_now_is_not_ended_by_a_void_time_out(world: World) -> None:
    stream_id = await accept(world)
    meta = await world.streams.meta(stream_id)
    assert meta is not None
    ends_of(world).keep(meta, terminals.QUEUE_TIMEOUT, reason=STOPPED, is_written=True)
    await World(world.connection, worker="w2").claim(stream_id)
    note_a_break(world)

    await ends_of(world).turn()

    assert await status(world, stream_id) == "running"


async def test_ends_are_verified_once_for_each_break_and_forgotten_after_a_while(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream_id = await accept(world)
    before = await Snapshot.take(world)
    await world.generations.stop(stream_id, tenant=TENANT)
    await before.come_back(world)
    ends = ends_of(world)
    await ends.turn()
    await before.come_back(world)
    world.steadiness.breaks -= 1
    await ends.turn()
    assert await status(world, stream_id) == "queued"  # no break was noticed
    monkeypatch.setattr(ends, "keep_s", 0.0)
    await world.generations.stop(stream_id, tenant=TENANT)
    await before.come_back(world)
    await ends.turn()
    assert await status(world, stream_id) == "queued"


async def test_kept_ends_are_bounded(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept_ends, "KEPT_AT_MOST", 2)
    ids = [await accept(world) for _ in range(3)]
    before = await Snapshot.take(world)
    for each in ids:
        await world.generations.stop(each, tenant=TENANT)
    await before.come_back(world)

    await ends_of(world).turn()

    assert [await status(world, each) for each in ids] == ["queued", "aborted", "aborted"]


async def test_while_redis_cannot_answer_an_end_stays_to_be_verified(world: World) -> None:
    stream_id = await accept(world)
    before = await Snapshot.take(world)
    await world.generations.stop(stream_id, tenant=TENANT)
    await before.come_back(world)
    await world.redis.config_set("maxmemory", 1)
    try:
        await ends_of(world).turn()
    finally:
        await world.redis.config_set("maxmemory", 0)
    assert (await world.claims.claim(stream_id, may_take_over=False, answered_s=0)).outcome is Outcome.LAPSED

    await ends_of(world).turn()

    assert await status(world, stream_id) == "aborted"


async def test_a_server_that_is_away_delays_its_own_ends_alone(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    away, there = [await accept(world) for _ in range(2)], await accept(world)
    before = await Snapshot.take(world)
    for each in (*away, there):
        await world.generations.stop(each, tenant=TENANT)
    await before.come_back(world)
    ends, tails, requested = ends_of(world), world.streams.tails, list[str]()

    async def tails_of_servers(ids: Sequence[str]) -> list[Tail]:
        requested.extend(ids)
        if ids[0] in away:
            raise LogUnavailable("its server does not answer")
        return await tails(ids)

    monkeypatch.setattr(ends.streams, "tails", tails_of_servers)
    monkeypatch.setattr(world.connection, "server_of", lambda key: str(there in key))

    await ends.turn()

    assert [await status(world, each) for each in (*away, there)] == ["queued", "queued", "aborted"]
    assert requested == [away[0], there]


async def until_swept(sweeping: Sweeper, world: World, stream_id: str) -> None:
    """Until it is over: on a busy machine Redis is not steady at once."""
    async with asyncio.timeout(20):
        while await status(world, stream_id) == "queued":
            await sweeping.sweep()


def sweeper(world: World, *, queue_timeout_ms: int = 60_000) -> Sweeper:
    return Sweeper(
        SweepTimes(queue_timeout_ms, 60_000, 60_000),
        queue=world.queue,
        claims=world.claims,
        streams=world.streams,
        steadiness=world.steadiness,
        ends=ends_of(world),
    )
