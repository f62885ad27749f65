"""The lease of a feed: what renews it, what ends it, and that only a feed without writers is ended, once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from typing import Any

import pytest

from broadcaster.core.notices import StallReason
from broadcaster.errors import InvalidInput, LogUnavailable, RateLimited, StreamClosed, UnknownStream
from broadcaster.log.feeds.feeds import FeedConfig, Feeds
from broadcaster.log.feeds.lapses import Lapses
from broadcaster.log.redis.connect import LogConnection
from broadcaster.log.streams import terminals
from broadcaster.log.streams.tenant_storage import TenantStorage
from tests.support.apps.feed_job import FINISH, ID, Job, note
from tests.support.log.feed_writers import BOUNDS, TENANT
from tests.support.log.tail_world import TAILS, TailWorld, open_tail, until

pytestmark = pytest.mark.alone

LEASE_MS = 9000


@dataclass
class Steady:
    """Reports how Redis has answered; ``is_broken``: it broke a moment ago, which the next probe finds."""

    is_steady: bool = True
    is_broken: bool = False

    async def confirm(self) -> None:
        self.is_steady = self.is_steady and not self.is_broken

    def has_answered_for(self, lease_s: float) -> bool:
        assert lease_s == LEASE_MS / 1000
        return self.is_steady


async def lapse(job: Job) -> None:
    """More than a lease passes since the last renewal."""
    fields: dict[str, int | str] = {"created_ms": 1, "lease_ms": LEASE_MS}
    rows = await job.redis.xrange(job.keys.log(ID))
    await job.redis.delete(job.keys.log(ID), job.keys.lease(ID))
    for seq, (_, entry) in enumerate(rows, 1):
        await job.redis.xadd(job.keys.log(ID), entry, id=f"{seq}-{seq}")
        fields["last_id"] = f"{seq}-{seq}"
    await job.redis.hset(job.keys.meta(ID), mapping=fields)


def lapses(job: Job, steady: Steady | None = None) -> Lapses:
    return Lapses(job.connection, steadiness=steady or Steady())


# -- what renews it


async def test_whatever_a_writer_does_pushes_its_lease_out(connection: LogConnection) -> None:
    job = Job(connection, appends_per_s=1)
    await job.create(lease_s=9, max_events=2)
    assert (await job.meta()).lease_ms == 9000

    async def pushes_out(work: Any) -> None:
        for elapse in (job.redis.pexpire(job.keys.lease(ID), 100), job.redis.delete(job.keys.lease(ID))):
            await elapse
            await work()
            assert 8000 < await job.ttl_ms("lease") <= 9000

    await pushes_out(lambda: job.create(lease_s=9, max_events=2))
    await pushes_out(lambda: job.append(note(1), key="k"))

    async def is_too_often() -> None:
        with pytest.raises(RateLimited):
            await job.append(note(2))

    await pushes_out(is_too_often)
    await pushes_out(job.renew)


async def test_a_renewal_keeps_a_feed_that_nothing_is_appended_to(connection: LogConnection) -> None:
    job = Job(connection)
    await job.create(lease_s=9)
    await job.append(note(1))
    for name in ("log", "meta"):
        await job.redis.pexpire(job.keys.log(ID) if name == "log" else job.keys.meta(ID), 1000)
    assert await job.renew()
    assert await job.ttl_ms("log") > 1000
    assert await job.ttl_ms("meta") > 3_600_000


async def test_a_feed_without_a_lease_has_none_and_may_be_renewed_too(connection: LogConnection) -> None:
    job = Job(connection)
    await job.create()
    await job.append(note(1))
    assert await job.renew()
    assert await job.ttl_ms("lease") == -2
    assert (await job.meta()).lease_ms is None


async def test_the_lease_of_an_ended_or_unknown_feed_is_not_renewed(connection: LogConnection) -> None:
    job = Job(connection)
    with pytest.raises(UnknownStream):
        await job.renew()
    await job.create(lease_s=9)
    await job.close()
    assert not await job.renew()
    assert not await job.create(lease_s=9)
    assert await job.ttl_ms("lease") == -2
    with pytest.raises(UnknownStream):
        await job.feeds.renew(ID, tenant="another")


@pytest.mark.parametrize("lease_s", [0, -1, 1.9, BOUNDS.live_ttl_ms / 1000 + 1, float("nan")])
async def test_a_lease_that_proves_nothing_is_refused(connection: LogConnection, lease_s: float) -> None:
    with pytest.raises(InvalidInput, match="lease_s is 2 to 60 here"):
        await Job(connection).create(lease_s=lease_s)


def test_a_configuration_without_a_lease_is_known_by_the_hash_of_before() -> None:
    config = FeedConfig(retention_s=5, metadata={"b": 1, "a": 2})
    assert config.digest() == "69940493ae7ed0076b285a3cbf2f3ccb"
    assert config.digest() == replace(config, retention_s=5.0).digest() != replace(config, lease_s=5).digest()
    assert replace(config, lease_s=5).digest() == replace(config, lease_s=5.0).digest()


# -- what ends it


async def test_a_lapsed_feed_ends_once_whichever_process_checks_it(connection: LogConnection) -> None:
    job = Job(connection)
    await job.create(lease_s=9, retention_s=5)
    await job.append(note(1))
    await lapse(job)
    ended = await asyncio.gather(*(lapses(job).end(ID, lease_ms=LEASE_MS) for _ in range(20)))
    assert sorted(ended) == [False] * 19 + [True]
    held = await job.held()
    assert [event for _, event in held] == [note(1), terminals.WRITER_LOST]
    meta = await job.meta()
    assert (meta.status, meta.terminal, meta.terminal_id) == ("failed", terminals.WRITER_LOST, held[-1][0])
    assert meta.ended_ms is not None
    assert 0 < await job.ttl_ms("log") <= 5000
    assert 3_600_000 < await job.ttl_ms("meta") <= 3_605_000


async def test_a_writer_that_comes_back_after_the_end_learns_that_the_feed_is_closed(
    connection: LogConnection,
) -> None:
    job = Job(connection)
    await job.create(lease_s=9)
    (taken,) = await job.append(note(1), key="mine")
    await lapse(job)
    assert await lapses(job).end(ID, lease_ms=LEASE_MS)
    for refused in (job.append(note(2)), job.close()):
        with pytest.raises(StreamClosed):
            await refused
    assert await job.append(note(1), key="mine") == [taken]
    assert not await job.renew()
    assert not await job.create(lease_s=9)
    assert len(await job.held()) == 2
    assert await job.ttl_ms("lease") == -2


async def test_a_writer_that_comes_back_before_the_end_keeps_the_feed_open(connection: LogConnection) -> None:
    for comes_back in ("renew", "append", "create"):
        job = Job(connection)
        await connection.redis.flushall()
        await job.create(lease_s=9)
        await lapse(job)
        match comes_back:
            case "renew":
                assert await job.renew()
            case "append":
                await job.append(note(1))
            case _:
                assert not await job.create(lease_s=9)
        assert not await lapses(job).end(ID, lease_ms=LEASE_MS)
        assert not (await job.meta()).is_over


async def test_an_append_of_a_front_end_that_knows_no_leases_counts_by_its_time(connection: LogConnection) -> None:
    job = Job(connection)
    await job.create(lease_s=9)
    await lapse(job)
    await job.append(note(1))
    await job.redis.delete(job.keys.lease(ID))
    assert not await lapses(job).end(ID, lease_ms=LEASE_MS)
    assert 0 < await job.ttl_ms("lease") <= LEASE_MS


async def test_a_stream_that_is_over_unknown_or_without_a_lease_is_not_ended(connection: LogConnection) -> None:
    job = Job(connection)
    assert not await lapses(job).end(ID, lease_ms=LEASE_MS)
    await job.create()
    assert not await lapses(job).end(ID, lease_ms=LEASE_MS)
    await lapse(job)
    await job.close()
    assert not await lapses(job).end(ID, lease_ms=LEASE_MS)
    assert [event for _, event in await job.held()] == [FINISH]
    await job.redis.hset(job.keys.meta("gen_1"), mapping={"tenant": TENANT, "status": "running", "lease_ms": LEASE_MS})
    assert not await lapses(job).end("gen_1", lease_ms=LEASE_MS)


async def test_a_feed_whose_log_has_expired_ends_behind_what_was_in_it(connection: LogConnection) -> None:
    job = Job(connection)
    await job.create(lease_s=9)
    await job.append(note(1), note(2))
    await lapse(job)
    await job.redis.delete(job.keys.log(ID))
    assert await lapses(job).end(ID, lease_ms=LEASE_MS)
    assert [(cursor.seq, event) for cursor, event in await job.held()] == [(3, terminals.WRITER_LOST)]


async def test_a_full_redis_neither_ends_nor_takes_anything_by_half(connection: LogConnection) -> None:
    job = Job(connection)
    await job.create(lease_s=9)
    await lapse(job)
    await job.redis.config_set("maxmemory", 1)
    try:
        with pytest.raises(LogUnavailable):
            await lapses(job).end(ID, lease_ms=LEASE_MS)
        with pytest.raises(LogUnavailable):
            await job.append(note(1))
    finally:
        await job.redis.config_set("maxmemory", 0)
    assert not (await job.meta()).is_over
    assert await job.held() == []
    assert await lapses(job).end(ID, lease_ms=LEASE_MS)


async def test_writers_renew_their_leases_on_a_full_redis_too(connection: LogConnection) -> None:
    job = Job(connection)
    await job.create(lease_s=9)
    await lapse(job)
    await job.redis.config_set("maxmemory", 1)
    try:
        assert await job.renew()
    finally:
        await job.redis.config_set("maxmemory", 0)
    assert not await lapses(job).end(ID, lease_ms=LEASE_MS)


async def test_a_repeated_creation_renews_on_a_full_redis_where_feeds_are_bounded(connection: LogConnection) -> None:
    """A writer over HTTP renews so. Its front-end may have begun a moment ago, and know nothing of the tenant yet."""
    job, config = Job(connection), FeedConfig(lease_s=9)
    await job.create(lease_s=9)
    await lapse(job)
    await job.redis.config_set("maxmemory", 1)
    try:
        storage = TenantStorage(connection, max_feeds=1)
        fresh = Feeds(connection, BOUNDS, streams=job.streams, storage=storage)
        assert not await fresh.create(ID, config, tenant=TENANT)
        assert 8000 < await job.ttl_ms("lease") <= 9000
        with pytest.raises(LogUnavailable):
            await fresh.create("another", config, tenant=TENANT)
    finally:
        await job.redis.config_set("maxmemory", 0)
    assert not await lapses(job).end(ID, lease_ms=LEASE_MS)


async def test_a_check_ends_a_lapsed_feed_without_viewers(connection: LogConnection) -> None:
    job, steady = Job(connection), Steady(is_steady=False)
    reading = Feeds(connection, BOUNDS, streams=job.streams, lapses=lapses(job, steady))
    await job.create(lease_s=9)
    await lapse(job)
    assert not (await reading.get(ID, tenant=TENANT)).is_over
    with pytest.raises(UnknownStream):
        await reading.get(ID, tenant="another")
    steady.is_steady = True
    assert (await reading.get(ID, tenant=TENANT)).terminal == terminals.WRITER_LOST


async def test_a_lapsed_feed_can_be_read_on_a_full_redis_and_ends_once_there_is_room(connection: LogConnection) -> None:
    job = Job(connection)
    reading = Feeds(connection, BOUNDS, streams=job.streams, lapses=lapses(job))
    await job.create(lease_s=9)
    await lapse(job)
    await job.redis.config_set("maxmemory", 1)
    try:
        assert not (await reading.get(ID, tenant=TENANT)).is_over
    finally:
        await job.redis.config_set("maxmemory", 0)
    assert (await reading.get(ID, tenant=TENANT)).terminal == terminals.WRITER_LOST


async def test_a_feed_is_not_ended_when_a_probe_after_its_lease_was_seen_missing_finds_a_break(
    connection: LogConnection,
) -> None:
    job = Job(connection)
    await job.create(lease_s=9)
    await lapse(job)
    for is_overlong in (False, True):
        assert not await lapses(job, Steady(is_broken=True)).end(ID, lease_ms=LEASE_MS, is_overlong=is_overlong)
    assert await lapses(job).end(ID, lease_ms=LEASE_MS)


# -- what viewers receive


class Watched:
    """A writer of a feed beside a front-end's supply that may end it."""

    def __init__(self, world: TailWorld, steady: Steady) -> None:
        self.world = world
        self.job = Job(world.connection)
        self.steady = steady


@pytest.fixture
async def watched(redis_url: str) -> AsyncIterator[Watched]:
    steady = Steady()
    async with LogConnection(redis_url) as connection:
        ender = Lapses(connection, steadiness=steady)
        async with open_tail(redis_url, times=replace(TAILS, lapse_check_s=0.05), lapses=ender) as world:
            yield Watched(world, steady)


async def test_viewers_are_notified_that_the_writer_is_lost_and_then_of_the_end(watched: Watched) -> None:
    await watched.job.create(lease_s=9)
    room, watch = await watched.world.watch_live(ID)
    await lapse(watched.job)
    await room.until(lambda: watch.is_over)
    assert room.notices == [("stalled", StallReason.WORKER_LOST), ("stalled", None)]
    assert [entry.event for entry in room.entries] == [terminals.WRITER_LOST]


async def test_a_writer_that_renews_after_its_loss_was_reported_ends_the_stall_and_nothing_else(
    watched: Watched,
) -> None:
    watched.steady.is_steady = False
    await watched.job.create(lease_s=9)
    room, watch = await watched.world.watch_live(ID)
    await lapse(watched.job)
    await room.until(lambda: room.stall is StallReason.WORKER_LOST)
    assert await watched.job.renew()
    await room.until(lambda: room.stall is None)
    watched.steady.is_steady = True
    (entry,) = await watched.job.append(note(1))
    await room.until(lambda: room.last_seq == entry.seq)
    assert not watch.is_over


async def test_the_lease_of_a_watched_feed_is_cut_when_more_is_left_than_its_length(watched: Watched) -> None:
    """Redis's clock has stepped back, and is not steady since."""
    watched.steady.is_steady = False
    await watched.job.create(lease_s=9)
    await watched.world.watch_live(ID)
    await watched.job.redis.pexpire(watched.job.keys.lease(ID), 600_000)
    async with asyncio.timeout(20):
        while await watched.job.ttl_ms("lease") > LEASE_MS:
            await asyncio.sleep(0.02)
    assert not (await watched.job.meta()).is_over


async def test_a_lease_that_lapses_between_two_tail_checks_is_checked_when_it_lapses(redis_url: str) -> None:
    times = replace(TAILS, tail_check_min_s=3.0, tail_check_max_s=3.0, stall_notice_s=0.0, lapse_check_s=0.05)
    async with open_tail(redis_url, times=times) as world:
        job, loop = Job(world.connection), asyncio.get_running_loop()
        await job.create(lease_s=9)
        room, watch = await world.watch_live(ID)
        await job.redis.pexpire(job.keys.lease(ID), 4000)
        began = loop.time()
        await until(lambda: watch.lapses_at is not None)
        await room.until(lambda: room.stall is StallReason.WORKER_LOST)
        assert 3.9 < loop.time() - began < 5.9
        assert watch.lapses_at is None


async def test_a_watch_knows_when_a_lease_lapses_until_the_feed_is_over(watched: Watched) -> None:
    loop = asyncio.get_running_loop()
    began = loop.time()
    await watched.job.create(lease_s=9)
    room, watch = await watched.world.watch_live(ID)
    await until(lambda: watch.lapses_at is not None)
    at = watch.lapses_at
    assert at is not None
    assert began + 8.9 < at <= loop.time() + 9
    await watched.job.close()
    await room.until(lambda: watch.is_over)
    assert watch.lapses_at is None
