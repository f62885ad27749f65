"""Redis comes back without generations that no worker has begun: they are requeued, or they end with an error."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from broadcaster.core.cursor import START
from broadcaster.core.notices import GapReason
from broadcaster.log.jobs.claims import Outcome
from broadcaster.log.jobs.generations import GenerationRequest
from broadcaster.log.jobs.rescue import accepted
from broadcaster.log.jobs.rescue.losses import Losses
from broadcaster.log.jobs.rescue.rescue import Rescue
from broadcaster.log.redis.connect import LogConnection
from broadcaster.log.redis.scripts import SCRIPTS
from broadcaster.log.streams import terminals
from broadcaster.log.streams.reader import KnownGeneration
from broadcaster.log.tail.tail import LiveTail
from tests.support.log.log_world import LEASE_MS, TENANT, World, delta, until
from tests.support.log.tail_world import NO_PROBES, TAILS, Room

REQUEST = GenerationRequest(
    model="m", request={"messages": [{"role": "user", "content": "hi"}]}, webhook={"url": "https://hooks.example.com/h"}
)
STALL_S = 3600.0


@pytest.fixture
def world(connection: LogConnection) -> World:
    return World(connection, has_rescue=True)


def rescue_of(world: World) -> Rescue:
    assert world.rescue is not None
    return world.rescue


async def accept(world: World, *, key: str | None = "k") -> str:
    return (await world.generations.create(REQUEST, tenant=TENANT, idempotency_key=key)).id


# -------------------------------------------------------------------------------- by the front-end that has accepted it


async def test_an_accepted_generation_is_restored_whole_after_redis_came_back_empty(world: World) -> None:
    stream_id = await accept(world)
    before = await world.redis.hgetall(world.keys.meta(stream_id))
    await world.redis.flushall()

    await rescue_of(world).accepted.check(is_after_break=True)

    after = await world.redis.hgetall(world.keys.meta(stream_id))
    before.pop(b"created_ms"), after.pop(b"created_ms")
    assert after == before
    assert await world.redis.pttl(world.keys.meta(stream_id)) > 3_600_000
    assert await world.redis.zrange(world.keys.webhooks_promised, 0, -1) == [stream_id.encode()]
    await world.queue.create_group()
    reader = world.reader()
    assert [job.generation_id for job in await reader.take(10)] == [stream_id]
    await reader.aclose()
    repeated = await world.generations.create(REQUEST, tenant=TENANT, idempotency_key="k")
    assert (repeated.id, repeated.created) == (stream_id, False)


async def test_a_rewritten_generation_keeps_its_age_so_that_its_worker_comes_first(world: World) -> None:
    stream_id = await accept(world)
    held = rescue_of(world).accepted
    held.hold(replace(held.retained[stream_id], at=asyncio.get_running_loop().time() - 10))
    await world.redis.flushall()

    await held.check(is_after_break=True)

    claim = await world.claims.claim(stream_id, may_take_over=False, answered_s=9)
    assert claim.outcome is Outcome.LAPSED


@pytest.mark.parametrize("what", ["a worker has begun it", "it was stopped here", "it is held for a minute"])
async def test_a_generation_is_held_no_more_once(world: World, what: str) -> None:
    stream_id = await accept(world)
    held = rescue_of(world).accepted
    if what == "a worker has begun it":
        await world.claim(stream_id)
        await world.lapse(stream_id)
    elif what == "it was stopped here":
        await world.generations.stop(stream_id, tenant=TENANT)
    else:
        at = asyncio.get_running_loop().time() - accepted.HOLD_S - 1
        held.hold(replace(held.retained[stream_id], at=at))
    if what != "it was stopped here":
        await held.check(is_after_break=False)
    await world.redis.flushall()

    await held.check(is_after_break=True)

    assert await world.redis.exists(world.keys.meta(stream_id)) == 0


async def test_a_generation_whose_worker_is_rewriting_it_is_left_to_that_worker(world: World) -> None:
    stream_id = await accept(world)
    await world.redis.flushall()
    await world.redis.set(world.keys.lease(stream_id), "w2:5", px=60_000)

    await rescue_of(world).accepted.check(is_after_break=True)

    assert await world.redis.exists(world.keys.meta(stream_id)) == 0


async def test_a_generation_whose_key_names_another_one_by_now_is_not_rewritten(world: World) -> None:
    stream_id = await accept(world)
    await world.redis.flushall()
    other = await World(world.connection).generations.create(REQUEST, tenant=TENANT, idempotency_key="k")

    await rescue_of(world).accepted.check(is_after_break=True)

    assert other.created
    assert await world.redis.exists(world.keys.meta(stream_id)) == 0


async def test_the_generations_that_a_front_end_retains_are_bounded_in_number_and_in_bytes(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = rescue_of(world).accepted
    monkeypatch.setattr(accepted, "RETAINED_AT_MOST", 2)
    ids = [await accept(world, key=None) for _ in range(3)]
    assert list(held.retained) == ids[1:]
    monkeypatch.setattr(accepted, "RETAINED_BYTES", held.retained[ids[1]].size + 1)
    held.hold(held.retained[ids[2]])
    assert list(held.retained) == ids[2:]


async def test_after_a_break_it_is_checked_until_redis_answers(world: World) -> None:
    stream_id = await accept(world)
    await world.redis.flushall()
    await world.redis.set(world.keys.open, "of another type")
    await world.redis.config_set("maxmemory", 1)
    task = asyncio.create_task(rescue_of(world).run())
    try:
        world.steadiness.breaks += 1
        world.steadiness.answering.set()
        await asyncio.sleep(0.4)
    finally:
        await world.redis.config_set("maxmemory", 0)
        await world.redis.delete(world.keys.open)
    async with asyncio.timeout(20):
        while await world.queue.newest_open(10) != [stream_id]:
            await asyncio.sleep(0.01)
    task.cancel()


# ------------------------------------------------------------------------------------- by the front-ends that watch it


def losses_of(world: World, *, stall_timeout_s: float = STALL_S) -> Losses:
    return Losses(
        world.connection,
        steadiness=world.steadiness,
        lease_ttl_s=LEASE_MS / 1000,
        stall_timeout_s=stall_timeout_s,
        retention_ms=30_000,
    )


@asynccontextmanager
async def watching(world: World, losses: Losses) -> AsyncIterator[LiveTail]:
    async with LiveTail(
        world.connection.topology,
        world.streams,
        keys=world.keys,
        publish_probe=world.redis.spublish,
        times=TAILS,
        subscriber=NO_PROBES,
        losses=losses,
    ) as tail:
        yield tail


async def steady(world: World) -> asyncio.Task[None]:
    task = asyncio.create_task(world.steadiness.run())
    await until(lambda: world.steadiness.is_steady)
    return task


@pytest.mark.parametrize("written", [0, 3], ids=["before its first entry", "with its worker"])
async def test_viewers_of_a_lost_generation_receive_a_gap_and_an_error_and_so_does_a_new_one(
    world: World, written: int
) -> None:
    probing = await steady(world)
    stream_id = await accept(world)
    if written:
        claim = await world.claim(stream_id)
        await world.append(stream_id, claim.epoch, 1, [delta(str(number)) for number in range(written)])
    async with watching(world, losses_of(world)) as tail:
        room = Room()
        watch = tail.watch(stream_id, room)
        await until(lambda: watch._known is not None and len(room.entries) == written)
        await world.redis.flushall()
        await room.until(lambda: bool(room.entries) and room.entries[-1].is_terminal, within_s=5)
        watch.close()
        late = Room()
        tail.watch(stream_id, late)
        await late.until(lambda: bool(late.entries), within_s=5)
    for each in (room, late):
        assert each.entries[-1].event == terminals.GENERATION_LOST
        assert GapReason.TRIMMED in [getattr(notice, "reason", None) for notice in each.notices]
    assert (("rewound", START) in room.notices) == bool(written)
    meta = await world.generations.get(stream_id, tenant=TENANT)
    assert (meta.status, meta.model, meta.terminal) == ("failed", "m", terminals.GENERATION_LOST)
    assert 0 < await world.redis.pttl(world.keys.log(stream_id)) <= 30_000
    assert await world.redis.pttl(world.keys.meta(stream_id)) > 3_600_000
    probing.cancel()


async def test_a_lost_generation_ends_after_the_stall_time_out_though_redis_never_answers_steadily(
    world: World,
) -> None:
    stream_id = await accept(world)
    async with watching(world, losses_of(world, stall_timeout_s=0.3)) as tail:
        room = Room()
        watch = tail.watch(stream_id, room)
        await until(lambda: watch._known is not None)
        await world.redis.flushall()
        await room.until(lambda: bool(room.entries), within_s=5)
    assert room.entries[-1].event == terminals.GENERATION_LOST


@pytest.mark.parametrize("missing_s", [0.0, LEASE_MS / 1000])
async def test_a_lost_generation_is_not_ended_before_its_worker_had_a_lease_to_rewrite_it(
    world: World, missing_s: float
) -> None:
    losses = losses_of(world)
    probing = await steady(world) if missing_s == 0 else None
    known = KnownGeneration(TENANT, "m")

    assert not await losses.end("gen_a", known, last=START, missing_s=missing_s)

    assert await world.redis.keys("*gen_a*") == []
    if probing is not None:
        probing.cancel()


@pytest.mark.parametrize("left", ["meta", "lease", "end"])
async def test_a_generation_with_a_key_left_is_not_lost(world: World, left: str) -> None:
    stream_id, claim = await world.granted()
    if left == "end":
        await world.append(stream_id, claim.epoch, 1, [terminals.STOPPED])
    keys = {name: getattr(world.keys, name)(stream_id) for name in ("log", "meta", "lease", "live")}
    await world.redis.delete(*[keys[name] for name in ("meta", "lease") if name != left])
    before = await world.texts(stream_id)

    assert await SCRIPTS["lose"].run(world.redis, [*keys.values()], terminals.GENERATION_LOST, 1, 1000, 0) == 0

    assert await world.texts(stream_id) == before


async def test_the_end_of_a_lost_generation_fences_its_worker(world: World) -> None:
    stream_id, claim = await world.granted()
    await world.redis.flushall()
    keys = [getattr(world.keys, name)(stream_id) for name in ("log", "meta", "lease", "live")]
    ahead = claim.epoch + 10**6

    assert await SCRIPTS["lose"].run(world.redis, keys, terminals.GENERATION_LOST, 1, 1000, ahead) == 1

    answer = await world.append(stream_id, ahead, 3, [delta("late")])
    assert answer.code.name == "FENCED"
