"""Feeds: numbering, idempotency, bounds, lives, ends; what is a generation's is not a feed's."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from broadcaster.core.cursor import Cursor
from broadcaster.core.events import Abort, Error, Finish, encode_event
from broadcaster.errors import (
    EventTooLarge,
    IdempotencyMismatch,
    InvalidInput,
    RateLimited,
    StreamClosed,
    StreamExists,
    StreamFull,
    UnknownStream,
)
from broadcaster.log.feeds.feeds import KEY_KEPT_MS, MOST_EVENTS, FeedConfig
from broadcaster.log.redis.connect import LogConnection
from tests.support.apps.feed_job import FINISH, ID, Job, note
from tests.support.log.feed_writers import BOUNDS, TENANT
from tests.support.log.log_world import World


@pytest.fixture
async def job(connection: LogConnection) -> Job:
    """A publisher whose feed is open."""
    job = Job(connection)
    assert await job.create(metadata={"of": "tests"})
    return job


# -- creation


async def test_a_feed_is_created_once_under_its_configuration(job: Job) -> None:
    assert not await job.create(metadata={"of": "tests"})
    for other in ({}, {"metadata": {"of": "others"}}, {"metadata": {"of": "tests"}, "on_full": "trim"}):
        with pytest.raises(StreamExists):
            await job.create(**other)
    meta = await job.meta()
    assert (meta.kind, meta.status, meta.request) == ("feed", "running", {"metadata": {"of": "tests"}})
    assert meta.created_ms > 0


async def test_the_id_of_a_generation_is_taken(connection: LogConnection) -> None:
    job = Job(connection)
    await connection.redis.hset(job.keys.meta(ID), mapping={"tenant": TENANT, "status": "queued"})
    with pytest.raises(StreamExists):
        await job.create()
    with pytest.raises(UnknownStream):
        await job.append(note(1))


@pytest.mark.parametrize("stream_id", ["gen_1", "a/b", "", "{x}", "é", "-x", "x" * 129])
async def test_ids_that_no_feed_may_have_are_refused(job: Job, stream_id: str) -> None:
    with pytest.raises(InvalidInput):
        await job.feeds.create(stream_id, FeedConfig(), tenant=TENANT)


async def test_a_feed_may_not_request_more_than_the_settings_allow(job: Job) -> None:
    for bounds in ({"max_events": BOUNDS.max_events + 1}, {"max_bytes": BOUNDS.max_bytes + 1}):
        with pytest.raises(InvalidInput):
            await job.create(**bounds)


async def test_a_feed_has_never_more_events_than_a_front_end_can_know_the_ids_of(connection: LogConnection) -> None:
    job = Job(connection, max_events=10 * MOST_EVENTS)
    with pytest.raises(InvalidInput):
        await job.create(max_events=MOST_EVENTS + 1)
    await job.create()
    assert int(await job.redis.hget(job.keys.meta(ID), "max_events")) == MOST_EVENTS


async def test_another_tenant_sees_nothing_of_it_and_may_have_one_of_the_same_id(job: Job) -> None:
    for call in (job.feeds.get(ID, tenant="other"), job.feeds.append(ID, [note(1)], tenant="other")):
        with pytest.raises(UnknownStream):
            await call
    with pytest.raises(UnknownStream):
        await job.feeds.close(ID, FINISH, tenant="other")
    assert await job.feeds.create(ID, FeedConfig(metadata={"of": "others"}), tenant="other")
    await job.feeds.append(ID, [note(1)], tenant="other")
    assert await job.held() == []


async def test_a_feed_is_no_generation_and_no_worker_runs_or_sweeps_it(job: Job, connection: LogConnection) -> None:
    world = World(connection)
    with pytest.raises(UnknownStream):
        await world.generations.get(ID, tenant=TENANT)
    for call in (world.generations.stop(ID, tenant=TENANT), world.generations.delete(ID, tenant=TENANT, timeout_s=1)):
        with pytest.raises(UnknownStream):
            await call
    await job.append(note(1))
    assert not [*(await world.generations.lists.page(TENANT)).metas, *(await world.queue.open_page()).jobs]
    (tail,) = await world.streams.tails([ID])
    assert (tail.status, tail.leased, tail.is_feed) == ("queued", False, True)


# -- appending


async def test_seqs_are_dense_from_1_and_epochs_never_fall(job: Job) -> None:
    ids = [*await job.append(note(1)), *await job.append(note(2), note(3)), *await job.append(note(4))]
    assert [each.seq for each in ids] == [1, 2, 3, 4]
    assert sorted(ids) == ids
    assert ids[1].epoch == ids[2].epoch
    assert await job.held() == [(id, note(at)) for at, id in enumerate(ids, 1)]


async def test_many_writers_at_once_are_dense_and_no_batch_is_torn(job: Job, connection: LogConnection) -> None:
    async def write(name: int) -> list[tuple[Cursor, bytes]]:
        taken: list[tuple[Cursor, bytes]] = []
        for number in range(10):
            batch = [note([name, number, at]) for at in range(3)]
            taken += zip(await job.append(*batch), batch, strict=True)
        return taken

    written = await asyncio.gather(*(write(name) for name in range(20)))
    held = await job.held()
    assert held == sorted(each for taken in written for each in taken)
    assert [cursor.seq for cursor, _ in held] == list(range(1, 601))


async def test_the_clock_of_redis_going_back_lowers_no_epoch(job: Job) -> None:
    ahead = 32_503_680_000_000
    await job.redis.xadd(job.keys.log(ID), {"e": note(1), "v": 1, "b": 5}, id=f"{ahead}-1")
    assert await job.append(note(2)) == [Cursor(ahead, 2)]


async def test_a_batch_is_pushed_with_the_epoch_before_it_and_a_large_one_as_a_poke(job: Job) -> None:
    pubsub = job.redis.pubsub()
    await pubsub.ssubscribe(job.keys.live(ID))
    await pubsub.get_message(timeout=20)

    async def pushed() -> bytes:
        message = await pubsub.get_message(timeout=20)
        assert message is not None
        return bytes(message["data"])

    (first, last) = await job.append(note(1), note(2))
    assert await pushed() == b"1 %d 1 2 0\n%s\n%s" % (first.epoch, note(1), note(2))
    (poke,) = await job.append(note("x" * 70_000))
    assert await pushed() == b"1 %d 3 1 %d" % (poke.epoch, last.epoch)
    await pubsub.aclose()


async def test_an_entry_is_what_a_workers_is(job: Job) -> None:
    await job.append(note(1), note(2))
    rows = await job.redis.xrange(job.keys.log(ID))
    sizes = [len(note(1)), len(note(1)) + len(note(2))]
    assert [fields for _, fields in rows] == [
        {b"e": note(at), b"v": b"1", b"b": str(size).encode()} for at, size in enumerate(sizes, 1)
    ]


async def test_an_unknown_feed_is_not_created_by_an_append(job: Job) -> None:
    with pytest.raises(UnknownStream):
        await job.feeds.append("other", [note(1)], tenant=TENANT)
    assert await job.redis.exists(job.keys.log("other")) == 0


async def test_an_event_over_the_bound_refuses_the_whole_append(connection: LogConnection) -> None:
    job = Job(connection, max_event_bytes=100)
    await job.create()
    with pytest.raises(EventTooLarge, match="event 1"):
        await job.append(note(1), note("x" * 100))
    with pytest.raises(EventTooLarge):
        await job.close(encode_event(Error(error_text="x" * 100)))
    assert await job.held() == []


# -- idempotency


async def test_the_same_key_and_body_answer_the_same_ids_and_append_once(job: Job) -> None:
    ids = await job.append(note(1), note(2), key="k")
    await job.append(note(3))
    repeated = await job.feeds.append(ID, [note(1), note(2)], tenant=TENANT, idempotency_key="k")
    assert (repeated.ids, repeated.is_new) == (ids, False)
    assert len(await job.held()) == 3


async def test_the_same_key_with_another_body_is_a_mismatch(job: Job) -> None:
    await job.append(note(1), key="k")
    for other in ([note(2)], [note(1), note(1)]):
        with pytest.raises(IdempotencyMismatch):
            await job.append(*other, key="k")


async def test_racing_sends_under_one_key_append_once(job: Job) -> None:
    answers = await asyncio.gather(*(job.append(note(1), key="k") for _ in range(20)))
    assert answers == [answers[0]] * 20
    assert len(await job.held()) == 1


async def test_a_retry_after_the_end_receives_the_places_of_its_entries(job: Job) -> None:
    ids = await job.append(note(1), key="k")
    await job.close()
    assert await job.append(note(1), key="k") == ids


async def test_keys_are_forgotten_oldest_first_beyond_their_bound(connection: LogConnection) -> None:
    job = Job(connection, keys_kept=3)
    await job.create()
    for number in range(5):
        await job.append(note(number), key=f"k{number}")
    assert await job.redis.zcard(job.keys.feed_keys(ID)) == await job.redis.hlen(job.keys.feed_taken(ID)) == 3
    await job.append(note(4), key="k4")
    assert len(await job.held()) == 5
    await job.append(note(0), key="k0")
    assert len(await job.held()) == 6


async def test_keys_are_forgotten_after_their_time(job: Job) -> None:
    await job.append(note(1), key="old")
    ((old, taken),) = (await job.redis.hgetall(job.keys.feed_taken(ID))).items()
    body, taken_ms, first, last = taken.decode().split()
    long_ago = f"{body} {int(taken_ms) - KEY_KEPT_MS} {first} {last}"
    await job.redis.hset(job.keys.feed_taken(ID), old, long_ago)
    await job.append(note(2), key="new")
    assert await job.redis.zcard(job.keys.feed_keys(ID)) == await job.redis.hlen(job.keys.feed_taken(ID)) == 1
    assert [each.seq for each in await job.append(note(1), key="old")] == [3]


# -- bounds


async def test_a_full_feed_refuses_the_whole_append_and_admits_its_end(connection: LogConnection) -> None:
    job = Job(connection)
    await job.create(max_events=3)
    await job.append(note(1), note(2))
    with pytest.raises(StreamFull):
        await job.append(note(3), note(4))
    await job.append(note(3))
    with pytest.raises(StreamFull):
        await job.append(note(4))
    await job.close()
    assert [event for _, event in await job.held()] == [note(1), note(2), note(3), FINISH]


async def test_bytes_are_bounded_as_events_are(connection: LogConnection) -> None:
    job = Job(connection)
    await job.create(max_bytes=2 * len(note(1)) + 1)
    await job.append(note(1), note(2))
    with pytest.raises(StreamFull):
        await job.append(note(3))
    assert len(await job.held()) == 2


async def test_a_trimming_feed_keeps_its_newest_events(connection: LogConnection) -> None:
    job = Job(connection)
    await job.create(max_events=3, on_full="trim")
    for number in range(1, 6):
        await job.append(note(number), note(-number))
    assert [event for _, event in await job.held()] == [note(-4), note(5), note(-5)]
    assert [cursor.seq for cursor, _ in await job.held()] == [8, 9, 10]
    await job.close()
    assert [cursor.seq for cursor, _ in await job.held()] == [8, 9, 10, 11]


@pytest.mark.parametrize("sizes", [[10] * 50, [10] * 30 + [450] + [10] * 5, [450, 450, 1, 1, 1, 450], [499, 499]])
async def test_a_trimming_feed_holds_as_many_of_its_newest_bytes_as_it_may(
    connection: LogConnection, sizes: list[int]
) -> None:
    most = 500 + len(note(""))
    job = Job(connection)
    await job.create(max_bytes=most, on_full="trim")
    events = [note("x" * size) for size in sizes]
    for at, event in enumerate(events, 1):
        await job.append(event)
        held = [event for _, event in await job.held()]
        assert held == events[at - len(held) : at]
        total = sum(map(len, held))
        assert total <= most
        assert len(held) == at or total + len(events[at - len(held) - 1]) > most


async def test_an_append_larger_than_the_feed_is_refused_by_a_trimming_one_too(connection: LogConnection) -> None:
    job = Job(connection)
    await job.create(max_events=2, on_full="trim")
    with pytest.raises(StreamFull):
        await job.append(note(1), note(2), note(3))


async def test_appends_beyond_the_rate_are_refused_with_a_retry_delay(connection: LogConnection) -> None:
    job = Job(connection, appends_per_s=2)
    await job.create()
    await job.append(note(1))
    await job.append(note(2), note(3))
    with pytest.raises(RateLimited) as refused:
        await job.append(note(4))
    assert 0 < refused.value.retry_after_s <= 0.5
    await job.redis.hincrby(job.keys.meta(ID), "tokens_ms", -500)  # half a second goes by
    await job.append(note(4))
    with pytest.raises(RateLimited):
        await job.append(note(5))
    await job.close()


# -- lives


async def test_an_open_feed_lives_on_with_every_append_and_a_closed_one_as_requested(connection: LogConnection) -> None:
    job = Job(connection)
    await job.create(retention_s=5)
    assert 0 < await job.ttl_ms("meta") <= BOUNDS.live_ttl_ms + 3_600_000
    await job.append(note(1), key="k")
    await job.redis.pexpire(job.keys.log(ID), 1000)
    await job.append(note(2))
    assert await job.ttl_ms("log") > 1000
    await job.close()
    assert 0 < await job.ttl_ms("log") <= 5000
    assert 3_600_000 < await job.ttl_ms("meta") <= 3_605_000
    assert 0 < await job.ttl_ms("feed_keys") <= KEY_KEPT_MS
    assert 0 < await job.ttl_ms("feed_taken") <= KEY_KEPT_MS


async def test_a_feed_whose_log_has_expired_goes_on_behind_it(job: Job) -> None:
    (before,) = await job.append(note(1))
    await job.redis.delete(job.keys.log(ID))
    (after,) = await job.append(note(2))
    assert after.seq == 2
    assert after.epoch >= before.epoch


# -- the end


@pytest.mark.parametrize(
    ("end", "status"),
    [(Finish(), "finished"), (Error(error_text="x", code="y"), "failed"), (Abort(reason="stopped"), "aborted")],
)
async def test_a_closed_feed_has_its_terminal_in_log_and_meta(job: Job, end: Any, status: str) -> None:
    await job.append(note(1))
    last = await job.close(encode_event(end))
    meta = await job.meta()
    assert (meta.status, meta.terminal, meta.terminal_id) == (status, encode_event(end), last)
    assert meta.ended_ms is not None
    assert (await job.held())[-1] == (last, encode_event(end))


async def test_nothing_follows_the_end_and_no_other_end_replaces_it(job: Job) -> None:
    last = await job.close()
    assert await job.close() == last
    for refused in (job.append(note(1)), job.close(encode_event(Abort()))):
        with pytest.raises(StreamClosed):
            await refused
    await job.redis.delete(job.keys.log(ID))
    assert await job.close() == last
    with pytest.raises(StreamClosed):
        await job.append(note(1))


async def test_racing_ends_are_one(job: Job) -> None:
    ends = [FINISH, encode_event(Abort())] * 5
    outcomes = await asyncio.gather(*(job.close(end) for end in ends), return_exceptions=True)
    won = {outcome for outcome in outcomes if isinstance(outcome, Cursor)}
    assert len(won) == 1
    assert sum(isinstance(outcome, StreamClosed) for outcome in outcomes) == 5
    assert len(await job.held()) == 1


async def test_a_full_redis_deletes_a_feed_that_has_ended(job: Job) -> None:
    await job.append(note(1))
    await job.close()
    await job.redis.config_set("maxmemory", 1)
    try:
        await job.feeds.delete(ID, tenant=TENANT)
    finally:
        await job.redis.config_set("maxmemory", 0)
    assert await job.redis.exists(job.keys.log(ID)) == 0
    with pytest.raises(UnknownStream):
        await job.meta()
