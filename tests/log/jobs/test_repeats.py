"""A repeated create whose generation was abandoned starts a new one: the answer was cut off without its caller."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from broadcaster.core.events import Abort, Error, Finish, encode_event
from broadcaster.log.jobs.generations import Created, GenerationRequest
from broadcaster.log.redis.connect import LogConnection
from broadcaster.log.redis.scripts import SCRIPTS
from broadcaster.log.streams.presence import Abandonment, Presence
from tests.support.log.log_world import TENANT, World, delta
from tests.support.servers.redis_relay import open_redis_relay

REQUEST = GenerationRequest(model="m", request={"messages": [{"role": "user", "content": "hi"}]}, on_abandon="cancel")
DEADLINE_S = 20.0


class Steady:
    """A process that has seen Redis answer for long enough."""

    def has_answered_for(self, lease_s: float) -> bool:
        return True


@pytest.fixture
async def world(connection: LogConnection) -> World:
    world = World(connection, presence=Presence(connection, front_end="here", ttl_s=60))
    await world.queue.create_group()
    for name in ("create", "retime"):
        await world.redis.script_load(SCRIPTS[name].text)
    return world


async def create(world: World, *, is_watched: bool = False) -> Created:
    return await world.generations.create(REQUEST, tenant=TENANT, idempotency_key="k", is_watched=is_watched)


async def abandon(world: World, stream_id: str) -> None:
    """It had a viewer, has none any more, and its grace is over."""
    assert world.presence is not None
    await world.presence.report({stream_id: 1})
    await world.presence.report({})
    async with asyncio.timeout(DEADLINE_S):
        while not await abandonment(world).check([stream_id]):
            await asyncio.sleep(0.001)


def abandonment(world: World) -> Abandonment:
    return Abandonment(world.connection, grace_s=0, presence_ttl_s=60, steadiness=Steady())


async def end(world: World, stream_id: str, event: bytes) -> None:
    claim = await world.claim(stream_id)
    await world.append(stream_id, claim.epoch, 1, [delta("half an answer"), event])


@pytest.mark.parametrize("has_ended", [False, True])
async def test_repeats_of_an_abandoned_generation_start_one_new_one_also_while_it_is_being_stopped(
    world: World, has_ended: bool
) -> None:
    first = await create(world)
    if has_ended:
        await end(world, first.id, encode_event(Abort(reason="abandoned")))
    else:
        await abandon(world, first.id)
    repeats = await asyncio.gather(*(create(world) for _ in range(20)))
    (new,) = {each.id for each in repeats}
    assert new != first.id
    assert sum(each.created for each in repeats) == 1
    assert await create(world) == Created(new, created=False)
    meta = await world.streams.meta(first.id)
    assert meta is not None
    assert meta.is_over == has_ended


@pytest.mark.parametrize("event", [Finish(), Abort(reason="stopped"), Error(error_text="no", code="worker_lost")])
async def test_a_generation_that_ended_in_any_other_way_keeps_its_key(
    world: World, event: Finish | Abort | Error
) -> None:
    first = await create(world)
    claim = await world.claim(first.id)
    await abandon(world, first.id)  # too late: its worker writes another end
    await world.append(first.id, claim.epoch, 1, [delta("an answer"), encode_event(event)])
    assert await create(world) == Created(first.id, created=False)


async def test_a_generation_that_its_caller_is_stopping_keeps_its_key(world: World) -> None:
    first = await create(world)
    await world.claim(first.id)
    await world.generations.stop(first.id, tenant=TENANT)
    assert await create(world) == Created(first.id, created=False)


async def test_a_key_does_not_find_an_abandoned_generation(world: World) -> None:
    first = await create(world)
    assert await world.generations.find(REQUEST, tenant=TENANT, idempotency_key="k") == replace(first, created=False)
    await abandon(world, first.id)
    assert await world.generations.find(REQUEST, tenant=TENANT, idempotency_key="k") is None


async def test_a_repeat_that_saw_the_abandoned_generation_first_leaves_the_key_to_the_new_one(
    world: World, redis_url: str
) -> None:
    """It is about to free the key when another repeat has taken it already."""
    first = await create(world)
    await abandon(world, first.id)
    async with open_redis_relay(redis_url) as relay, LogConnection(relay.url) as connection:
        relay.hold_at(SCRIPTS["retime"].sha.encode())
        slow = asyncio.create_task(create(World(connection, presence=world.presence)))
        await asyncio.wait_for(relay.held.wait(), DEADLINE_S)
        new = await create(world)
        relay.resume()
        assert await slow == Created(new.id, created=False)
    assert new.created


@pytest.mark.parametrize("was_reported", [True, False])
async def test_a_repeat_that_watches_a_generation_without_viewers_keeps_it_from_being_abandoned_at_once(
    world: World, was_reported: bool
) -> None:
    """Also if the front-end that serves the repeat dies before it has reported its viewer."""
    assert world.presence is not None
    first = await create(world, is_watched=True)
    if was_reported:
        await world.presence.report({})
    else:
        await world.redis.delete(world.keys.viewers(first.id))
    assert await create(world, is_watched=True) == Created(first.id, created=False)
    assert await abandonment(world).check([first.id]) == []
    assert await world.presence.count([first.id]) == [1]


async def test_a_repeat_leaves_the_reports_of_viewers_as_they_are(world: World) -> None:
    assert world.presence is not None
    first = await create(world)
    await world.presence.report({first.id: 3})
    await create(world, is_watched=True)
    assert await world.presence.count([first.id]) == [3]
    await end(world, first.id, encode_event(Finish()))
    await world.redis.delete(world.keys.viewers(first.id))
    await create(world, is_watched=True)
    assert await world.presence.count([first.id]) == [0]
