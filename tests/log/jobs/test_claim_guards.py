"""What a claim must not do, and what it leaves behind in its step: guards that no other test would miss."""

from __future__ import annotations

import asyncio

import pytest

from broadcaster.core.events import Attempt, Finish, decode_event, encode_event
from broadcaster.log.jobs.claims import Outcome, Why
from broadcaster.log.redis.connect import LogConnection
from broadcaster.log.streams import terminals
from tests.support.log.log_world import World, delta
from tests.support.log.tail_world import TailWorld, open_tail

HOUR_MS = 3_600_000


async def lapse(world: World, stream_id: str) -> None:
    await world.redis.delete(world.keys.lease(stream_id))


async def test_a_generation_whose_log_has_expired_is_over_by_its_status(world: World) -> None:
    stream_id, claim = await world.granted()
    await world.append(stream_id, claim.epoch, 1, [encode_event(Finish())])
    await world.redis.delete(world.keys.log(stream_id))
    assert (await world.claim(stream_id)).outcome is Outcome.OVER
    assert (await world.claims.end(stream_id, terminals.NO_WORKER, may_take_over=True)).outcome is Outcome.OVER
    assert await world.redis.exists(world.keys.log(stream_id)) == 0


async def test_a_lapsed_zombie_cannot_rebase_behind_a_newer_grant(world: World) -> None:
    stream_id, first = await world.granted()
    await lapse(world, stream_id)
    await World(world.connection, worker="w2").claim(stream_id)
    await lapse(world, stream_id)
    assert (await world.claims.rebase(stream_id, epoch=first.epoch)).outcome is Outcome.LEASED


async def test_a_rebase_announces_itself_as_an_attempt_does(world: World) -> None:
    stream_id, first = await world.granted()
    rebased = await world.claims.rebase(stream_id, epoch=first.epoch)
    (entry,) = await world.streams.read(stream_id)
    assert (entry.epoch, entry.seq) == (rebased.epoch, rebased.last_seq)
    assert decode_event(entry.event) == Attempt(attempt=1)


@pytest.mark.parametrize("lease", ["held", "lapsed"])
async def test_a_rebase_repeated_for_want_of_its_answer_is_granted_the_same_epoch_once(
    world: World, lease: str
) -> None:
    stream_id, first = await world.granted()
    rebased = await world.claims.rebase(stream_id, epoch=first.epoch)
    if lease == "lapsed":
        await lapse(world, stream_id)
    assert await world.claims.rebase(stream_id, epoch=first.epoch) == rebased
    assert await world.redis.get(world.keys.lease(stream_id)) == f"w1:{rebased.epoch}".encode()
    assert await world.seqs(stream_id) == [1]


async def test_a_repeated_rebase_whose_entry_was_lost_meanwhile_writes_it_once_more(world: World) -> None:
    stream_id, first = await world.granted()
    await world.append(stream_id, first.epoch, 1, [delta("a")])
    rebased = await world.claims.rebase(stream_id, epoch=first.epoch)
    await world.lose_after(stream_id, 1)
    second = await world.claims.rebase(stream_id, epoch=first.epoch)
    assert (second.outcome, second.last_seq) == (Outcome.GRANTED, 2)
    assert second.epoch > rebased.epoch


@pytest.mark.parametrize("then", ["taken over and lapsed", "handed back", "another attempt in the same hands"])
async def test_a_rebase_repeated_after_what_it_was_granted_is_over_is_refused(world: World, then: str) -> None:
    stream_id, first = await world.granted()
    rebased = await world.claims.rebase(stream_id, epoch=first.epoch)
    if then == "handed back":
        assert await world.claims.release(stream_id, epoch=rebased.epoch)
    elif then == "taken over and lapsed":
        await lapse(world, stream_id)
        await World(world.connection, worker="w2").claim(stream_id)
        await lapse(world, stream_id)
    else:
        await world.claims.next_attempt(stream_id, epoch=rebased.epoch)
    assert (await world.claims.rebase(stream_id, epoch=first.epoch)).outcome is Outcome.LEASED


async def test_a_log_without_meta_is_not_ended_before_redis_was_seen_steady(world: World) -> None:
    stream_id, claim = await world.granted()
    await world.append(stream_id, claim.epoch, 1, [delta("half")])
    await world.redis.delete(world.keys.meta(stream_id), world.keys.lease(stream_id))
    assert (await world.claim(stream_id, may_take_over=False)).outcome is Outcome.LAPSED
    assert await world.texts(stream_id) == [delta("half")]


async def test_a_generation_without_a_reason_to_end_goes_on(world: World) -> None:
    stream_id, _ = await world.granted()
    await lapse(world, stream_id)
    assert (await world.claims.end(stream_id, None, may_take_over=True)).outcome is Outcome.NOTHING_TO_END
    assert await world.texts(stream_id) == []
    assert (await world.claim(stream_id)).outcome is Outcome.GRANTED


async def test_a_generation_that_has_begun_is_never_too_old_for_its_next_attempt(connection: LogConnection) -> None:
    world = World(connection, queue_timeout_ms=50)
    stream_id, _ = await world.granted()
    await world.redis.hset(world.keys.meta(stream_id), "created_ms", 1)
    await lapse(world, stream_id)
    assert (await world.claim(stream_id)).outcome is Outcome.GRANTED


async def test_a_generation_that_a_drain_handed_back_before_it_wrote_anything_is_not_too_old(
    connection: LogConnection,
) -> None:
    world = World(connection, queue_timeout_ms=50)
    stream_id, claim = await world.granted()
    await world.redis.hset(world.keys.meta(stream_id), "created_ms", 1)
    assert await world.claims.release(stream_id, epoch=claim.epoch)
    second = await World(connection, worker="w2", queue_timeout_ms=50).claim(stream_id)
    assert (second.outcome, second.attempt) == (Outcome.GRANTED, 1)


async def test_a_generation_began_when_its_first_attempt_did(world: World) -> None:
    stream_id, _ = await world.granted()
    await world.redis.hset(world.keys.meta(stream_id), "started_ms", 5)
    await lapse(world, stream_id)
    await world.claim(stream_id)
    meta = await world.streams.meta(stream_id)
    assert meta is not None
    assert (meta.attempts, meta.started_ms) == (2, 5)


async def test_a_generation_that_a_claim_ends_is_kept_as_long_as_one_that_its_worker_ends(world: World) -> None:
    stream_id = await world.create(on_worker_loss="fail")
    claim = await world.claim(stream_id)
    await world.append(stream_id, claim.epoch, 1, [delta("half")])
    await lapse(world, stream_id)
    assert (await world.claim(stream_id)).why is Why.WORKER_LOST
    assert 0 < await world.redis.pttl(world.keys.log(stream_id)) <= 30_000
    assert HOUR_MS < await world.redis.pttl(world.keys.meta(stream_id)) <= HOUR_MS + 30_000


async def test_a_lease_of_another_is_not_given_back_even_when_the_meta_does_not_name_it(world: World) -> None:
    stream_id, claim = await world.granted()
    await world.redis.set(world.keys.lease(stream_id), f"w2:{claim.epoch + 1}", px=60_000)
    assert not await world.claims.release(stream_id, epoch=claim.epoch)
    assert await world.redis.get(world.keys.lease(stream_id)) == f"w2:{claim.epoch + 1}".encode()


async def watched(feed: TailWorld) -> tuple[World, str, asyncio.Task[None]]:
    """A claimed generation whose lease has lapsed, and a viewer that awaits its first entry: only a push brings it."""
    world = World(feed.connection)
    stream_id, _ = await world.granted()
    await lapse(world, stream_id)
    room, _ = await feed.watch_live(stream_id)
    return world, stream_id, asyncio.create_task(room.until(lambda: len(room.entries) == 1))


async def test_an_end_by_a_claim_reaches_viewers_by_its_push(redis_url: str) -> None:
    async with open_tail(redis_url) as feed:
        world, stream_id, first_entry = await watched(feed)
        ended = await world.claims.end(stream_id, terminals.NO_WORKER, may_take_over=True)
        assert ended.outcome is Outcome.ENDED
        await first_entry


async def test_an_attempt_reaches_viewers_by_its_push(redis_url: str) -> None:
    async with open_tail(redis_url) as feed:
        world, stream_id, first_entry = await watched(feed)
        assert (await world.claim(stream_id)).outcome is Outcome.GRANTED
        await first_entry
