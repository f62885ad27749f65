"""Claim (docs/protocol.md §2): the grant is the fence; and which process ends a stream (§4)."""

from __future__ import annotations

import asyncio

import pytest

from broadcaster.core.events import Attempt, Finish, Usage, decode_event, encode_event
from broadcaster.log.jobs.claims import Outcome, Why
from broadcaster.log.redis.connect import LogConnection
from broadcaster.log.streams import terminals
from tests.support.log.log_world import LEASE_MS, World, delta

pytestmark = pytest.mark.alone


async def lapse(world: World, stream_id: str) -> None:
    await world.redis.delete(world.keys.lease(stream_id))


async def test_a_queued_generation_is_granted_with_lease_status_and_a_clock_epoch(world: World) -> None:
    stream_id, claim = await world.granted()
    seconds, micros = await world.redis.time()
    assert abs(claim.epoch - (seconds * 1000 + micros // 1000)) < 5000
    assert (claim.last_seq, claim.attempt) == (0, 1)
    assert await world.redis.get(world.keys.lease(stream_id)) == f"w1:{claim.epoch}".encode()
    assert 0 < await world.redis.pttl(world.keys.lease(stream_id)) <= LEASE_MS
    meta = await world.streams.meta(stream_id)
    assert meta is not None
    assert (meta.status, meta.epoch, meta.worker) == ("running", claim.epoch, "w1")


async def test_of_two_racing_claims_one_is_granted(world: World) -> None:
    stream_id = await world.create()
    other = World(world.connection, worker="w2")
    claims = await asyncio.gather(world.claim(stream_id), other.claim(stream_id))
    assert sorted(claim.outcome for claim in claims) == [Outcome.LEASED, Outcome.GRANTED]


async def test_the_epoch_rises_even_when_the_clock_does_not(world: World) -> None:
    stream_id, claim = await world.granted()
    far_ahead = claim.epoch + 10**9
    await world.redis.hset(world.keys.meta(stream_id), "epoch", far_ahead)
    await lapse(world, stream_id)
    assert (await world.claim(stream_id)).epoch == far_ahead + 1
    await world.redis.hset(world.keys.meta(stream_id), "epoch", 1)
    await lapse(world, stream_id)
    assert (await world.claim(stream_id)).epoch > far_ahead + 1  # the last entry's epoch counts, too


async def test_the_second_attempt_announces_itself_in_the_same_step(world: World) -> None:
    stream_id, first = await world.granted()
    await world.append(stream_id, first.epoch, 1, [delta("half")])
    await lapse(world, stream_id)
    second = await world.claim(stream_id)
    assert (second.outcome, second.last_seq, second.attempt) == (Outcome.GRANTED, 2, 2)
    last = await world.streams.last(stream_id)
    assert last is not None
    assert (last.epoch, last.seq) == (second.epoch, 2)
    assert decode_event(last.event) == Attempt(attempt=2)


async def test_policy_fail_ends_the_stream_instead_of_a_second_attempt(world: World) -> None:
    stream_id = await world.create(on_worker_loss="fail")
    first = await world.claim(stream_id)
    await world.append(stream_id, first.epoch, 1, [delta("half")])
    await lapse(world, stream_id)
    claim = await world.claim(stream_id)
    assert (claim.outcome, claim.why) == (Outcome.ENDED, Why.WORKER_LOST)
    assert await world.texts(stream_id) == [delta("half"), terminals.WORKER_LOST]
    assert (await world.claim(stream_id)).outcome is Outcome.OVER


async def test_policy_fail_is_for_an_attempt_that_wrote_something(world: World) -> None:
    stream_id = await world.create(on_worker_loss="fail")
    for attempt in (1, 2, 3):
        claim = await world.claim(stream_id)
        assert (claim.outcome, claim.attempt) == (Outcome.GRANTED, attempt)
        await lapse(world, stream_id)
    assert [decode_event(raw) for raw in await world.texts(stream_id)] == [Attempt(attempt=2), Attempt(attempt=3)]


@pytest.mark.parametrize("attempt", [1, 2])
@pytest.mark.parametrize("has_lapsed", [False, True], ids=["in time", "after its lease"])
async def test_a_claim_whose_answer_was_lost_is_granted_the_same_epoch_once_more(
    world: World, attempt: int, *, has_lapsed: bool
) -> None:
    stream_id = await world.create()
    for _ in range(1, attempt):
        await world.claim(stream_id)
        await lapse(world, stream_id)
    lost = await world.claims.claim(stream_id, may_take_over=True, nonce="a")
    if has_lapsed:
        await lapse(world, stream_id)
    else:
        await world.redis.pexpire(world.keys.lease(stream_id), LEASE_MS // 10)
    repeated = await world.claims.claim(stream_id, may_take_over=False, nonce="a")
    assert (repeated, repeated.attempt) == (lost, attempt)
    assert await world.redis.pttl(world.keys.lease(stream_id)) > LEASE_MS // 2
    assert await world.seqs(stream_id) == list(range(1, attempt))


async def test_a_claim_is_not_regranted_after_a_grant_under_another_nonce(world: World) -> None:
    stream_id = await world.create()
    await world.claims.claim(stream_id, may_take_over=True, nonce="a")
    assert (await world.claims.claim(stream_id, may_take_over=True, nonce="b")).outcome is Outcome.LEASED
    other = World(world.connection, worker="w2")
    assert (await other.claims.claim(stream_id, may_take_over=True, nonce="a")).outcome is Outcome.LEASED
    await lapse(world, stream_id)
    await other.claim(stream_id)  # by a worker of the version before: it names no nonce
    await lapse(world, stream_id)
    assert (await world.claims.claim(stream_id, may_take_over=False, nonce="a")).outcome is Outcome.LAPSED


async def test_a_generation_with_entries_is_not_ended_before_its_usage_is_known(connection: LogConnection) -> None:
    world = World(connection, max_attempts=1)
    stream_id, first = await world.granted()
    await world.append(stream_id, first.epoch, 1, [delta("half")])
    await lapse(world, stream_id)
    claimed = await world.claims.claim(stream_id, may_take_over=True, usage=None)
    assert claimed.outcome is Outcome.ENDING
    meta = await world.streams.meta(stream_id)
    assert meta is not None
    assert (meta.status, meta.dead) == ("running", None)
    usage = encode_event(Usage(output_tokens=1, estimated=True))
    ended = await world.claims.claim(stream_id, may_take_over=True, usage=usage)
    assert (ended.outcome, ended.why) == (Outcome.ENDED, Why.ATTEMPTS_SPENT)
    assert (await world.texts(stream_id))[1:] == [usage, terminals.ATTEMPTS_SPENT]


async def test_a_generation_without_entries_is_ended_without_a_usage(connection: LogConnection) -> None:
    world = World(connection, max_attempts=1)
    stream_id, _ = await world.granted()
    await lapse(world, stream_id)
    claim = await world.claims.claim(stream_id, may_take_over=True, usage=None)
    assert (claim.outcome, claim.why) == (Outcome.ENDED, Why.ATTEMPTS_SPENT)
    assert await world.texts(stream_id) == [terminals.ATTEMPTS_SPENT]


async def test_attempts_are_bounded(connection: LogConnection) -> None:
    world = World(connection, max_attempts=2)
    stream_id = await world.create()
    for _ in range(2):
        assert (await world.claim(stream_id)).outcome is Outcome.GRANTED
        await lapse(world, stream_id)
    claim = await world.claim(stream_id)
    assert (claim.outcome, claim.why) == (Outcome.ENDED, Why.ATTEMPTS_SPENT)


async def test_a_running_generation_is_not_taken_over_before_redis_was_seen_steady(world: World) -> None:
    stream_id, _ = await world.granted()
    await lapse(world, stream_id)
    other = World(world.connection, worker="w2")
    assert (await other.claim(stream_id, may_take_over=False)).outcome is Outcome.LAPSED
    assert (await other.claims.end(stream_id, terminals.NO_WORKER, may_take_over=False)).outcome is Outcome.LAPSED
    assert (await other.claim(stream_id, may_take_over=True)).outcome is Outcome.GRANTED


async def test_a_finished_generation_is_over_for_every_later_claim(world: World) -> None:
    stream_id, claim = await world.granted()
    await world.append(stream_id, claim.epoch, 1, [encode_event(Finish())])
    assert (await world.claim(stream_id)).outcome is Outcome.OVER
    await world.redis.hset(world.keys.meta(stream_id), "status", "running")  # an older snapshot of the meta
    assert (await world.claim(stream_id)).outcome is Outcome.OVER


async def test_an_unknown_generation_is_not_invented(world: World) -> None:
    assert (await world.claim("gen_nothing")).outcome is Outcome.UNKNOWN
    assert await world.redis.keys("*gen_nothing*") == []


async def test_a_log_whose_meta_was_lost_ends_honestly(world: World) -> None:
    stream_id, claim = await world.granted()
    await world.append(stream_id, claim.epoch, 1, [delta("half")])
    await world.redis.delete(world.keys.meta(stream_id), world.keys.lease(stream_id))
    assert (await world.claim(stream_id)).why is Why.STATE_LOST
    assert (await world.texts(stream_id))[-1] == terminals.STATE_LOST


async def test_a_generation_that_waited_too_long_ends_with_queue_timeout(connection: LogConnection) -> None:
    world = World(connection, queue_timeout_ms=50)
    stream_id = await world.create()
    await world.redis.hset(world.keys.meta(stream_id), "created_ms", 1)
    assert (await world.claim(stream_id)).why is Why.QUEUE_TIMEOUT
    assert (await world.texts(stream_id)) == [terminals.QUEUE_TIMEOUT]


async def test_a_stopped_generation_that_waits_is_ended_by_the_stopper(world: World) -> None:
    stream_id = await world.create()
    await world.generations.stop(stream_id, tenant="local")
    assert (await world.texts(stream_id)) == [terminals.STOPPED]
    meta = await world.streams.meta(stream_id)
    assert meta is not None
    assert meta.status == "aborted"
    await world.generations.stop(stream_id, tenant="local")  # idempotent
    assert (await world.seqs(stream_id)) == [1]


async def test_a_rebase_needs_the_epoch_held_and_counts_no_attempt(world: World) -> None:
    stream_id, claim = await world.granted()
    other = World(world.connection, worker="w2")
    assert (await other.claims.rebase(stream_id, epoch=claim.epoch)).outcome is Outcome.LEASED
    rebased = await world.claims.rebase(stream_id, epoch=claim.epoch)
    assert (rebased.outcome, rebased.attempt) == (Outcome.GRANTED, 1)
    assert rebased.epoch > claim.epoch


async def test_a_released_generation_may_be_claimed_at_once_and_an_empty_attempt_does_not_count(world: World) -> None:
    stream_id, claim = await world.granted()
    assert await world.claims.release(stream_id, epoch=claim.epoch)
    other = World(world.connection, worker="w2")
    repeated = await other.claim(stream_id, may_take_over=False)
    assert (repeated.outcome, repeated.attempt) == (Outcome.GRANTED, 1)
    assert not await world.claims.release(stream_id, epoch=claim.epoch)
    await lapse(world, stream_id)
    assert not await world.claims.release(stream_id, epoch=claim.epoch)  # the newer grant stands without its lease
    meta = await world.streams.meta(stream_id)
    assert meta is not None
    assert meta.status == "running"


async def test_a_waiting_generation_from_before_a_break_is_left_alone_for_one_lease(world: World) -> None:
    """An old snapshot has it waiting; its worker may be about to record that it runs."""
    stream_id = await world.create()
    await asyncio.sleep(0.02)
    held_off = await world.claims.claim(stream_id, may_take_over=False, answered_s=0.001)
    assert held_off.outcome is Outcome.LAPSED
    assert (await world.claims.end(stream_id, b"", may_take_over=False, answered_s=0)).outcome is Outcome.LAPSED
    younger = await world.claims.claim(await world.create(), may_take_over=False, answered_s=60)
    assert younger.outcome is Outcome.GRANTED
    steady = await world.claims.claim(stream_id, may_take_over=True, answered_s=0.001)
    assert (steady.outcome, steady.attempt) == (Outcome.GRANTED, 1)
