"""Deleting: it ends first, nothing of it stays but a tombstone, and no process brings it back."""

from __future__ import annotations

import asyncio

import pytest

from broadcaster.core.batching import Code
from broadcaster.core.cursor import START
from broadcaster.core.events import Finish, TextDelta
from broadcaster.core.notices import GapReason
from broadcaster.core.requests.passed_calls import EMBEDDINGS, passed_request
from broadcaster.errors import StopPending, UnknownStream
from broadcaster.log.feeds.feeds import Feeds
from broadcaster.log.jobs.claims import Outcome
from broadcaster.log.jobs.deletion import CALL_TOMBSTONE_MS, TOMBSTONE_MS
from broadcaster.log.jobs.generations import GenerationRequest
from broadcaster.log.redis.connect import LogConnection
from broadcaster.log.redis.scripts import SCRIPTS
from broadcaster.log.streams import terminals
from broadcaster.log.streams.appender import Appender
from broadcaster.log.streams.tenant_storage import TenantStorage
from broadcaster.log.streams.writer import WriterEnd
from tests.support.log.feed_writers import BOUNDS
from tests.support.log.log_world import LEASE_MS, TENANT, World, delta, until
from tests.support.log.tail_world import TAILS, Room, open_tail
from tests.support.servers.redis_relay import open_redis_relay

SECRET = "do-not-keep-me"
REQUEST = GenerationRequest(model="m", request={"messages": [{"role": "user", "content": SECRET}]})
END = b'{"type":"finish"}'


@pytest.fixture
async def world(connection: LogConnection) -> World:
    world = World(connection)
    await world.queue.create_group()
    return world


async def finished(world: World) -> str:
    """A finished generation that answered with the secret."""
    stream_id = (await world.generations.create(REQUEST, tenant=TENANT, idempotency_key="k")).id
    claim = await world.claim(stream_id)
    await world.append(stream_id, claim.epoch, 1, [delta(SECRET), END])
    return stream_id


async def delete(world: World, stream_id: str, *, timeout_s: float = 5) -> None:
    await world.generations.delete(stream_id, tenant=TENANT, timeout_s=timeout_s)


async def everything_in(world: World) -> str:
    """Every key and value of the server, as text."""
    found = []
    for key in await world.redis.keys("*"):
        found.append(repr(key))
        found.append(repr(await world.redis.dump(key)))
    return "\n".join(found)


async def test_nothing_of_what_was_requested_and_answered_is_left(world: World) -> None:
    stream_id = await finished(world)
    assert SECRET in await everything_in(world)
    await delete(world, stream_id)
    assert SECRET not in await everything_in(world)
    left = {key.decode() for key in await world.redis.keys(f"*{stream_id}*")}
    assert left == {world.keys.meta(stream_id)}
    assert set(await world.redis.hkeys(world.keys.meta(stream_id))) == {
        b"v", b"tenant", b"status", b"epoch", b"created_ms", b"ended_ms", b"terminal", b"terminal_id", b"deleted_ms",
    }  # fmt: skip
    assert 0 < await world.redis.pttl(world.keys.meta(stream_id)) <= TOMBSTONE_MS


async def test_the_tombstone_of_an_answered_call_is_small_and_short_and_fences(
    world: World, connection: LogConnection
) -> None:
    refused = b'{"type":"error","errorText":"%s","code":"provider_rejected"}' % (SECRET.encode() * 100)
    call = GenerationRequest(model="m", request=passed_request(EMBEDDINGS, {"input": SECRET}), retention_s=60)
    storage = TenantStorage(connection, max_feeds=1, max_bytes=1_000_000)
    for end, kept in ((refused, b'{"type":"error","errorText":"","code":"provider_rejected"}'), (END, END)):
        stream_id = (await world.generations.create(call, tenant=TENANT)).id
        claim = await world.claim(stream_id)
        await world.append(stream_id, claim.epoch, 1, [end])
        await delete(world, stream_id)
        storage.ended(TENANT, stream_id)
        meta = world.keys.meta(stream_id)
        assert SECRET not in await everything_in(world)
        assert await world.redis.hget(meta, "terminal") == kept
        assert 0 < await world.redis.pttl(meta) <= CALL_TOMBSTONE_MS
        assert (await world.append(stream_id, claim.epoch, 2, [delta(SECRET)])).code is Code.FENCED
        await storage.sums(TENANT)
        due_ms = await world.redis.zscore(world.keys.stored_due(TENANT), stream_id)
        seconds, micros = await world.redis.time()
        assert due_ms is not None
        assert due_ms - (seconds * 1000 + micros // 1000) <= CALL_TOMBSTONE_MS + 1


async def test_a_deleted_generation_is_unknown_and_a_second_deletion_changes_nothing(world: World) -> None:
    stream_id = await finished(world)
    await delete(world, stream_id)
    with pytest.raises(UnknownStream):
        await world.generations.get(stream_id, tenant=TENANT)
    with pytest.raises(UnknownStream):
        await world.generations.stop(stream_id, tenant=TENANT)
    with pytest.raises(UnknownStream):
        await Feeds(world.connection, BOUNDS, streams=world.streams).get(stream_id, tenant=TENANT)
    before = await world.redis.hgetall(world.keys.meta(stream_id))
    await delete(world, stream_id)
    assert await world.redis.hgetall(world.keys.meta(stream_id)) == before
    await world.redis.delete(world.keys.meta(stream_id))
    with pytest.raises(UnknownStream):
        await delete(world, stream_id)


async def test_a_deletion_that_broke_off_is_completed_by_its_repetition(world: World) -> None:
    stream_id = await finished(world)
    keys = [getattr(world.keys, name)(stream_id) for name in ("meta", "log", "lease", "viewers")]
    assert await SCRIPTS["delete"].run(world.redis, keys, 60_000, 60_000) == 1  # and no further
    assert await world.queue.newest_open(10) == [stream_id]
    await delete(world, stream_id)
    assert await world.queue.newest_open(10) == []
    assert (await world.generations.lists.page(TENANT)).metas == []


async def test_a_queued_generation_is_ended_and_its_job_removed(world: World) -> None:
    stream_id, other = await world.create(), await world.create()
    await delete(world, stream_id)
    assert await world.queue.newest_open(10) == [other]
    reader = world.reader()
    assert [job.generation_id for job in await reader.take(10)] == [other]
    await reader.aclose()


async def test_a_job_that_was_delivered_already_finds_its_generation_over(world: World) -> None:
    stream_id = await world.create()
    reader = world.reader()
    (job,) = await reader.take(1)
    await delete(world, stream_id)
    assert (await world.claim(job.generation_id)).outcome is Outcome.OVER
    await world.queue.enqueue(stream_id, tenant=TENANT)  # what a sweep did that had read a moment before
    assert (await world.claim(stream_id)).outcome is Outcome.OVER
    await reader.aclose()


async def test_a_running_generation_is_stopped_and_its_end_awaited(world: World) -> None:
    stream_id, claim = await world.granted()
    deleting = asyncio.create_task(delete(world, stream_id))
    async with asyncio.timeout(20):
        while not (await world.append(stream_id, claim.epoch, 1, [delta("a")])).stop_requested:
            await asyncio.sleep(0.005)
    assert not deleting.done()
    await world.append(stream_id, claim.epoch, 2, [b'{"type":"abort","reason":"stopped"}'])
    await deleting
    assert await world.redis.exists(world.keys.log(stream_id)) == 0


async def test_a_generation_that_does_not_end_in_time_is_not_deleted(world: World) -> None:
    stream_id, claim = await world.granted()
    await world.append(stream_id, claim.epoch, 1, [delta("a")])
    with pytest.raises(StopPending):
        await delete(world, stream_id, timeout_s=0.05)
    meta = await world.generations.get(stream_id, tenant=TENANT)
    assert (meta.status, meta.stop) == ("running", "stopped")
    assert await world.seqs(stream_id) == [1]


async def test_a_generation_whose_worker_is_gone_is_ended_by_the_deletion_itself(world: World) -> None:
    stream_id, claim = await world.granted()
    await world.append(stream_id, claim.epoch, 1, [delta("a")])
    steady = asyncio.create_task(world.steadiness.run())
    await delete(world, stream_id, timeout_s=10 * LEASE_MS / 1000)
    steady.cancel()
    meta = await world.streams.meta(stream_id)
    assert meta is not None
    assert (meta.is_deleted, meta.status, meta.terminal) == (True, "aborted", terminals.STOPPED)


async def test_a_full_redis_deletes_what_is_over(world: World) -> None:
    stream_id = await finished(world)
    before = await world.streams.meta(stream_id)
    await world.redis.config_set("maxmemory", 1)
    try:
        await delete(world, stream_id)
    finally:
        await world.redis.config_set("maxmemory", 0)
    meta = await world.streams.meta(stream_id)
    assert meta is not None
    assert before is not None
    assert (meta.is_deleted, meta.status, meta.terminal) == (True, "finished", END)
    assert meta.epoch > before.epoch
    assert await world.redis.exists(world.keys.log(stream_id)) == 0


async def test_the_key_of_a_deleted_generation_starts_a_new_one(world: World) -> None:
    stream_id = await finished(world)
    await delete(world, stream_id)
    repeated = await world.generations.create(REQUEST, tenant=TENANT, idempotency_key="k")
    assert repeated.created
    assert repeated.id != stream_id


async def test_a_key_that_still_names_a_tombstone_starts_a_new_one(world: World) -> None:
    """An older front-end did not write the key into the meta, so its deletion left it."""
    stream_id = await finished(world)
    await world.redis.hdel(world.keys.meta(stream_id), "idempotency_key")
    await delete(world, stream_id)
    repeated = await world.generations.create(REQUEST, tenant=TENANT, idempotency_key="k")
    assert repeated.created
    assert repeated.id != stream_id
    third = await world.generations.create(REQUEST, tenant=TENANT, idempotency_key="k")
    assert (third.id, third.created) == (repeated.id, False)


# ------------------------------------------------------------------------------------------------- never brought back


async def test_a_zombies_append_under_any_epoch_it_was_granted_is_fenced(world: World) -> None:
    stream_id, claim = await world.granted()
    await world.append(stream_id, claim.epoch, 1, [delta("a"), END])
    await delete(world, stream_id)
    for first_seq, events in ((1, [delta("a")]), (3, [delta("b")]), (3, []), (1, [delta("a"), END])):
        assert (await world.append(stream_id, claim.epoch, first_seq, events)).code is Code.FENCED
    assert await world.redis.exists(world.keys.log(stream_id)) == 0


async def test_the_buffer_of_a_worker_that_ended_it_is_not_resent(world: World, appender: Appender) -> None:
    keeper = world.keeper(appender)
    stream_id, claim = await world.granted()
    writer = await world.writer(stream_id, claim, appender, keeper)
    writer.write([TextDelta(id="0", delta="a")])
    assert await writer.end([Finish()], deadline_s=30)
    keeper.drop(writer, keep_s=30)
    await delete(world, stream_id)
    writer.verify()
    await until(lambda: writer.over.is_set())
    assert writer.end_reason is WriterEnd.FENCED
    assert await world.redis.exists(world.keys.log(stream_id)) == 0


async def test_a_worker_that_was_away_during_the_deletion_restores_nothing(world: World, appender: Appender) -> None:
    keeper = world.keeper(appender)
    stream_id, claim = await world.granted()
    writer = await world.writer(stream_id, claim, appender, keeper)
    writer.write([TextDelta(id="0", delta="a")])
    await until(lambda: writer.acked_seq == 1)
    steady = asyncio.create_task(world.steadiness.run())
    await delete(world, stream_id)  # its lease lapses: no worker renews it here
    steady.cancel()
    assert not await keeper.restore(writer)  # the tombstone's epoch is newer
    await keeper.renew()
    assert writer.end_reason is WriterEnd.FENCED
    writer.write([TextDelta(id="0", delta="b")])
    meta = await world.streams.meta(stream_id)
    assert meta is not None
    assert (meta.is_deleted, meta.request) == (True, {})
    assert await world.redis.exists(world.keys.log(stream_id)) == 0


# ------------------------------------------------------------------------------------------------------------- viewers


async def test_a_viewer_whose_last_push_was_lost_is_ended_by_the_tail_check(redis_url: str) -> None:
    async with open_redis_relay(redis_url) as relay, open_tail(redis_url, times=TAILS, via=relay.url) as feed:
        world = World(feed.connection)
        stream_id, claim = await world.granted()
        await world.append(stream_id, claim.epoch, 1, [delta("a"), delta("b")])
        room, watch = await feed.watch_live(stream_id)
        relay.is_deaf = True
        await world.append(stream_id, claim.epoch, 3, [delta("c"), END])
        await delete(world, stream_id)
        await room.until(lambda: watch.is_over)
        assert [each.seq for each in room.entries] == [1, 2, 4]
        assert room.entries[-1].event == END
        assert [(gap.reason, gap.first_seq, gap.last_seq) for gap in gaps(room)] == [(GapReason.TRIMMED, 3, 3)]


async def test_a_viewer_that_waits_for_a_first_event_is_ended_too(redis_url: str) -> None:
    async with open_redis_relay(redis_url) as relay, open_tail(redis_url, times=TAILS, via=relay.url) as feed:
        world = World(feed.connection)
        stream_id = await world.create()
        room, watch = await feed.watch_live(stream_id)
        relay.is_deaf = True
        await delete(world, stream_id)
        await room.until(lambda: watch.is_over)
        assert [each.event for each in room.entries] == [terminals.STOPPED]


async def test_a_log_that_is_gone_reads_as_its_terminal_event(world: World) -> None:
    stream_id = await finished(world)
    end = (await world.streams.read(stream_id))[-1]
    await delete(world, stream_id)
    assert await world.streams.read(stream_id, after=START) == [end]
    assert await world.streams.read(stream_id, after=end.cursor) == []


def gaps(room: Room) -> list:
    return [each for each in room.notices if hasattr(each, "first_seq")]
