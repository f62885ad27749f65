"""Create, broken off at every step and raced: one key, one generation, one job (docs/protocol.md §1)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial

import pytest

from broadcaster.errors import IdempotencyMismatch, LogUnavailable, QueueFull
from broadcaster.log.jobs.generations import Created, GenerationRequest
from broadcaster.log.jobs.idempotency import REFUSED_KEY_MS
from broadcaster.log.redis.connect import LogConnection
from broadcaster.log.redis.scripts import SCRIPTS
from tests.support.log.log_world import TENANT, World
from tests.support.servers.redis_relay import Moment, RedisRelay, open_redis_relay

REQUEST = GenerationRequest(model="m", request={"messages": [{"role": "user", "content": "hi"}]})
STEPS = {"key": b"$3\r\nSET\r\n", "meta": SCRIPTS["create"].sha.encode(), "job": SCRIPTS["enqueue"].sha.encode()}

WRITTEN_BY_THE_REPETITION = {("key", Moment.BEFORE), ("key", Moment.AFTER), ("meta", Moment.BEFORE)}


@pytest.fixture
async def world(connection: LogConnection) -> World:
    world = World(connection)
    await world.queue.create_group()
    for name in ("create", "enqueue", "keep", "record", "retime"):
        await world.redis.script_load(SCRIPTS[name].text)
    return world


@asynccontextmanager
async def breakable(redis_url: str, *, max_queue: int = 100) -> AsyncIterator[tuple[RedisRelay, World]]:
    """A front-end's log whose connection breaks when the test says so."""
    async with open_redis_relay(redis_url) as relay, LogConnection(relay.url) as connection:
        yield relay, World(connection, max_queue=max_queue)


async def only_generation(world: World) -> str:
    """The one generation there is: one meta, one job, in the open index and in the tenant's list."""
    (meta,) = await world.redis.keys("*:meta")
    stream_id = str(meta.decode().split("{")[1].split("}")[0])
    assert await world.queue.newest_open(10) == [stream_id]
    assert await world.redis.xlen(world.keys.ready) == 1
    assert [each.id for each in (await world.generations.lists.page(TENANT)).metas] == [stream_id]
    return stream_id


@pytest.mark.parametrize("moment", list(Moment))
@pytest.mark.parametrize("step", STEPS)
async def test_a_create_cut_at_any_step_is_completed_by_its_repetition(
    world: World, redis_url: str, step: str, moment: Moment
) -> None:
    async with breakable(redis_url) as (relay, front_end):
        relay.cut_at(STEPS[step], moment)
        with pytest.raises(LogUnavailable):
            await front_end.generations.create(REQUEST, tenant=TENANT, idempotency_key="k")
        repeated = await front_end.generations.create(REQUEST, tenant=TENANT, idempotency_key="k")
        third = await front_end.generations.create(REQUEST, tenant=TENANT, idempotency_key="k")
    assert repeated.id == third.id == await only_generation(world)
    assert repeated.created == ((step, moment) in WRITTEN_BY_THE_REPETITION)
    assert not third.created


@pytest.mark.parametrize("moment", list(Moment))
async def test_a_list_that_could_not_be_written_is_no_reason_to_refuse_what_runs(
    world: World, redis_url: str, moment: Moment
) -> None:
    async with breakable(redis_url) as (relay, front_end):
        relay.cut_at(SCRIPTS["record"].sha.encode(), moment)
        made = await front_end.generations.create(REQUEST, tenant=TENANT)
    assert made.id == await only_generation(world)


async def test_only_the_call_that_stored_it_learns_that_it_was_created(world: World) -> None:
    made = await asyncio.gather(
        *(world.generations.create(REQUEST, tenant=TENANT, idempotency_key="k") for _ in range(20))
    )
    assert {each.id for each in made} == {await only_generation(world)}
    assert sum(each.created for each in made) == 1


async def test_a_repeat_that_got_a_place_is_not_undone_by_the_first_that_got_none(world: World, redis_url: str) -> None:
    """The first create meets a full queue; before it has undone anything, a place is free and a repeat takes it."""
    async with breakable(redis_url, max_queue=1) as (relay, first):
        waiting = (await world.generations.create(REQUEST, tenant=TENANT)).id
        relay.hold_at(SCRIPTS["retime"].sha.encode())
        refused = asyncio.create_task(first.generations.create(REQUEST, tenant=TENANT, idempotency_key="k"))
        await relay.held.wait()
        await world.generations.delete(waiting, tenant=TENANT, timeout_s=1)
        repeat = await world.generations.create(REQUEST, tenant=TENANT, idempotency_key="k")
        relay.resume()
        made = await refused
    assert made.id == repeat.id
    meta = await world.streams.meta(repeat.id)
    assert meta is not None
    assert meta.status == "queued"
    assert await world.redis.pttl(world.keys.idem(TENANT, "k")) > REFUSED_KEY_MS


async def test_a_repeat_whose_generation_was_undone_meanwhile_starts_over(world: World, redis_url: str) -> None:
    """Both are about to enqueue; the first is refused and undoes what the repeat relies on; then a place is free."""
    async with (
        breakable(redis_url, max_queue=1) as (first_relay, first),
        breakable(redis_url, max_queue=1) as (second_relay, second),
    ):
        waiting = (await world.generations.create(REQUEST, tenant=TENANT)).id
        first_relay.hold_at(SCRIPTS["enqueue"].sha.encode())
        refused = asyncio.create_task(first.generations.create(REQUEST, tenant=TENANT, idempotency_key="k"))
        await first_relay.held.wait()
        second_relay.hold_at(SCRIPTS["enqueue"].sha.encode())
        repeating = asyncio.create_task(second.generations.create(REQUEST, tenant=TENANT, idempotency_key="k"))
        await second_relay.held.wait()
        first_relay.resume()
        with pytest.raises(QueueFull):
            await refused
        await world.generations.delete(waiting, tenant=TENANT, timeout_s=1)
        await world.redis.delete(world.keys.meta(waiting))
        second_relay.resume()
        repeat = await repeating
    assert (repeat.id, repeat.created) == (await only_generation(world), True)
    assert await world.redis.pttl(world.keys.idem(TENANT, "k")) > REFUSED_KEY_MS


async def test_a_key_finds_what_is_there_and_writes_nothing_where_it_is_not(world: World) -> None:
    find = partial(world.generations.find, REQUEST, tenant=TENANT)
    assert await find(idempotency_key="unknown") is None
    for key in ("expired", "deleted"):
        made = await world.generations.create(REQUEST, tenant=TENANT, idempotency_key=key)
        assert await find(idempotency_key=key) == Created(made.id, created=False)
        with pytest.raises(IdempotencyMismatch):
            await world.generations.find(replace(REQUEST, model="other"), tenant=TENANT, idempotency_key=key)
        if key == "deleted":
            await world.generations.delete(made.id, tenant=TENANT, timeout_s=1)
        else:
            await world.redis.delete(world.keys.meta(made.id))
        before = set(await world.redis.keys("*"))
        assert await find(idempotency_key=key) is None
        assert set(await world.redis.keys("*")) == before
