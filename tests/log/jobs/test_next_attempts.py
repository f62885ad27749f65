"""Another attempt of the same worker (next_attempt.lua): only the epoch and the `attempt` entry are new."""

from __future__ import annotations

import pytest

from broadcaster.core.batching import Code
from broadcaster.core.events import Attempt, Finish, decode_event, encode_event
from broadcaster.log.jobs.claims import Outcome
from broadcaster.log.redis.connect import LogConnection
from tests.support.log.log_world import LEASE_MS, World, delta

pytestmark = pytest.mark.alone


async def test_the_holder_is_granted_a_newer_epoch_and_keeps_its_lease(world: World) -> None:
    stream_id, first = await world.granted()
    await world.append(stream_id, first.epoch, 1, [delta("half")])
    second = await world.claims.next_attempt(stream_id, epoch=first.epoch)
    assert second is not None
    assert (second.outcome, second.last_seq, second.attempt) == (Outcome.GRANTED, 2, 2)
    assert second.epoch > first.epoch
    assert await world.redis.get(world.keys.lease(stream_id)) == f"w1:{second.epoch}".encode()
    assert 0 < await world.redis.pttl(world.keys.lease(stream_id)) <= LEASE_MS
    last = await world.streams.last(stream_id)
    assert last is not None
    assert (last.epoch, last.seq) == (second.epoch, 2)
    assert decode_event(last.event) == Attempt(attempt=2, reason="provider_lost")
    meta = await world.streams.meta(stream_id)
    assert meta is not None
    assert (meta.status, meta.attempts, meta.epoch) == ("running", 2, second.epoch)


async def test_an_append_of_the_broken_attempt_is_refused_after_the_next_attempt_began(world: World) -> None:
    stream_id, first = await world.granted()
    await world.claims.next_attempt(stream_id, epoch=first.epoch)
    assert (await world.append(stream_id, first.epoch, 1, [delta("late")])).code is Code.FENCED


async def test_a_repeated_claim_after_a_lost_reply_changes_nothing(world: World) -> None:
    stream_id, first = await world.granted()
    granted = await world.claims.next_attempt(stream_id, epoch=first.epoch)
    assert await world.claims.next_attempt(stream_id, epoch=first.epoch) == granted
    assert await world.seqs(stream_id) == [1]


async def test_a_repeated_claim_never_takes_the_lease_of_another(world: World) -> None:
    stream_id, first = await world.granted()
    await world.claims.next_attempt(stream_id, epoch=first.epoch)
    await world.redis.set(world.keys.lease(stream_id), f"w2:{first.epoch + 10**6}", px=LEASE_MS)
    claim = await world.claims.next_attempt(stream_id, epoch=first.epoch)
    assert claim is not None
    assert claim.outcome is Outcome.LEASED
    assert await world.redis.get(world.keys.lease(stream_id)) == f"w2:{first.epoch + 10**6}".encode()


async def test_an_attempt_that_was_handed_back_does_not_count_against_another_attempt(
    connection: LogConnection,
) -> None:
    world = World(connection, max_attempts=2)
    stream_id, first = await world.granted()
    await world.append(stream_id, first.epoch, 1, [delta("half")])
    await world.claims.release(stream_id, epoch=first.epoch)
    second = await world.claim(stream_id)
    repeated = await world.claims.next_attempt(stream_id, epoch=second.epoch)
    assert repeated is not None
    assert (repeated.outcome, repeated.attempt) == (Outcome.GRANTED, 3)
    assert await world.claims.next_attempt(stream_id, epoch=repeated.epoch) is None


async def test_a_repeated_claim_after_the_lease_has_lapsed_leases_it_anew(world: World) -> None:
    stream_id, first = await world.granted()
    granted = await world.claims.next_attempt(stream_id, epoch=first.epoch)
    assert granted is not None
    await world.lapse(stream_id)
    assert await world.claims.next_attempt(stream_id, epoch=first.epoch) == granted
    assert await world.redis.get(world.keys.lease(stream_id)) == f"w1:{granted.epoch}".encode()
    assert await world.seqs(stream_id) == [1]


@pytest.mark.parametrize("then", ["taken over", "taken over and lapsed", "handed back"])
async def test_a_repeated_claim_after_it_went_to_others_is_refused(world: World, then: str) -> None:
    stream_id, first = await world.granted()
    granted = await world.claims.next_attempt(stream_id, epoch=first.epoch)
    assert granted is not None
    if then == "handed back":
        assert await world.claims.release(stream_id, epoch=granted.epoch)
    else:
        await world.lapse(stream_id)
        await World(world.connection, worker="w2").claim(stream_id)
    if then == "taken over and lapsed":
        await world.lapse(stream_id)
    claim = await world.claims.next_attempt(stream_id, epoch=first.epoch)
    assert claim is not None
    assert claim.outcome is Outcome.LEASED


async def test_no_other_worker_is_granted_it(world: World) -> None:
    stream_id, first = await world.granted()
    other = World(world.connection, worker="w2")
    for holder, epoch in ((other, first.epoch), (world, first.epoch - 1)):
        claim = await holder.claims.next_attempt(stream_id, epoch=epoch)
        assert claim is not None
        assert claim.outcome is Outcome.LEASED
    assert await world.seqs(stream_id) == []


async def test_a_worker_that_was_taken_over_meanwhile_is_refused(world: World) -> None:
    stream_id, first = await world.granted()
    await world.redis.delete(world.keys.lease(stream_id))
    await World(world.connection, worker="w2").claim(stream_id)
    claim = await world.claims.next_attempt(stream_id, epoch=first.epoch)
    assert claim is not None
    assert claim.outcome is Outcome.LEASED


async def test_a_lapsed_lease_that_was_not_taken_is_regranted_with_it(world: World) -> None:
    stream_id, first = await world.granted()
    await world.redis.delete(world.keys.lease(stream_id))
    claim = await world.claims.next_attempt(stream_id, epoch=first.epoch)
    assert claim is not None
    assert claim.outcome is Outcome.GRANTED


async def test_attempts_are_bounded(connection: LogConnection) -> None:
    world = World(connection, max_attempts=2)
    stream_id, first = await world.granted()
    second = await world.claims.next_attempt(stream_id, epoch=first.epoch)
    assert second is not None
    assert await world.claims.next_attempt(stream_id, epoch=second.epoch) is None
    assert await world.seqs(stream_id) == [1]


async def test_a_generation_that_is_to_be_stopped_gets_no_other_attempt(world: World) -> None:
    stream_id, first = await world.granted()
    await world.generations.stop(stream_id, tenant="local")
    assert await world.claims.next_attempt(stream_id, epoch=first.epoch) is None
    assert await world.seqs(stream_id) == []


async def test_a_generation_that_is_over_stays_over(world: World) -> None:
    stream_id, first = await world.granted()
    await world.append(stream_id, first.epoch, 1, [encode_event(Finish())])
    claim = await world.claims.next_attempt(stream_id, epoch=first.epoch)
    assert claim is not None
    assert claim.outcome is Outcome.OVER


async def test_lost_meta_is_distinguished_so_that_it_can_be_restored_first(world: World) -> None:
    stream_id, first = await world.granted()
    await world.redis.delete(world.keys.meta(stream_id))
    claim = await world.claims.next_attempt(stream_id, epoch=first.epoch)
    assert claim is not None
    assert claim.outcome is Outcome.UNKNOWN


@pytest.mark.parametrize("lease", ["gone", "of an earlier grant"])
async def test_meta_from_before_the_grant_proves_nothing_and_is_to_be_restored_first(world: World, lease: str) -> None:
    stream_id, first = await world.granted()
    await world.redis.hset(world.keys.meta(stream_id), "epoch", first.epoch - 5)
    await world.lapse(stream_id)
    if lease == "of an earlier grant":
        await world.redis.set(world.keys.lease(stream_id), f"w2:{first.epoch - 5}", px=60_000)
    claim = await world.claims.next_attempt(stream_id, epoch=first.epoch)
    assert claim is not None
    assert claim.outcome is Outcome.UNKNOWN


@pytest.mark.parametrize("newer", ["lease", "log"])
async def test_meta_from_before_the_grant_is_not_restored_behind_a_newer_one(world: World, newer: str) -> None:
    stream_id, first = await world.granted()
    await world.lapse(stream_id)
    second = await World(world.connection, worker="w2").claim(stream_id)
    await world.redis.hset(world.keys.meta(stream_id), "epoch", first.epoch - 5)
    if newer == "lease":
        await world.redis.delete(world.keys.log(stream_id))
        await world.redis.set(world.keys.lease(stream_id), f"w2:{second.epoch}", px=60_000)
    else:
        await world.lapse(stream_id)
    claim = await world.claims.next_attempt(stream_id, epoch=first.epoch)
    assert claim is not None
    assert claim.outcome is Outcome.LEASED


async def test_an_older_lease_beside_the_grant_is_replaced_as_a_renewal_would(world: World) -> None:
    stream_id, first = await world.granted()
    await world.redis.set(world.keys.lease(stream_id), f"w2:{first.epoch - 5}", px=60_000)
    claim = await world.claims.next_attempt(stream_id, epoch=first.epoch)
    assert claim is not None
    assert claim.outcome is Outcome.GRANTED
    assert await world.redis.get(world.keys.lease(stream_id)) == f"w1:{claim.epoch}".encode()


async def test_every_key_it_writes_has_a_lifetime(world: World) -> None:
    stream_id, first = await world.granted()
    await world.claims.next_attempt(stream_id, epoch=first.epoch)
    for key in (world.keys.log(stream_id), world.keys.meta(stream_id), world.keys.lease(stream_id)):
        assert await world.redis.pttl(key) > 0
