"""What one tenant has stored: counted close to what Redis uses, bounded at creation, and free after its end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from broadcaster.core.events import Error, Finish, encode_event
from broadcaster.errors import TenantLimit
from broadcaster.log.feeds.bounds import FeedBounds
from broadcaster.log.feeds.durable_streams import DurableAppend, DurableConfig, DurableStreams
from broadcaster.log.feeds.feeds import FeedConfig, Feeds
from broadcaster.log.feeds.lapses import Lapses
from broadcaster.log.jobs.generations import GenerationRequest
from broadcaster.log.redis.connect import LogConnection
from broadcaster.log.streams.reader import Streams
from broadcaster.log.streams.tenant_storage import TenantStorage
from tests.support.log.log_world import World
from tests.support.streaming import DEADLINE_S

MIB = 2**20
A = "a"


class Answering:
    """Redis has answered this process for longer than any lease."""

    async def confirm(self) -> None:
        """It answers now as well."""

    def has_answered_for(self, lease_s: float) -> bool:
        return True


class Side:
    """A front-end's feeds and generations, with bounds of its own."""

    def __init__(
        self,
        connection: LogConnection,
        *,
        max_feeds: int | None = 1000,
        max_bytes: int | None = None,
        live_ttl_ms=60_000,
    ) -> None:
        self.connection = connection
        self.storage = TenantStorage(connection, max_feeds=max_feeds, max_bytes=max_bytes)
        bounds = FeedBounds(
            max_events=100_000,
            max_bytes=64 * MIB,
            max_event_bytes=MIB,
            appends_per_s=1e6,
            push_max_bytes=MIB,
            live_ttl_ms=60_000,
            retention_ms=60_000,
        )
        self.feeds = Feeds(connection, bounds, streams=Streams(connection), storage=self.storage)
        self.world = World(connection, storage=self.storage)

    async def create(self, id: str, *, tenant: str = A, **config: Any) -> bool:
        return await self.feeds.create(id, FeedConfig(**config), tenant=tenant)

    async def start(self, prompt: str = "x", *, tenant: str = A) -> str:
        request = GenerationRequest(model="m", request={"messages": [{"role": "user", "content": prompt}]})
        return (await self.world.generations.create(request, tenant=tenant)).id


def event(size: int = 20) -> bytes:
    return b'{"type":"data-x","data":"' + b"x" * size + b'"}'


async def refused(call: Awaitable[Any], setting: str) -> None:
    with pytest.raises(TenantLimit, match=setting) as caught:
        await call
    assert caught.value.retry_after_s >= 1


@asynccontextmanager
async def maxmemory_of(connection: LogConnection) -> AsyncIterator[int]:
    """A server with so much maxmemory: twice the bound of a tenant."""
    maxmemory = (await connection.redis.info("memory"))["used_memory"] + 64 * MIB
    await connection.redis.config_set("maxmemory", str(maxmemory))
    try:
        yield maxmemory
    finally:
        await connection.redis.config_set("maxmemory", "0")


async def test_the_most_open_feeds_of_a_tenant_hold_over_all_front_ends_and_for_each_tenant_alone(
    connection: LogConnection,
) -> None:
    one, other = Side(connection, max_feeds=3), Side(connection, max_feeds=3)
    for at, side in enumerate((one, other, one)):
        assert await side.create(f"f{at}")
    for side in (one, other):
        await refused(side.create("more"), "TENANT_FEEDS")
        assert not await side.create("f1")  # it is there
    assert await one.create("f0", tenant="b")
    await one.feeds.close("f0", encode_event(Finish()), tenant=A)
    assert await one.create("in-its-place")
    await refused(one.create("more"), "TENANT_FEEDS")
    await one.feeds.delete("f1", tenant=A)
    assert await one.create("in-the-place-of-f1")


async def test_a_feed_that_is_over_is_replaced_only_where_one_more_may_be_open(connection: LogConnection) -> None:
    side, other = Side(connection, max_feeds=1), FeedConfig(max_events=9)
    for id in ("over", "deleted"):
        await side.create(id)
        await side.feeds.close(id, encode_event(Finish()), tenant=A)
    await side.feeds.delete("deleted", tenant=A)
    await side.create("open")
    for id in ("over", "deleted"):
        await refused(side.feeds.create(id, other, tenant=A, replaces=True), "TENANT_FEEDS")
    assert not await side.create("over")  # a repeated creation opens nothing
    assert await side.feeds.create("open", other, tenant=A, replaces=True)


async def test_a_durable_stream_that_was_deleted_is_created_anew_only_where_one_more_may_be_open(
    connection: LogConnection,
) -> None:
    side, config = Side(connection, max_feeds=1), DurableConfig("text/plain", "text/plain")
    streams = DurableStreams(connection, side.feeds, storage=side.storage)
    for id in ("over", "deleted"):
        await streams.create(id, config, tenant=A, content=DurableAppend())
        await streams.append(id, DurableAppend(closes=True), tenant=A)
    await side.feeds.delete("deleted", tenant=A)
    await side.create("open")
    await refused(streams.create("deleted", config, tenant=A, content=DurableAppend()), "TENANT_FEEDS")
    assert not (await streams.create("over", config, tenant=A, content=DurableAppend(closes=True))).is_new


async def test_a_durable_stream_that_is_created_closed_is_no_open_feed(connection: LogConnection) -> None:
    side, config = Side(connection, max_feeds=1), DurableConfig("text/plain", "text/plain")
    streams = DurableStreams(connection, side.feeds, storage=side.storage)
    for id in ("first", "second"):
        assert (await streams.create(id, config, tenant=A, content=DurableAppend(closes=True))).is_new
    assert await side.create("open")


async def test_a_feed_that_has_expired_frees_its_place(connection: LogConnection) -> None:
    side = Side(connection, max_feeds=1)
    await side.create("f0")
    await connection.redis.delete(connection.keys.meta("a~f0"))
    await connection.redis.zadd(connection.keys.stored_due(A), {"a~f0": 0})
    assert await side.create("f1")


async def test_a_feed_whose_writer_is_lost_frees_its_place_when_a_reader_ends_it(connection: LogConnection) -> None:
    side, keys = Side(connection, max_feeds=1), connection.keys
    side.feeds.lapses = Lapses(connection, steadiness=Answering())
    await side.create("f0", lease_s=2)
    await connection.redis.delete(keys.lease("a~f0"))
    await connection.redis.hset(keys.meta("a~f0"), "created_ms", 1)
    assert (await side.feeds.get("f0", tenant=A)).is_over
    assert await side.create("f1")


async def test_the_feeds_and_entries_of_a_publisher_are_counted_and_never_refused(connection: LogConnection) -> None:
    publisher, front_end = Side(connection, max_feeds=None), Side(connection, max_feeds=2, max_bytes=MIB)
    for at in range(3):
        assert await publisher.create(f"f{at}")
        await publisher.feeds.append(f"f{at}", [event(500_000)], tenant=A)
    await connection.redis.zadd(connection.keys.stored_due(A), {f"a~f{at}": 0 for at in range(3)})
    await refused(front_end.create("more"), "TENANT_FEEDS")
    assert (await front_end.storage.sums(A))[0] > 1.4 * MIB
    await refused(front_end.feeds.append("f0", [event()], tenant=A), "TENANT_STORED_BYTES")
    await publisher.feeds.append("f0", [event()], tenant=A)


async def test_stored_bytes_of_feeds_requests_and_metadata_are_bounded_and_deleting_frees_them(
    connection: LogConnection,
) -> None:
    side = Side(connection, max_bytes=3_000_000)
    await side.create("f", metadata={"x": "y" * 16_000})
    await side.feeds.append("f", [event(984_000)], tenant=A)
    generation_id = await side.start("x" * 2 * MIB)
    await refused(side.start(), "TENANT_STORED_BYTES")
    await refused(side.create("g"), "TENANT_STORED_BYTES")
    await refused(side.feeds.append("f", [event()], tenant=A), "TENANT_STORED_BYTES")
    assert await side.start(tenant="b")
    await side.world.generations.delete(generation_id, tenant=A, timeout_s=5)
    await side.feeds.append("f", [event()], tenant=A)
    await side.start("x" * 2 * MIB)
    await refused(side.create("g"), "TENANT_STORED_BYTES")
    await side.feeds.close("f", encode_event(Finish()), tenant=A)  # the end is always admitted
    await side.feeds.delete("f", tenant=A)
    assert await side.create("g")


@pytest.mark.parametrize("field", ["request", "model", "title", "webhook", "terminal"])
async def test_each_field_that_a_caller_sizes_is_counted(connection: LogConnection, field: str) -> None:
    side, keys = Side(connection), connection.keys
    id = await side.start()
    await connection.redis.hset(keys.meta(id), field, "x" * 300_000)
    await connection.redis.zadd(keys.stored_due(A), {id: 0})
    assert (await side.storage.sums(A)).bytes > 300_000


LONG_END = encode_event(Error(error_text="x" * 900_000, code="x"))


async def test_the_end_of_a_feed_counts_at_once(connection: LogConnection) -> None:
    side = Side(connection, max_bytes=MIB)
    await side.create("f")
    await side.feeds.close("f", LONG_END, tenant=A)
    await refused(side.create("g"), "TENANT_STORED_BYTES")


async def test_the_end_of_a_feed_counts_once_for_its_log_and_once_for_its_meta_which_stays_longer(
    connection: LogConnection,
) -> None:
    side = Side(connection)
    await side.create("f")
    await side.feeds.close("f", LONG_END, tenant=A)
    assert 1_800_000 < (await side.storage.sums(A)).bytes < 1_900_000
    await side.create("g", retention_s=0.02)
    await side.feeds.delete("f", tenant=A)
    await side.feeds.close("g", LONG_END, tenant=A)
    async with asyncio.timeout(DEADLINE_S):
        while (await side.storage.sums(A)).bytes > 1_900_000:
            await asyncio.sleep(0.01)
    assert not await connection.redis.exists(connection.keys.log("a~g"), connection.keys.log("a~f"))
    assert (await side.storage.sums(A)).bytes > 1_800_000  # the tombstone, too, says how it ended


async def test_half_of_maxmemory_is_the_bound_unless_one_is_set_but_not_for_the_one_tenant_without_keys(
    connection: LogConnection,
) -> None:
    async with maxmemory_of(connection) as maxmemory:
        side, most = Side(connection), maxmemory // 2
        await connection.redis.hset(connection.keys.stored(A), "~bytes", most)
        await refused(side.start(), f"{most} is what")
        assert await side.start(tenant="local")
    assert await Side(connection).start()


async def test_half_of_maxmemory_bounds_a_tenant_that_only_appends_at_a_front_end(connection: LogConnection) -> None:
    async with maxmemory_of(connection) as maxmemory:
        await Side(connection).create("f")
        await connection.redis.hset(connection.keys.stored(A), "~bytes", maxmemory)
        side = Side(connection)
        running = asyncio.create_task(side.storage.run())
        async with asyncio.timeout(DEADLINE_S):
            with pytest.raises(TenantLimit, match=f"{maxmemory // 2} is what"):
                while True:
                    await side.feeds.append("f", [event()], tenant=A)
                    await asyncio.sleep(0.01)
        running.cancel()


async def test_a_running_answer_is_counted_and_not_refused(connection: LogConnection) -> None:
    side = Side(connection, max_bytes=MIB)
    id = await side.start()
    claim = await side.world.claim(id)
    side.world.max_bytes = 4 * MIB
    for seq in (1, 2, 3):
        answer = await side.world.append(id, claim.epoch, seq, [event(600_000)])
        assert answer.code == 1
    await connection.redis.zadd(connection.keys.stored_due(A), {id: 0})
    assert (await side.storage.sums(A))[0] > 1.7 * MIB
    await refused(side.start(), "TENANT_STORED_BYTES")


# -- Redis has lost a key of the counts


async def counted_feed(side: Side) -> None:
    await side.create("f", lease_s=5)
    await side.feeds.append("f", [event(300_000)], tenant=A)
    assert (await side.storage.sums(A)).bytes > 300_000


async def test_a_stream_that_has_expired_does_not_count_where_the_list_of_those_that_are_due_is_lost(
    connection: LogConnection,
) -> None:
    side, keys = Side(connection), connection.keys
    await counted_feed(side)
    await connection.redis.delete(keys.stored_due(A), keys.meta("a~f"), keys.log("a~f"))
    await side.create("g")
    assert (await side.storage.sums(A)).feeds == 1
    assert await connection.redis.hexists(keys.stored(A), "a~f") is False


async def test_a_stream_that_is_missing_among_those_that_are_due_is_due_once_it_is_appended_to(
    connection: LogConnection,
) -> None:
    side, due = Side(connection), connection.keys.stored_due(A)
    await counted_feed(side)
    await connection.redis.delete(due)
    await connection.redis.zadd(due, {"a~g": 0})  # by a front-end of an earlier version
    await side.feeds.append("f", [event()], tenant=A)
    await side.storage.sums(A)
    assert await connection.redis.zscore(due, "a~f") is not None


async def test_streams_count_once_more_after_they_were_measured_where_the_sums_are_lost(
    connection: LogConnection,
) -> None:
    side = Side(connection)
    await counted_feed(side)
    await connection.redis.delete(connection.keys.stored(A))
    await connection.redis.zadd(connection.keys.stored_due(A), {"a~f": 0})
    sums = await side.storage.sums(A)
    assert (sums.bytes > 300_000, sums.feeds) == (True, 1)


@pytest.mark.parametrize("by", ["a renewal", "a repeated creation"])
async def test_a_feed_counts_once_more_after_its_writer_has_renewed_it_where_all_counts_are_lost(
    connection: LogConnection, by: str
) -> None:
    side = Side(connection)
    await counted_feed(side)
    await connection.redis.delete(connection.keys.stored(A), connection.keys.stored_due(A))
    assert await side.storage.sums(A) == (0, 0)
    if by == "a renewal":
        assert await side.feeds.renew("f", tenant=A)
    else:
        assert not await side.create("f", lease_s=5)
    sums = await side.storage.sums(A)
    assert (sums.bytes > 300_000, sums.feeds) == (True, 1)


async def test_the_count_is_close_to_what_redis_uses(connection: LogConnection) -> None:
    side, keys = Side(connection), connection.keys
    for at, (events, size, keyed) in enumerate(
        [(100, 20, False), (1000, 200, False), (100, 20_000, False), (300, 20, True)]
    ):
        id = f"f{at}"
        before = (await side.storage.sums(A))[0]
        await side.create(id, metadata={"x": "y" * 5000})
        batches = [[event(size)]] * events if keyed else [[event(size)] * 100] * (events // 100)
        for number, batch in enumerate(batches):
            key = f"k{number}" if keyed else None
            await side.feeds.append(id, batch, tenant=A, idempotency_key=key)
        await connection.redis.zadd(keys.stored_due(A), {f"a~{id}": 0})
        counted = (await side.storage.sums(A))[0] - before
        used = 0
        for name in (keys.log, keys.meta, keys.feed_keys, keys.feed_taken):
            used += await connection.redis.memory_usage(name(f"a~{id}"), samples=0) or 0
        assert 0.8 * used < counted < 1.45 * used, (events, size, keyed, counted, used)
