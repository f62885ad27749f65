"""The queue, the sweep and create (docs/protocol.md §1, §4)."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from broadcaster.errors import IdempotencyMismatch, QueueFull, StopNotDurable, UnknownStream
from broadcaster.log.jobs.generations import GenerationRequest
from broadcaster.log.jobs.idempotency import REFUSED_KEY_MS
from broadcaster.log.jobs.queue import GROUP, SWEPT_AT_ONCE, Settled
from broadcaster.log.jobs.rescue.accepted import create_meta
from broadcaster.log.redis.connect import LogConnection
from broadcaster.log.redis.scripts import SCRIPTS
from broadcaster.log.streams.presence import Presence
from tests.support.log.log_world import TENANT, World

REQUEST = GenerationRequest(model="m", request={"messages": [{"role": "user", "content": "hi"}]})


@pytest.fixture
async def world(connection: LogConnection) -> World:
    world = World(connection)
    await world.queue.create_group()
    return world


async def test_create_writes_meta_open_index_and_one_job(world: World) -> None:
    stream_id = await world.create()
    reader = world.reader()
    (job,) = await reader.take(5)
    assert job.generation_id == stream_id
    assert await world.queue.newest_open(10) == [stream_id]
    assert await world.redis.pttl(world.keys.meta(stream_id)) > 0
    await reader.aclose()


async def test_a_second_job_for_the_same_generation_is_not_made(world: World) -> None:
    stream_id = await world.create()
    assert await world.queue.enqueue(stream_id, tenant=TENANT) == 0
    assert await world.redis.xlen(world.keys.ready) == 1
    await world.redis.zadd(world.keys.delayed, {"gen_later": 1})
    assert await world.queue.enqueue("gen_later", tenant=TENANT) == 0


async def test_a_full_queue_refuses_and_leaves_only_the_key_for_seconds(
    connection: LogConnection,
) -> None:
    world = World(connection, max_queue=1)
    await world.create()
    before = await world.redis.keys("*")
    with pytest.raises(QueueFull):
        await world.generations.create(REQUEST, tenant=TENANT, idempotency_key="k")
    key = world.keys.idem(TENANT, "k")
    assert set(await world.redis.keys("*")) - set(before) == {key.encode()}
    assert await world.redis.pttl(key) <= REFUSED_KEY_MS


async def test_a_refused_create_that_was_watched_leaves_no_viewers_behind(connection: LogConnection) -> None:
    presence = Presence(connection, front_end="f1", ttl_s=10)
    world = World(connection, max_queue=1, presence=presence)
    await world.create()
    before = await world.redis.keys("*")
    request = replace(REQUEST, on_abandon="cancel")
    with pytest.raises(QueueFull):
        await world.generations.create(request, tenant=TENANT, is_watched=True)
    assert set(await world.redis.keys("*")) == set(before)


async def test_undoing_a_create_leaves_a_generation_alone_that_a_worker_has_begun(world: World) -> None:
    stream_id, _ = await world.granted()
    keys = [world.keys.meta(stream_id), world.keys.viewers(stream_id)]
    assert await SCRIPTS["forget"].run(world.redis, keys) == 0
    assert await world.streams.meta(stream_id) is not None


async def test_the_same_key_and_body_name_the_same_generation_also_when_they_race(world: World) -> None:
    made = await asyncio.gather(
        *(world.generations.create(REQUEST, tenant=TENANT, idempotency_key="k") for _ in range(5))
    )
    assert len({each.id for each in made}) == 1
    assert sum(each.created for each in made) == 1
    assert await world.redis.xlen(world.keys.ready) == 1
    other = await world.generations.create(REQUEST, tenant="other", idempotency_key="k")
    assert other.id != made[0].id


async def test_the_same_key_with_another_body_is_refused(world: World) -> None:
    await world.generations.create(REQUEST, tenant=TENANT, idempotency_key="k")
    with pytest.raises(IdempotencyMismatch):
        await world.generations.create(
            GenerationRequest(model="m", request={"messages": []}), tenant=TENANT, idempotency_key="k"
        )


@pytest.mark.parametrize("survives", ["key", "key and meta"])
async def test_a_create_that_broke_off_is_completed_by_its_repetition(world: World, survives: str) -> None:
    made = await world.generations.create(REQUEST, tenant=TENANT, idempotency_key="k")
    await world.redis.delete(world.keys.ready, world.keys.open)
    if survives == "key":
        await world.redis.delete(world.keys.meta(made.id))
    repeated = await world.generations.create(REQUEST, tenant=TENANT, idempotency_key="k")
    assert repeated.id == made.id
    assert await world.queue.newest_open(10) == [made.id]
    assert await world.redis.xlen(world.keys.ready) == 1


async def test_create_never_overwrites_a_meta(world: World) -> None:
    stream_id, claim = await world.granted()
    assert not await create_meta(world.connection, stream_id, {"status": "queued"}, ttl_ms=1000)
    meta = await world.streams.meta(stream_id)
    assert meta is not None
    assert (meta.status, meta.epoch) == ("running", claim.epoch)


async def test_another_tenants_generation_is_unknown(world: World) -> None:
    stream_id = await world.create()
    with pytest.raises(UnknownStream):
        await world.generations.get(stream_id, tenant="other")
    with pytest.raises(UnknownStream):
        await world.generations.stop(stream_id, tenant="other")
    with pytest.raises(UnknownStream):
        await world.generations.delete(stream_id, tenant="other", timeout_s=1)
    assert (await world.generations.lists.page("other")).metas == []
    assert [meta.id for meta in (await world.generations.lists.page(TENANT)).metas] == [stream_id]


async def test_ids_that_could_move_the_hash_tag_are_unknown(world: World) -> None:
    for bad in ("", "a}b", "{jobs}", "a b", "a/b", "x" * 129, "ü"):
        with pytest.raises(UnknownStream):
            await world.generations.get(bad, tenant=TENANT)


async def test_a_stop_on_a_full_redis_is_sent_all_the_same_and_reported_as_not_durable(world: World) -> None:
    stream_id, _ = await world.granted()
    pubsub = world.redis.pubsub()
    await pubsub.ssubscribe(world.keys.control(stream_id))
    await pubsub.get_message(timeout=20)
    await world.redis.config_set("maxmemory", 1)
    try:
        with pytest.raises(StopNotDurable):
            await world.generations.stop(stream_id, tenant=TENANT)
    finally:
        await world.redis.config_set("maxmemory", 0)
    message = await pubsub.get_message(timeout=20)
    assert message is not None
    assert message["data"] == b"stop stopped"
    await pubsub.aclose()


async def test_a_silent_workers_jobs_are_taken_and_kept_ones_are_not(world: World) -> None:
    ids = [await world.create() for _ in range(4)]
    reader = world.reader()
    jobs = await reader.take(10)
    assert [job.generation_id for job in jobs] == ids
    other = World(world.connection, worker="w2")
    assert (await other.queue.take_silent(silent_ms=60_000, count=10)).jobs == []
    for job in jobs:
        await world.redis.xclaim(job.source, GROUP, "w1", 0, [job.entry_id], idle=90_000, justid=True)
    await world.queue.keep(jobs[:2], over=world.redis)
    assert (await other.queue.take_silent(silent_ms=60_000, count=10)).jobs == jobs[2:]
    await reader.aclose()


async def test_a_job_that_was_taken_before_its_lease_was_over_is_rechecked_at_the_next_turn(world: World) -> None:
    await world.create()
    reader = world.reader()
    (job,) = await reader.take(1)
    other = World(world.connection, worker="w2")
    await world.redis.xclaim(job.source, GROUP, "w1", 0, [job.entry_id], idle=90_000, justid=True)
    assert (await other.queue.take_silent(silent_ms=60_000, count=1)).jobs == [job]
    assert (await other.queue.take_silent(silent_ms=60_000, count=1)).jobs == []
    await other.queue.mark_silent(job, silent_ms=60_000)
    assert (await other.queue.take_silent(silent_ms=60_000, count=1)).jobs == [job]
    await reader.aclose()


async def test_all_own_jobs_are_found_however_many(connection: LogConnection) -> None:
    world = World(connection, max_queue=3 * SWEPT_AT_ONCE)
    await world.queue.create_group()
    ids = [await world.create() for _ in range(2 * SWEPT_AT_ONCE + 1)]
    reader = world.reader()
    assert len(await reader.take(len(ids))) == len(ids)
    assert [job.generation_id for job in await reader.take_own()] == ids
    await reader.aclose()


async def test_a_job_that_was_handed_back_goes_before_jobs_that_have_not_begun(world: World) -> None:
    reader = world.reader()
    handed_back = await world.create()
    (job,) = await reader.take(1)
    for _ in range(3):
        await world.create()
    await world.queue.settle(job, Settled.REQUEUE)
    assert (await reader.take(1))[0].generation_id == handed_back
    assert await world.queue.enqueue(handed_back, tenant=TENANT) == 0
    await reader.aclose()


@pytest.mark.parametrize(("delay_ms", "waiting"), [(0, (1, 0)), (60_000, (0, 1))])
async def test_a_job_that_is_given_back_twice_because_a_reply_was_lost_waits_once(
    world: World, delay_ms: int, waiting: tuple[int, int]
) -> None:
    await world.create()
    reader = world.reader()
    (job,) = await reader.take(1)
    await world.queue.settle(job, Settled.REQUEUE, delay_ms=delay_ms)
    due = await world.redis.zrange(world.keys.delayed, 0, -1, withscores=True)
    await world.queue.settle(job, Settled.REQUEUE, delay_ms=delay_ms + 1 if delay_ms else 0)
    assert (await world.redis.xlen(world.keys.ready_hi), await world.redis.zcard(world.keys.delayed)) == waiting
    assert await world.redis.zrange(world.keys.delayed, 0, -1, withscores=True) == due
    await reader.aclose()


async def test_a_job_that_is_given_back_to_an_emptied_redis_waits_there(world: World) -> None:
    stream_id = await world.create()
    reader = world.reader()
    (job,) = await reader.take(1)
    await world.redis.flushall()
    await world.queue.create_group()
    await world.queue.settle(job, Settled.REQUEUE)
    assert await world.queue.newest_open(10) == [stream_id]
    assert [each.generation_id for each in await reader.take(1)] == [stream_id]
    await reader.aclose()


async def test_settling_takes_the_job_and_the_open_index_entry_away(world: World) -> None:
    stream_id = await world.create()
    reader = world.reader()
    (job,) = await reader.take(1)
    await world.queue.settle(job, Settled.DONE)
    assert await world.queue.newest_open(10) == []
    assert await world.redis.xlen(world.keys.ready) == 0
    assert await reader.take_own() == []
    await world.queue.settle(job, Settled.DONE)  # a lost reply, resent
    assert stream_id
    await reader.aclose()


async def test_a_job_settled_with_a_delay_comes_back_when_it_is_due(world: World) -> None:
    stream_id = await world.create()
    reader = world.reader()
    (job,) = await reader.take(1)
    await world.queue.settle(job, Settled.REQUEUE, delay_ms=60_000)
    assert await world.queue.promote() == 0
    await world.redis.zadd(world.keys.delayed, {stream_id: 1})
    assert await world.queue.promote() == 1
    assert [each.generation_id for each in await reader.take(1)] == [stream_id]
    await reader.aclose()


async def test_a_job_that_has_waited_out_its_back_off_goes_before_jobs_that_have_not_begun(world: World) -> None:
    stream_id = await world.create()
    reader = world.reader()
    (job,) = await reader.take(1)
    await world.queue.settle(job, Settled.REQUEUE, delay_ms=60_000)
    for _ in range(3):
        await world.create()
    await world.redis.zadd(world.keys.delayed, {stream_id: 1})
    assert await world.queue.promote() == 1
    assert (await reader.take(1))[0].generation_id == stream_id
    assert await world.queue.enqueue(stream_id, tenant=TENANT) == 0  # its job is found there
    await reader.aclose()


async def test_dead_letters_are_kept(world: World) -> None:
    stream_id = await world.create()
    reader = world.reader()
    (job,) = await reader.take(1)
    await world.queue.settle(job, Settled.DEAD, reason="attempts_spent")
    ((_, fields),) = await world.redis.xrange(world.keys.dead)
    assert fields == {b"id": stream_id.encode(), b"reason": b"attempts_spent"}
    await reader.aclose()


async def test_an_emptied_redis_gets_its_group_back(world: World) -> None:
    reader = world.reader()
    await world.redis.flushall()
    assert await reader.take(1) == []
    stream_id = await world.create()
    assert [job.generation_id for job in await reader.take(1)] == [stream_id]
    await world.redis.flushall()
    assert (await world.queue.take_silent(silent_ms=1, count=1)).jobs == []
    await reader.aclose()


async def test_every_key_has_a_ttl_or_a_bound(world: World) -> None:
    stream_id, claim = await world.granted()
    await world.append(stream_id, claim.epoch, 1, [b'{"type":"text-delta","id":"0","delta":"a"}'])
    names = world.keys
    bounded = {names.ready, names.ready_hi, names.waiting, names.turns, names.open, names.workers, names.dead}
    for key in await world.redis.keys("*"):
        if key.decode() not in bounded:
            assert await world.redis.pttl(key) > 0, key
