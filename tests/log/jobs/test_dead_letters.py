"""Dead letters: found, reported, and restarted as new generations, each once."""

from __future__ import annotations

import asyncio

import pytest

from broadcaster.errors import IdempotencyMismatch, QueueFull, UnknownStream
from broadcaster.log.jobs.claims import Outcome, Why
from broadcaster.log.jobs.dead_letters import PAGE, DeadLetters
from broadcaster.log.jobs.generations import GenerationRequest
from broadcaster.log.jobs.queue import Job, Settled
from broadcaster.log.jobs.sweeper import Sweeper, SweepTimes
from broadcaster.log.redis.connect import LogConnection
from tests.support.log.log_world import TENANT, World


@pytest.fixture
async def world(connection: LogConnection) -> World:
    world = World(connection, max_attempts=1)
    await world.queue.create_group()
    return world


@pytest.fixture
def letters(world: World) -> DeadLetters:
    return letters_of(world)


def letters_of(world: World) -> DeadLetters:
    return DeadLetters(world.connection, streams=world.streams, generations=world.generations)


async def test_a_dead_generation_is_listed_with_its_reason_and_model(world: World, letters: DeadLetters) -> None:
    first, second = await world.die(), await world.die()
    found = await letters.newest(10)
    assert [letter.generation_id for letter in found] == [second, first]
    assert {(letter.reason, letter.model, letter.can_requeue) for letter in found} == {("attempts_spent", "m", True)}
    assert abs(found[0].at_ms - (await world.redis.time())[0] * 1000) < 5000


async def test_only_the_newest_letters_are_read_when_few_are_requested(world: World, letters: DeadLetters) -> None:
    await world.die()
    newest = await world.die()
    assert [letter.generation_id for letter in await letters.newest(1)] == [newest]


async def test_letters_of_many_pages_are_all_found(world: World, letters: DeadLetters) -> None:
    pipeline = world.redis.pipeline(transaction=False)
    for at in range(2 * PAGE + 1):
        pipeline.xadd(world.keys.dead, {"id": f"gen_{at}", "reason": "attempts_spent"})
    await pipeline.execute()
    found = [letter.generation_id for letter in await letters.newest(10_000)]
    assert found == [f"gen_{at}" for at in reversed(range(2 * PAGE + 1))]


async def test_a_requeued_letter_becomes_a_new_generation_with_the_same_request_and_policies(
    world: World, letters: DeadLetters
) -> None:
    dead = await world.die()
    (letter,) = await letters.newest(10)
    created = await letters.requeue(letter)
    old, new = await world.streams.meta(dead), await world.streams.meta(created.id)
    assert old is not None
    assert new is not None
    assert new.id != old.id
    assert (new.status, new.attempts) == ("queued", 0)
    for name in ("tenant", "model", "request", "on_worker_loss", "on_abandon", "retention_ms"):
        assert getattr(new, name) == getattr(old, name)
    assert await letters.newest(10) == []
    assert await world.queue.newest_open(10) == [created.id]


async def test_a_repeated_requeue_starts_nothing_more(world: World, letters: DeadLetters) -> None:
    await world.die()
    (letter,) = await letters.newest(10)
    first, second = await letters.requeue(letter), await letters.requeue(letter)
    assert (first.created, second.created) == (True, False)
    assert first.id == second.id


async def test_a_requeued_letter_does_not_come_back_when_its_client_repeats_the_create(
    world: World, letters: DeadLetters
) -> None:
    request = GenerationRequest(model="m", request={"messages": []})
    dead = (await world.generations.create(request, tenant=TENANT, idempotency_key="k")).id
    await world.spend(dead)
    (letter,) = await letters.newest(10)
    requeued = await letters.requeue(letter)
    repeat = await world.generations.create(request, tenant=TENANT, idempotency_key="k")
    assert (repeat.id, repeat.created) == (dead, False)
    await sweeper(world).sweep()
    assert await letters.newest(10) == []
    assert await world.queue.newest_open(10) == [requeued.id]


async def test_racing_requeues_start_one_generation(world: World) -> None:
    await world.die()
    racers = [letters_of(world) for _ in range(20)]
    (letter,) = await racers[0].newest(10)
    created = await asyncio.gather(*(racer.requeue(letter) for racer in racers))
    assert len({each.id for each in created}) == 1
    assert len(await world.queue.newest_open(10)) == 1
    assert await world.redis.xlen(world.keys.ready) == 1


async def test_a_job_that_is_settled_twice_is_one_dead_letter(world: World) -> None:
    await world.die(times_settled=2)
    assert await world.redis.xlen(world.keys.dead) == 1


async def test_a_letter_written_twice_by_an_earlier_version_is_one_letter_and_goes_as_one(
    world: World, letters: DeadLetters
) -> None:
    dead = await world.die()
    await world.redis.xadd(world.keys.dead, {"id": dead, "reason": "attempts_spent"})
    (letter,) = await letters.newest(10)
    assert letter.generation_id == dead
    await letters.requeue(letter)
    assert await world.redis.xlen(world.keys.dead) == 0


async def test_a_worker_that_dies_between_the_end_and_its_settling_leaves_a_letter_by_the_next_delivery(
    world: World, letters: DeadLetters
) -> None:
    stream_id, job = await dies_unsettled(world)
    assert await letters.newest(10) == []
    claim = await World(world.connection, worker="w2").claim(stream_id)
    assert (claim.outcome, claim.why) == (Outcome.OVER, Why.ATTEMPTS_SPENT)
    await world.queue.settle(job, Settled.DEAD, reason=claim.why.name.lower())
    assert [letter.generation_id for letter in await letters.newest(10)] == [stream_id]


async def test_or_by_the_sweep_and_by_both_it_is_one_letter_also_when_it_was_requeued_between(
    world: World, letters: DeadLetters
) -> None:
    stream_id, job = await dies_unsettled(world)
    for _ in range(2):
        await sweeper(world).sweep()
    (letter,) = await letters.newest(10)
    assert (letter.generation_id, letter.reason) == (stream_id, "attempts_spent")
    assert await world.queue.newest_open(10) == []
    new = await letters.requeue(letter)
    await world.queue.settle(job, Settled.DEAD, reason="attempts_spent")
    assert await letters.newest(10) == []
    assert await world.queue.newest_open(10) == [new.id]


async def test_a_sweep_that_checked_before_the_end_and_gives_a_job_after_it_makes_no_second_letter(
    world: World, letters: DeadLetters
) -> None:
    stream_id = await world.die()
    await world.queue.enqueue(stream_id, tenant=TENANT)
    reader = world.reader()
    (job,) = await reader.take(1)
    await reader.aclose()
    assert (await world.claim(stream_id)).why is Why.ATTEMPTS_SPENT
    await world.queue.settle(job, Settled.DEAD, reason="attempts_spent")
    assert await world.redis.xlen(world.keys.dead) == 1
    assert await world.queue.newest_open(10) == []


async def dies_unsettled(world: World) -> tuple[str, Job]:
    """A generation whose attempts are spent and whose job the worker that found it so could not settle any more."""
    stream_id = await world.create()
    reader = world.reader()
    (job,) = await reader.take(1)
    await reader.aclose()
    await world.claim(stream_id)
    await world.lapse(stream_id)
    assert (await world.claim(stream_id)).why is Why.ATTEMPTS_SPENT
    return stream_id, job


def sweeper(world: World) -> Sweeper:
    return Sweeper(
        SweepTimes(60_000, 60_000, 60_000),
        queue=world.queue,
        claims=world.claims,
        streams=world.streams,
        steadiness=world.steadiness,
    )


async def test_without_its_request_a_letter_is_reported_and_stays(world: World, letters: DeadLetters) -> None:
    dead = await world.die()
    await world.redis.delete(world.keys.meta(dead))
    (letter,) = await letters.newest(10)
    assert (letter.model, letter.can_requeue) == (None, False)
    with pytest.raises(UnknownStream, match="has expired"):
        await letters.requeue(letter)
    assert len(await letters.newest(10)) == 1


async def test_a_full_queue_leaves_the_letter(connection: LogConnection) -> None:
    world = World(connection, max_attempts=1, max_queue=1)
    await world.queue.create_group()
    await world.die()
    await world.create()
    letters = letters_of(world)
    (letter,) = await letters.newest(10)
    with pytest.raises(QueueFull):
        await letters.requeue(letter)
    assert await letters.newest(10) == [letter]


async def test_a_key_that_its_tenant_used_for_something_else_starts_nothing(world: World, letters: DeadLetters) -> None:
    dead = await world.die()
    await world.generations.create(
        GenerationRequest(model="other", request={"messages": []}), tenant=TENANT, idempotency_key=f"dead:{dead}"
    )
    (letter,) = await letters.newest(10)
    with pytest.raises(IdempotencyMismatch):
        await letters.requeue(letter)
    assert await letters.newest(10) == [letter]


async def test_a_requeued_generation_can_die_and_be_requeued_a_second_time(world: World, letters: DeadLetters) -> None:
    await world.die()
    (letter,) = await letters.newest(10)
    second = (await letters.requeue(letter)).id
    await world.spend(second)
    (letter,) = await letters.newest(10)
    third = await letters.requeue(letter)
    assert third.created
    assert third.id != second
