"""Attempts after a loss: bounded, with a back-off that a worker which comes back ends; and what is no loss."""

from __future__ import annotations

import pytest

from broadcaster.core.batching import Code
from broadcaster.core.events import Attempt, decode_event
from broadcaster.log.jobs.claims import ATTEMPT_BACKOFF_CAP_MS, Claim, Outcome, Why
from broadcaster.log.redis.connect import LogConnection
from broadcaster.log.streams import terminals
from broadcaster.log.streams.appender import Appender
from broadcaster.log.streams.writer import WriterEnd
from tests.support.log.log_world import World, delta

BACKOFF_MS = 10_000


@pytest.fixture
def world(connection: LogConnection) -> World:
    return World(connection, max_attempts=20, attempt_backoff_ms=BACKOFF_MS)


async def lose(world: World, stream_id: str, times: int) -> Claim:
    """The claim after so many lost attempts; back-offs between them are cut short."""
    for _ in range(times):
        await world.redis.hset(world.keys.meta(stream_id), "retry_ms", 1)
        claim = await world.claim(stream_id)
        assert claim.outcome is Outcome.GRANTED
        await world.append(stream_id, claim.epoch, claim.last_seq + 1, [delta("half")])
        await world.lapse(stream_id)
    return await world.claim(stream_id)


async def test_the_second_attempt_begins_at_once(world: World) -> None:
    claim = await lose(world, await world.create(), 1)
    assert (claim.outcome, claim.attempt) == (Outcome.GRANTED, 2)


@pytest.mark.parametrize(("losses", "full_ms"), [(2, BACKOFF_MS), (3, 2 * BACKOFF_MS), (9, ATTEMPT_BACKOFF_CAP_MS)])
async def test_from_the_third_on_an_attempt_waits_doubled_capped_and_jittered(
    world: World, losses: int, full_ms: int
) -> None:
    waits_ms = []
    for _ in range(10):
        claim = await lose(world, await world.create(), losses)
        assert (claim.outcome, claim.attempt) == (Outcome.WAITING, losses)
        waits_ms.append(claim.wait_ms)
    assert full_ms / 2 - 1000 < min(waits_ms)
    assert max(waits_ms) <= full_ms + 1
    assert max(waits_ms) - min(waits_ms) > full_ms / 100


async def test_a_wait_is_decided_once_and_ends(world: World) -> None:
    stream_id = await world.create()
    first = await lose(world, stream_id, 2)
    assert (await World(world.connection, worker="w2", max_attempts=20).claim(stream_id)).outcome is Outcome.GRANTED
    # ... for w2 has no back-off; under the same policy no worker decides it anew
    stream_id = await world.create()
    first = await lose(world, stream_id, 2)
    for _ in range(5):
        second = await world.claim(stream_id)
        assert second.outcome is Outcome.WAITING
        assert second.wait_ms <= first.wait_ms
    await world.redis.hset(world.keys.meta(stream_id), "retry_ms", 1)
    assert (await world.claim(stream_id)).outcome is Outcome.GRANTED
    assert await world.redis.hget(world.keys.meta(stream_id), "retry_ms") is None
    await world.lapse(stream_id)
    assert (await world.claim(stream_id)).wait_ms > BACKOFF_MS / 2  # the next loss has a wait of its own


async def test_a_worker_that_comes_back_while_the_next_attempt_waits_goes_on(world: World, appender: Appender) -> None:
    keeper = world.keeper(appender)
    stream_id = await world.create()
    assert (await lose(world, stream_id, 1)).outcome is Outcome.GRANTED
    claim = Claim(Outcome.GRANTED, await epoch_of(world, stream_id), 2, 2, Why.NOT)
    writer = await world.writer(stream_id, claim, appender, keeper)
    await world.lapse(stream_id)
    other = World(world.connection, worker="w2", max_attempts=20, attempt_backoff_ms=BACKOFF_MS)
    assert (await other.claim(stream_id)).outcome is Outcome.WAITING
    await keeper.renew()
    assert not writer.over.is_set()
    assert (await other.claim(stream_id)).outcome is Outcome.LEASED
    assert (await world.append(stream_id, writer.epoch, 3, [delta("on")])).code is Code.APPENDED


async def test_a_worker_that_came_back_leaves_no_wait_behind_for_the_next_loss(
    world: World, appender: Appender
) -> None:
    keeper = world.keeper(appender)
    stream_id = await world.create()
    await lose(world, stream_id, 1)
    claim = Claim(Outcome.GRANTED, await epoch_of(world, stream_id), 2, 2, Why.NOT)
    await world.writer(stream_id, claim, appender, keeper)
    await world.lapse(stream_id)
    assert (await world.claim(stream_id)).outcome is Outcome.WAITING
    await world.redis.hset(world.keys.meta(stream_id), "retry_ms", 1)  # that wait is long over
    await keeper.renew()
    await world.lapse(stream_id)
    assert (await world.claim(stream_id)).wait_ms > BACKOFF_MS / 2 - 1000


async def test_an_attempt_that_its_provider_broke_off_adds_no_wait_for_the_first_worker_lost_after_it(
    world: World,
) -> None:
    stream_id, claim = await world.granted()
    for _ in range(3):
        granted = await world.claims.next_attempt(stream_id, epoch=claim.epoch)
        assert granted is not None
        claim = granted
    await world.lapse(stream_id)
    claim = await world.claim(stream_id)
    assert (claim.outcome, claim.attempt) == (Outcome.GRANTED, 5)
    await world.lapse(stream_id)
    assert BACKOFF_MS / 2 - 1000 < (await world.claim(stream_id)).wait_ms <= BACKOFF_MS + 1


async def test_an_attempt_that_its_provider_broke_off_counts_among_the_attempts(connection: LogConnection) -> None:
    world = World(connection, max_attempts=2, attempt_backoff_ms=BACKOFF_MS)
    stream_id, claim = await world.granted()
    await world.claims.next_attempt(stream_id, epoch=claim.epoch)
    await world.lapse(stream_id)
    assert (await world.claim(stream_id)).why is Why.ATTEMPTS_SPENT


async def epoch_of(world: World, stream_id: str) -> int:
    return int(await world.redis.hget(world.keys.meta(stream_id), "epoch"))


async def test_a_generation_that_waits_for_its_next_attempt_is_ended_by_a_stop(world: World) -> None:
    stream_id = await world.create()
    assert (await lose(world, stream_id, 2)).outcome is Outcome.WAITING
    await world.generations.stop(stream_id, tenant="local")
    assert (await world.claim(stream_id)).why is Why.STOPPED
    assert (await world.texts(stream_id))[-1] == terminals.STOPPED


async def test_attempts_beyond_the_bound_end_it_and_nothing_waits_for_that(connection: LogConnection) -> None:
    world = World(connection, max_attempts=2, attempt_backoff_ms=BACKOFF_MS)
    claim = await lose(world, await world.create(), 2)
    assert (claim.outcome, claim.why) == (Outcome.ENDED, Why.ATTEMPTS_SPENT)


async def test_a_generation_that_drains_hand_back_is_not_a_loss_however_often(connection: LogConnection) -> None:
    world = World(connection, max_attempts=2, attempt_backoff_ms=BACKOFF_MS)
    stream_id = await world.create()
    for attempt in range(1, 6):
        claim = await world.claim(stream_id, may_take_over=False)
        assert (claim.outcome, claim.attempt) == (Outcome.GRANTED, attempt)
        await world.append(stream_id, claim.epoch, claim.last_seq + 1, [delta("half")])
        assert await world.claims.release(stream_id, epoch=claim.epoch)
    decoded = [decode_event(event) for event in await world.texts(stream_id)]
    assert [each for each in decoded if isinstance(each, Attempt)] == [Attempt(attempt=n) for n in range(2, 6)]
    assert (await lose(world, stream_id, 2)).why is Why.ATTEMPTS_SPENT


async def test_what_has_ended_is_not_released(world: World, appender: Appender) -> None:
    stream_id, claim = await world.granted()
    await world.append(stream_id, claim.epoch, 1, [terminals.STOPPED])
    assert not await world.claims.release(stream_id, epoch=claim.epoch)
    assert (await world.generations.get(stream_id, tenant="local")).status == "aborted"


async def test_a_release_fences_what_of_its_worker_is_still_on_its_way(world: World, appender: Appender) -> None:
    """Else an append that comes after it is voided by no ``attempt``, and a renewal leases it without a worker."""
    keeper = world.keeper(appender)
    stream_id, claim = await world.granted()
    writer = await world.writer(stream_id, claim, appender, keeper)
    assert await world.claims.release(stream_id, epoch=claim.epoch)
    assert (await world.append(stream_id, claim.epoch, 1, [delta("late")])).code is Code.FENCED
    await keeper.renew()
    assert writer.end_reason is WriterEnd.FENCED
    assert await world.redis.exists(world.keys.lease(stream_id)) == 0
    assert await world.claims.release(stream_id, epoch=claim.epoch)  # its answer was lost: it is repeated
    second = await World(world.connection, worker="w2").claim(stream_id, may_take_over=False)
    assert (second.outcome, second.attempt) == (Outcome.GRANTED, 1)
    assert not await world.claims.release(stream_id, epoch=claim.epoch)
