"""Renewal, restore, re-grant and the writer's recovery (docs/protocol.md §3, §4)."""

from __future__ import annotations

import asyncio

import pytest

from broadcaster.core.batching import MAX_RESENDS
from broadcaster.core.events import Finish, TextDelta, encode_event
from broadcaster.log.jobs.lease import LeaseKeeper
from broadcaster.log.jobs.queue import GROUP, Job
from broadcaster.log.redis.connect import LogConnection
from broadcaster.log.streams import terminals
from broadcaster.log.streams.appender import Appender
from broadcaster.log.streams.writer import WriterEnd
from tests.support.log.log_world import LEASE_MS, World, delta, until

pytestmark = pytest.mark.alone


def text(value: str) -> TextDelta:
    return TextDelta(id="0", delta=value)


async def test_renewal_pushes_out_lease_log_and_meta(world: World, appender: Appender, keeper: LeaseKeeper) -> None:
    stream_id, claim = await world.granted()
    writer = await world.writer(stream_id, claim, appender, keeper)
    writer.write([text("a")])
    await until(lambda: writer.acked_seq == 1)
    for key in (world.keys.lease(stream_id), world.keys.log(stream_id), world.keys.meta(stream_id)):
        await world.redis.pexpire(key, 100)
    await keeper.renew()
    assert await world.redis.pttl(world.keys.lease(stream_id)) > 100
    assert await world.redis.pttl(world.keys.log(stream_id)) > 100
    assert await world.redis.pttl(world.keys.meta(stream_id)) > 3_600_000


async def test_a_lapsed_lease_that_was_not_taken_is_regranted_under_the_same_epoch(
    world: World, appender: Appender, keeper: LeaseKeeper
) -> None:
    stream_id, claim = await world.granted()
    writer = await world.writer(stream_id, claim, appender, keeper)
    await world.redis.delete(world.keys.lease(stream_id))
    await keeper.renew()
    assert not writer.over.is_set()
    assert await world.redis.get(world.keys.lease(stream_id)) == f"w1:{claim.epoch}".encode()


async def test_only_another_holder_means_lost(world: World, appender: Appender, keeper: LeaseKeeper) -> None:
    stream_id, claim = await world.granted()
    writer = await world.writer(stream_id, claim, appender, keeper)
    await world.redis.delete(world.keys.lease(stream_id))
    await World(world.connection, worker="w2").claim(stream_id)
    await keeper.renew()
    assert writer.end_reason is WriterEnd.FENCED
    writer.write([text("zombie")])
    assert b"zombie" not in b"".join(await world.texts(stream_id))


@pytest.mark.parametrize("lost", ["its lease", "meta and log"])
async def test_a_newer_grant_means_lost_whatever_is_left_of_it(
    world: World, appender: Appender, keeper: LeaseKeeper, lost: str
) -> None:
    stream_id, claim = await world.granted()
    writer = await world.writer(stream_id, claim, appender, keeper)
    await world.redis.delete(world.keys.lease(stream_id))
    await World(world.connection, worker="w2").claim(stream_id)
    if lost == "its lease":
        await world.redis.delete(world.keys.lease(stream_id))
    else:
        await world.redis.delete(world.keys.meta(stream_id), world.keys.log(stream_id))
    await keeper.renew()
    assert writer.end_reason is WriterEnd.FENCED
    assert await world.redis.get(world.keys.lease(stream_id)) != f"w1:{claim.epoch}".encode()


async def test_a_zombies_renewal_does_not_take_the_job_back(
    world: World, appender: Appender, keeper: LeaseKeeper
) -> None:
    await world.queue.create_group()
    stream_id = await world.create()
    reader = world.reader()
    (job,) = await reader.take(1)
    claim = await world.claim(stream_id)
    writer = await world.writer(stream_id, claim, appender, keeper)
    keeper.hold(writer, job)
    await world.redis.delete(world.keys.lease(stream_id))
    other = World(world.connection, worker="w2")
    assert (await other.queue.take_silent(silent_ms=0, count=1)).jobs == [job]
    await other.claim(stream_id)
    await keeper.renew()
    (pending,) = await world.redis.xpending_range(job.source, GROUP, "-", "+", 1)
    assert pending["consumer"] == b"w2"
    await reader.aclose()


async def test_renewal_works_on_a_full_redis(world: World, appender: Appender, keeper: LeaseKeeper) -> None:
    await world.queue.create_group()
    stream_id, claim = await world.granted()
    writer = await world.writer(stream_id, claim, appender, keeper)
    await world.redis.config_set("maxmemory", 1)
    try:
        await world.redis.pexpire(world.keys.lease(stream_id), LEASE_MS // 4)
        await keeper.renew()
        assert await world.redis.pttl(world.keys.lease(stream_id)) > LEASE_MS // 4
        expiry_ms, now_ms = await world.queue.newest_worker_expiry_ms(lease_ms=world.lease_ms)
        assert expiry_ms > now_ms  # else what waits would be ended for want of a worker
        writer.write([text("a")])  # refused for now, kept
    finally:
        await world.redis.config_set("maxmemory", 0)
    await until(lambda: writer.acked_seq == 1)
    assert await world.texts(stream_id) == [delta("a")]


async def test_a_stop_is_learnt_from_renewal(world: World, appender: Appender, keeper: LeaseKeeper) -> None:
    stream_id, claim = await world.granted()
    writer = await world.writer(stream_id, claim, appender, keeper)
    await world.redis.hset(world.keys.meta(stream_id), "stop", "stopped")
    await keeper.renew()
    assert writer.stop_requested.is_set()


async def test_after_redis_came_back_empty_everything_is_rewritten_with_its_ids(
    world: World, appender: Appender, keeper: LeaseKeeper
) -> None:
    stream_id, claim = await world.granted()
    writer = await world.writer(stream_id, claim, appender, keeper)
    writer.write([text("a"), text("b")])
    await until(lambda: writer.acked_seq == 2)
    before = await world.streams.read(stream_id)
    await world.redis.flushall()
    writer.write([text("c")])
    assert await writer.end([Finish()], deadline_s=30)
    entries = await world.streams.read(stream_id)
    assert entries[:2] == before
    assert [each.seq for each in entries] == [1, 2, 3, 4]
    assert len({each.epoch for each in entries}) == 1
    meta = await world.streams.meta(stream_id)
    assert meta is not None
    assert (meta.status, meta.tenant, meta.model) == ("finished", "local", "m")


async def test_missing_meta_is_restored_by_the_next_renewal_with_its_job(
    world: World, appender: Appender, keeper: LeaseKeeper
) -> None:
    stream_id, claim = await world.granted()
    writer = await world.writer(stream_id, claim, appender, keeper)
    await world.redis.flushall()
    await keeper.renew()
    async with asyncio.timeout(20):
        while not await world.queue.newest_open(10):
            await asyncio.sleep(0.01)
    meta = await world.streams.meta(stream_id)
    assert meta is not None
    assert (meta.status, meta.epoch, meta.attempts) == ("running", claim.epoch, 1)
    assert not writer.over.is_set()


async def test_a_restore_never_overwrites_a_meta_and_never_goes_behind_a_newer_epoch(
    world: World, appender: Appender, keeper: LeaseKeeper
) -> None:
    stream_id, claim = await world.granted()
    writer = await world.writer(stream_id, claim, appender, keeper)
    await world.redis.hset(world.keys.meta(stream_id), "attempts", 7)
    assert await keeper.restore(writer)  # nothing was missing
    assert await world.redis.hget(world.keys.meta(stream_id), "attempts") == b"7"
    await world.redis.delete(world.keys.lease(stream_id))
    await World(world.connection, worker="w2").claim(stream_id)
    await world.redis.delete(world.keys.meta(stream_id))
    assert not await keeper.restore(writer)
    assert await world.redis.exists(world.keys.meta(stream_id)) == 0


async def test_a_lost_tail_is_resent_with_the_same_epoch_and_content(
    world: World, appender: Appender, keeper: LeaseKeeper
) -> None:
    stream_id, claim = await world.granted()
    writer = await world.writer(stream_id, claim, appender, keeper)
    writer.write([text("a"), text("b"), text("c")])
    await until(lambda: writer.acked_seq == 3)
    before = await world.streams.read(stream_id)
    await world.lose_after(stream_id, 1)
    writer.verify()
    async with asyncio.timeout(20):
        while await world.streams.read(stream_id) != before:
            await asyncio.sleep(0.01)


async def test_a_tail_lost_with_an_earlier_attempts_entries_is_rebased_under_a_newer_epoch(
    world: World, appender: Appender, keeper: LeaseKeeper
) -> None:
    stream_id, first = await world.granted()
    await world.append(stream_id, first.epoch, 1, [delta("x"), delta("y")])
    await world.redis.delete(world.keys.lease(stream_id))
    second = await world.claim(stream_id)
    writer = await world.writer(stream_id, second, appender, keeper)
    writer.write([text("a")])
    await until(lambda: writer.acked_seq == 4)
    await world.lose_after(stream_id, 1)
    assert await writer.end([Finish()], deadline_s=30)
    entries = await world.streams.read(stream_id)
    assert [each.seq for each in entries] == [1, 2, 3, 4]
    assert [each.event for each in entries][2:] == [delta("a"), encode_event(Finish())]
    assert b'"attempt"' in entries[1].event
    assert entries[1].epoch > second.epoch


async def test_a_tail_lost_just_after_the_end_is_resent_while_the_buffer_is_kept(
    world: World, appender: Appender, keeper: LeaseKeeper
) -> None:
    stream_id, claim = await world.granted()
    writer = await world.writer(stream_id, claim, appender, keeper)
    writer.write([text("a")])
    assert await writer.end([Finish()], deadline_s=30)
    keeper.drop(writer, keep_s=0.01)
    await world.lose_after(stream_id, 1)
    task = asyncio.create_task(keeper.run())
    async with asyncio.timeout(20):
        while await world.seqs(stream_id) != [1, 2]:
            await asyncio.sleep(0.01)
    task.cancel()


async def test_a_log_that_loses_the_same_tail_repeatedly_ends_with_log_lost(
    world: World, appender: Appender, keeper: LeaseKeeper
) -> None:
    stream_id, claim = await world.granted()
    writer = await world.writer(stream_id, claim, appender, keeper)
    writer.write([text("a"), text("b")])
    await until(lambda: writer.acked_seq == 2)
    for _ in range(MAX_RESENDS + 1):
        await world.lose_after(stream_id, 1)
        writer.verify()
        async with asyncio.timeout(20):
            while len(await world.seqs(stream_id)) < 2:
                await asyncio.sleep(0.005)
    assert writer.end_reason is WriterEnd.LOG_LOST
    assert not await writer.end([Finish()], deadline_s=5)
    assert await world.texts(stream_id) == [delta("a"), terminals.LOG_LOST]


async def test_a_stream_at_its_bound_ends_with_stream_full(connection: LogConnection) -> None:
    world = World(connection, max_events=3)
    async with world.appender() as appender:
        keeper = world.keeper(appender)
        stream_id, claim = await world.granted()
        writer = await world.writer(stream_id, claim, appender, keeper)
        writer.write([text("a"), text("b")])
        await until(lambda: writer.acked_seq == 2)
        writer.write([text("c"), text("d")])
        await until(writer.over.is_set)
        assert writer.end_reason is WriterEnd.FULL
        assert not await writer.end([Finish()], deadline_s=5)
        assert (await world.texts(stream_id))[-1] == terminals.STREAM_FULL


async def test_the_buffer_is_bounded_while_redis_is_away(world: World, appender: Appender, keeper: LeaseKeeper) -> None:
    stream_id, claim = await world.granted()
    writer = await world.writer(stream_id, claim, appender, keeper)
    for _ in range(200):
        writer.write([text("x" * 1000)])
    assert writer.size_bytes <= world.max_bytes + len(terminals.STREAM_FULL)
    assert writer.end_reason is WriterEnd.FULL
    await writer.end([], deadline_s=30)
    assert (await world.texts(stream_id))[-1] == terminals.STREAM_FULL


async def test_appends_of_one_turn_leave_as_one_write(world: World, appender: Appender, keeper: LeaseKeeper) -> None:
    writers = []
    for _ in range(20):
        stream_id, claim = await world.granted()
        writers.append(await world.writer(stream_id, claim, appender, keeper))
    await world.redis.config_resetstat()
    before = (await world.redis.info("stats"))["total_net_input_bytes"]
    for writer in writers:
        writer.write([text("a")])
    assert len(appender._sends) == 0
    await asyncio.sleep(0)
    assert len(appender._sends) == 1
    for writer in writers:
        await until(lambda writer=writer: writer.acked_seq == 1)  # type: ignore[misc]
    assert (await world.redis.info("stats"))["total_net_input_bytes"] > before


async def test_a_worker_is_known_to_live_from_its_heartbeat(world: World, keeper: LeaseKeeper) -> None:
    assert (await world.queue.newest_worker_expiry_ms(lease_ms=world.lease_ms))[0] == 0
    await keeper.heartbeat()
    expiry_ms, now_ms = await world.queue.newest_worker_expiry_ms(lease_ms=world.lease_ms)
    assert now_ms < expiry_ms <= now_ms + LEASE_MS
    await keeper.remove_heartbeat()
    assert (await world.queue.newest_worker_expiry_ms(lease_ms=world.lease_ms))[0] == 0


async def test_a_dropped_stream_is_renewed_no_more(world: World, appender: Appender, keeper: LeaseKeeper) -> None:
    stream_id, claim = await world.granted()
    writer = await world.writer(stream_id, claim, appender, keeper)
    keeper.hold(writer, Job(world.keys.ready, "0-1", stream_id))
    keeper.drop(writer)
    assert stream_id not in keeper.leased
