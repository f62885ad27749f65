"""What a renewal must not do, and what it does whatever else fails: guards that no other test would miss."""

from __future__ import annotations

import asyncio
import gc
import time
import weakref
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from redis.exceptions import ResponseError

from broadcaster.core.events import Abort, Error, Event, Finish, TextDelta
from broadcaster.log.jobs.lease import LeaseKeeper
from broadcaster.log.jobs.queue import GROUP
from broadcaster.log.streams.appender import Appender
from broadcaster.log.streams.webhook_meta import WebhookState
from broadcaster.log.streams.writer import StreamWriter, WriterEnd
from tests.support.log.log_world import LEASE_MS, World, until

pytestmark = pytest.mark.alone


async def test_a_newer_log_means_lost_when_nothing_else_is_left(
    world: World, appender: Appender, keeper: LeaseKeeper
) -> None:
    await world.queue.create_group()
    stream_id = await world.create()
    reader = world.reader()
    (job,) = await reader.take(1)
    writer = await world.writer(stream_id, await world.claim(stream_id), appender, keeper)
    keeper.hold(writer, job)
    await world.redis.delete(world.keys.lease(stream_id))
    other = World(world.connection, worker="w2")
    assert (await other.queue.take_silent(silent_ms=0, count=1)).jobs == [job]
    await other.claim(stream_id)
    await world.redis.delete(world.keys.meta(stream_id), world.keys.lease(stream_id))
    await keeper.renew()
    (pending,) = await world.redis.xpending_range(job.source, GROUP, "-", "+", 1)
    assert pending["consumer"] == b"w2"  # the job is not taken back
    assert writer.end_reason is WriterEnd.FENCED
    await reader.aclose()


async def test_a_restored_meta_has_a_life(world: World, appender: Appender, keeper: LeaseKeeper) -> None:
    stream_id, claim = await world.granted()
    writer = await world.writer(stream_id, claim, appender, keeper)
    await world.redis.delete(world.keys.meta(stream_id))
    assert await keeper.restore(writer)
    assert await world.redis.pttl(world.keys.meta(stream_id)) > 3_600_000


async def test_a_full_redis_grants_a_lapsed_lease_once_more_and_keeps_what_it_protects(
    world: World, appender: Appender, keeper: LeaseKeeper
) -> None:
    stream_id, claim = await world.granted()
    await world.writer(stream_id, claim, appender, keeper)
    lease = await world.redis.getdel(world.keys.lease(stream_id))
    await world.redis.pexpire(world.keys.meta(stream_id), 100)
    await world.redis.config_set("maxmemory", 1)
    try:
        with pytest.raises(Exception, match="try again"):
            await keeper.renew()  # the job, which the queue never had, needs memory
        assert await world.redis.get(world.keys.lease(stream_id)) == lease
        assert await world.redis.pttl(world.keys.meta(stream_id)) > 100
    finally:
        await world.redis.config_set("maxmemory", 0)


async def test_a_stream_let_go_during_its_renewal_is_not_lost(
    world: World, appender: Appender, keeper: LeaseKeeper
) -> None:
    stream_id, claim = await world.granted()
    writer = await world.writer(stream_id, claim, appender, keeper)
    await world.redis.delete(world.keys.lease(stream_id))
    await World(world.connection, worker="w2").claim(stream_id)
    renewal = asyncio.create_task(keeper.renew())
    await asyncio.sleep(0)
    keeper.drop(writer)
    await renewal
    assert not writer.over.is_set()


async def test_a_stream_that_has_ended_is_not_lost_to_its_deletion(
    world: World, appender: Appender, keeper: LeaseKeeper
) -> None:
    stream_id, claim = await world.granted()
    writer = await world.writer(stream_id, claim, appender, keeper)
    assert await writer.end([Finish()], deadline_s=30)
    await world.redis.hset(world.keys.meta(stream_id), "epoch", claim.epoch + 1)  # a tombstone has a newer one
    await keeper.renew()
    assert writer.end_reason is None


async def test_a_worker_lives_even_when_its_jobs_cannot_be_kept(
    world: World, appender: Appender, keeper: LeaseKeeper
) -> None:
    stream_id, claim = await world.granted()
    await world.writer(stream_id, claim, appender, keeper)
    await world.redis.set(world.keys.ready, "no stream")
    with pytest.raises(ResponseError):
        await keeper.renew()
    expiry_ms, now_ms = await world.queue.newest_worker_expiry_ms(lease_ms=world.lease_ms)
    assert expiry_ms > now_ms


async def test_letting_an_older_attempt_go_leaves_the_newer_one_held(
    world: World, appender: Appender, keeper: LeaseKeeper
) -> None:
    stream_id, first = await world.granted()
    older = await world.writer(stream_id, first, appender, keeper)
    await world.redis.delete(world.keys.lease(stream_id))
    newer = await world.writer(stream_id, await world.claim(stream_id), appender, keeper)
    keeper.drop(older)
    assert keeper.leased[stream_id].writer is newer


async def ended(world: World, appender: Appender, keeper: LeaseKeeper) -> StreamWriter:
    """A writer whose stream has two entries, the terminal event among them."""
    stream_id = await world.create(retention_s=3600)  # a tail is checked at half of it in any case
    writer = await world.writer(stream_id, await world.claim(stream_id), appender, keeper)
    writer.write([TextDelta(id="0", delta="a")])
    assert await writer.end([Finish()], deadline_s=30)
    return writer


async def until_whole(world: World, stream_id: str) -> None:
    async with asyncio.timeout(20):
        while await world.seqs(stream_id) != [1, 2]:
            await asyncio.sleep(0.01)


@asynccontextmanager
async def running(keeper: LeaseKeeper) -> AsyncIterator[None]:
    task = asyncio.create_task(keeper.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def note_a_break(world: World) -> None:
    world.steadiness.breaks += 1
    world.steadiness.answering.set()


async def test_a_kept_buffer_is_checked_after_every_break_of_redis(
    world: World, appender: Appender, keeper: LeaseKeeper
) -> None:
    writer = await ended(world, appender, keeper)
    keeper.drop(writer, keep_s=3600)
    await world.lose_after(writer.stream_id, 1)
    note_a_break(world)
    async with running(keeper):
        await until_whole(world, writer.stream_id)


async def test_an_idle_streams_tail_is_checked_after_every_break_of_redis(
    world: World, appender: Appender, keeper: LeaseKeeper
) -> None:
    stream_id, claim = await world.granted()
    writer = await world.writer(stream_id, claim, appender, keeper)
    writer.write([TextDelta(id="0", delta="a"), TextDelta(id="0", delta="b")])
    await until(lambda: writer.acked_seq == 2)
    await world.lose_after(stream_id, 1)
    note_a_break(world)
    async with running(keeper):
        await until_whole(world, stream_id)


async def test_only_the_buffer_of_an_ended_stream_is_kept(
    world: World, appender: Appender, keeper: LeaseKeeper
) -> None:
    """What was handed back is its next worker's: the old buffer must not write into it any more."""
    stream_id, claim = await world.granted()
    handed_back = await world.writer(stream_id, claim, appender, keeper)
    handed_back.write([TextDelta(id="0", delta="a"), TextDelta(id="0", delta="b")])
    await until(lambda: handed_back.acked_seq == 2)
    keeper.drop(handed_back, keep_s=3600)
    kept = await ended(world, appender, keeper)
    keeper.drop(kept, keep_s=3600)
    for each in (stream_id, kept.stream_id):
        await world.lose_after(each, 1)
    note_a_break(world)
    async with running(keeper):
        await until_whole(world, kept.stream_id)  # the turn that would have checked both
    assert await world.seqs(stream_id) == [1]


async def test_a_kept_buffer_is_freed_when_its_time_is_over(
    world: World, appender: Appender, keeper: LeaseKeeper
) -> None:
    writer = await ended(world, appender, keeper)
    keeper.drop(writer, keep_s=0.01)
    freed = weakref.ref(writer)
    del writer
    async with running(keeper):
        await until(lambda: gc.collect() >= 0 and freed() is None)


async def called_back(world: World, appender: Appender, keeper: LeaseKeeper, *, retention_s: float) -> StreamWriter:
    """A writer whose stream has ended, and whose webhook is delivered."""
    hook = {"url": "https://hooks.example.com/h"}
    stream_id = await world.create(retention_s=retention_s, webhook=hook)
    writer = await world.writer(stream_id, await world.claim(stream_id), appender, keeper)
    writer.write([TextDelta(id="0", delta="a")])
    assert await writer.end([Finish()], deadline_s=30)
    created_ms = int(await world.redis.hget(world.keys.meta(stream_id), "created_ms"))
    assert await world.webhooks.record_attempt(stream_id, WebhookState.DELIVERED, created_ms=created_ms, status=200)
    return writer


async def checked(appender: Appender, writer: StreamWriter) -> None:
    """The writer has checked its tail, and has sent again what it found missing."""
    count = appender.counts.outcomes.total()
    await until(lambda: appender.counts.outcomes.total() > count)
    await until(lambda: writer.is_complete and not writer.is_recovering)


async def test_an_answer_that_is_kept_no_longer_does_not_return_when_its_buffer_is_checked(
    world: World, appender: Appender, keeper: LeaseKeeper
) -> None:
    """The worker's buffer knows only how long the log was kept for the webhook."""
    writer = await called_back(world, appender, keeper, retention_s=0.05)
    keeper.drop(writer, keep_s=0.1)
    log, meta = world.keys.log(writer.stream_id), world.keys.meta(writer.stream_id)
    async with asyncio.timeout(20):
        while await world.redis.exists(log):
            await asyncio.sleep(0.01)
    ended_ms = await world.redis.hget(meta, "ended_ms")
    async with running(keeper):
        await checked(appender, writer)
    assert appender.counts.outcomes["rewound"] == 0
    assert await world.redis.exists(log) == 0
    assert await world.redis.hget(meta, "ended_ms") == ended_ms


async def test_a_lost_answer_whose_webhook_is_delivered_returns_for_the_rest_of_its_own_retention(
    world: World, appender: Appender, keeper: LeaseKeeper
) -> None:
    writer = await called_back(world, appender, keeper, retention_s=20)
    log, meta = world.keys.log(writer.stream_id), world.keys.meta(writer.stream_id)
    ended_ms = await world.redis.hget(meta, "ended_ms")
    keeper.drop(writer)
    await world.redis.delete(log)
    writer.verify()
    await checked(appender, writer)
    assert await world.seqs(writer.stream_id) == [1, 2]
    assert 0 < await world.redis.pttl(log) <= 20_000
    assert await world.redis.hget(meta, "ended_ms") == ended_ms


async def test_a_renewal_that_comes_late_is_logged(keeper: LeaseKeeper, caplog: pytest.LogCaptureFixture) -> None:
    def is_logged() -> bool:
        time.sleep(LEASE_MS / 1000 * 0.6)
        return "renewal_late" in caplog.text

    async with running(keeper):
        await until(is_logged, deadline_s=30)


async def test_a_renewal_that_redis_carries_out_after_the_end_leaves_the_retention_and_writes_no_lease(
    world: World, appender: Appender, keeper: LeaseKeeper
) -> None:
    stream_id = await world.create(retention_s=7 * 86_400)
    writer = await world.writer(stream_id, await world.claim(stream_id), appender, keeper)
    writer.write([TextDelta(id="0", delta="a")])
    assert await writer.end([Finish()], deadline_s=5)
    await keeper.renew()
    left = [await world.redis.pttl(key) for key in (world.keys.log(stream_id), world.keys.meta(stream_id))]
    assert min(left) > 6 * 86_400_000
    assert not await world.redis.exists(world.keys.lease(stream_id))


async def test_of_what_has_ended_only_the_meta_is_restored(
    world: World, appender: Appender, keeper: LeaseKeeper
) -> None:
    writer = await ended(world, appender, keeper)
    await world.redis.flushall()
    assert await keeper.restore(writer)
    assert await world.queue.newest_open(1) == []
    assert await world.redis.xlen(world.keys.ready) == 0


@pytest.mark.parametrize(
    ("last", "status"),
    [(Finish(), "finished"), (Abort(), "aborted"), (Error(error_text="no", code="provider_error"), "failed")],
)
async def test_the_meta_of_what_has_ended_is_restored_with_its_end_and_without_a_lease(
    world: World, appender: Appender, keeper: LeaseKeeper, last: Event, status: str
) -> None:
    """Else a generation without a worker would be running for as long as its meta is kept."""
    stream_id, claim = await world.granted()
    writer = await world.writer(stream_id, claim, appender, keeper)
    writer.write([TextDelta(id="0", delta="a")])
    assert await writer.end([last], deadline_s=30)
    before = await world.streams.meta(stream_id)
    await world.redis.delete(world.keys.meta(stream_id))
    assert await keeper.restore(writer)
    meta = await world.streams.meta(stream_id)
    assert before is not None
    assert meta is not None
    assert (meta.status, meta.terminal, meta.attempts) == (status, before.terminal, 1)
    assert await world.redis.hget(world.keys.meta(stream_id), "terminal_id") == f"{claim.epoch}-2".encode()
    assert meta.ended_ms is not None
    assert before.ended_ms is not None
    assert meta.ended_ms >= before.ended_ms
    assert await world.redis.exists(world.keys.lease(stream_id)) == 0
    kept_ms = await world.redis.pttl(world.keys.log(stream_id))
    assert kept_ms < await world.redis.pttl(world.keys.meta(stream_id)) <= kept_ms + 3_601_000


async def test_the_group_of_workers_is_restored_before_the_job(
    world: World, appender: Appender, keeper: LeaseKeeper
) -> None:
    stream_id, claim = await world.granted()
    writer = await world.writer(stream_id, claim, appender, keeper)
    await world.redis.flushall()
    assert await keeper.restore(writer)
    (group,) = await world.redis.xinfo_groups(world.keys.ready)
    assert group["name"] == GROUP.encode()
