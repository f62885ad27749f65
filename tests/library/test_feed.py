"""A feed lives as long as its block, and ends as the block ends."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import anyio
import pytest
from structlog.testing import capture_logs

from broadcaster import Broadcaster, sync
from broadcaster.core.events import TextDelta, TextStart
from broadcaster.core.requests.webhook_options import WebhookOptions
from broadcaster.errors import (
    InvalidEvent,
    InvalidInput,
    SetupError,
    StreamClosed,
    StreamExists,
    StreamFull,
    WebhookNotAllowed,
)
from broadcaster.library.feed import CANCELLED_S, OpenFeed
from broadcaster.log.redis.connect import LogConnection
from broadcaster.log.streams.reader import Streams
from broadcaster.settings import Settings
from tests.library.support import raw_events, until_in_the_log
from tests.support.log.valkey import start_valkey

PROGRESS = b'{"type":"data-progress","data":{"done":1,"total":3,"message":"rendering"}}'


async def test_a_block_left_in_good_order_finishes_its_feed(broadcaster: Broadcaster, connection: LogConnection):
    async with broadcaster.feed("job", metadata={"by": "test"}, retention_s=60) as feed:
        first = await feed.progress(1, 3, "rendering")
        places = await feed.append({"type": "text-start", "id": "0"}, TextDelta(id="0", delta="hi"))
        assert [first.seq, *(place.seq for place in places)] == [1, 2, 3]
    assert await raw_events(connection, "job") == [
        PROGRESS,
        b'{"type":"text-start","id":"0"}',
        b'{"type":"text-delta","id":"0","delta":"hi"}',
        b'{"type":"finish"}',
    ]
    meta = await Streams(connection).meta("job")
    assert meta is not None
    assert (meta.kind, meta.retention_ms, meta.request) == ("feed", 60_000, {"metadata": {"by": "test"}})
    assert feed.end is not None
    assert feed.end.seq == 4


async def test_an_exception_becomes_an_error_without_its_text_and_is_raised(
    broadcaster: Broadcaster, connection: LogConnection
):
    with pytest.raises(ValueError, match="password=hunter2"):
        async with broadcaster.feed("job") as feed:
            feed.append_nowait({"type": "data-x", "data": 1})
            raise ValueError("password=hunter2")
    event, end = await raw_events(connection, "job")
    assert event == b'{"type":"data-x","data":1}'
    assert b'"code":"publisher_failed"' in end
    assert b"hunter2" not in end


async def test_a_cancelled_block_ends_its_feed_with_abort(broadcaster: Broadcaster, connection: LogConnection):
    async def run() -> None:
        async with broadcaster.feed("job") as feed:
            await feed.data("x", 1)
            await asyncio.Event().wait()

    task = asyncio.create_task(run())
    await until_in_the_log(connection, "job", 1)
    task.cancel()
    await asyncio.wait({task})
    assert task.cancelled()
    assert (await raw_events(connection, "job"))[-1] == b'{"type":"abort","reason":"cancelled"}'


@pytest.mark.parametrize("closes", [True, False])
async def test_a_block_that_is_cancelled_at_every_await_leaves_no_writer_behind(
    broadcaster: Broadcaster, connection: LogConnection, closes: bool
):
    """As anyio cancels, and with it Starlette when a client leaves."""
    with anyio.CancelScope() as scope:
        async with broadcaster.feed("job", close=closes) as feed:
            await feed.data("x", 1)
            feed.append_nowait({"type": "data-x", "data": 2})
            scope.cancel()
            await asyncio.Event().wait()
    async with asyncio.timeout(20):
        while broadcaster.statistics().feeds or any("FeedWriter" in repr(task) for task in asyncio.all_tasks()):
            await asyncio.sleep(0.01)
    events = await raw_events(connection, "job")
    assert events[1:] == [
        b'{"type":"data-x","data":2}',
        *([b'{"type":"abort","reason":"cancelled"}'] if closes else []),
    ]


async def test_closing_waits_for_a_block_that_is_cancelled_at_every_await(connection: LogConnection):
    async with Broadcaster.from_url(connection.url) as broadcaster:
        with anyio.CancelScope() as scope:
            async with broadcaster.feed("job") as feed:
                await feed.data("x", 1)
                scope.cancel()
                await asyncio.Event().wait()
    assert (await raw_events(connection, "job"))[-1] == b'{"type":"abort","reason":"cancelled"}'


async def test_closing_takes_no_longer_for_many_feeds_than_for_one(tmp_path: Path):
    with start_valkey(tmp_path) as server:
        broadcaster = Broadcaster.from_url(server.url)
        async with AsyncExitStack() as feeds:
            for number in range(20):
                await feeds.enter_async_context(broadcaster.feed(f"job-{number}", close=False))
            server.pause()
            begun = asyncio.get_running_loop().time()
            await broadcaster.aclose()
            assert asyncio.get_running_loop().time() - begun < 4 * CANCELLED_S
            server.resume()
            with pytest.raises(StreamClosed):
                await feeds.aclose()


@pytest.mark.parametrize("name", ["a:b", "{a}", "", "a" * 65])
def test_a_tenant_that_would_not_fit_a_key_name_is_refused(name: str):
    with pytest.raises(SetupError, match="tenant"):
        Broadcaster.from_url("redis://localhost:1", tenant=name)
    with pytest.raises(SetupError, match="tenant"):
        sync.Publisher.from_url("redis://localhost:1", tenant=name)


async def test_one_of_several_writers_leaves_the_feed_open(broadcaster: Broadcaster, connection: LogConnection):
    async with broadcaster.feed("job", close=False) as one:
        one.append_nowait({"type": "data-x", "data": 1})
    with pytest.raises(ValueError, match="mine"):
        async with broadcaster.feed("job", close=False) as two:
            two.append_nowait({"type": "data-x", "data": 2})
            raise ValueError("mine")
    async with broadcaster.feed("job") as last:
        await last.data("x", 3)
    events = await raw_events(connection, "job")
    assert events == [*(b'{"type":"data-x","data":%d}' % n for n in (1, 2, 3)), b'{"type":"finish"}']


async def test_an_end_that_the_block_writes_is_the_only_one(broadcaster: Broadcaster, connection: LogConnection):
    async with broadcaster.feed("job") as feed:
        await feed.close({"type": "error", "errorText": "the disk is full", "code": "disk_full"})
        with pytest.raises(StreamClosed):
            await feed.data("x", 1)
    assert await raw_events(connection, "job") == [
        b'{"type":"error","errorText":"the disk is full","code":"disk_full"}'
    ]


async def test_an_event_that_cannot_be_published_is_refused_at_its_caller(
    broadcaster: Broadcaster, connection: LogConnection
):
    async with broadcaster.feed("job") as feed:
        for event in ({"type": "hub.bye"}, {"type": "finish"}, {"type": "text-dleta"}, {"type": "data-x", "data": {1}}):
            with pytest.raises(InvalidEvent):
                await feed.append(event)
            with pytest.raises(InvalidEvent):
                feed.append_nowait(event)
    assert await raw_events(connection, "job") == [b'{"type":"finish"}']


async def test_a_refusal_that_the_caller_did_not_see_is_raised_at_the_end_of_the_block(
    broadcaster: Broadcaster, connection: LogConnection
):
    with pytest.raises(StreamFull):
        async with broadcaster.feed("job", max_events=2) as feed:
            for number in range(3):
                feed.append_nowait({"type": "data-x", "data": number})
                await feed.flush() if number < 2 else None
    assert b'"code":"stream_full"' in (await raw_events(connection, "job"))[-1]


async def test_the_jobs_own_exception_wins_over_the_feeds_error(broadcaster: Broadcaster, connection: LogConnection):
    with pytest.raises(ValueError, match="mine"):
        async with broadcaster.feed("job", max_events=2) as feed:
            await feed.append(TextStart(id="0"), TextDelta(id="0", delta="hi"))
            feed.append_nowait(TextDelta(id="0", delta="too much"))
            raise ValueError("mine")
    assert b'"code":"publisher_failed"' in (await raw_events(connection, "job"))[-1]


async def test_a_full_feed_that_the_tasks_of_a_group_write_ends_with_stream_full(
    broadcaster: Broadcaster, connection: LogConnection
):
    with pytest.raises(ExceptionGroup) as raised:
        async with broadcaster.feed("job", max_events=2) as feed, asyncio.TaskGroup() as group:
            for at in range(4):
                group.create_task(feed.data("x", at))
    assert raised.group_contains(StreamFull)
    assert b'"code":"stream_full"' in (await raw_events(connection, "job"))[-1]


@pytest.mark.parametrize(
    ("errors", "code"),
    [
        ([StreamFull("full"), ExceptionGroup("inner", [StreamFull("full")])], b"stream_full"),
        ([StreamFull("full"), ValueError("mine")], b"publisher_failed"),
        ([ExceptionGroup("inner", [ValueError("mine")]), StreamFull("full")], b"publisher_failed"),
    ],
)
async def test_an_exception_of_the_jobs_own_wins_in_a_group_too(
    broadcaster: Broadcaster, connection: LogConnection, errors: list[Exception], code: bytes
):
    with pytest.raises(ExceptionGroup):
        async with broadcaster.feed("job"):
            raise ExceptionGroup("tasks", errors)
    assert b'"code":"%s"' % code in (await raw_events(connection, "job"))[-1]


async def test_a_feed_that_was_ended_elsewhere_is_not_ended_by_a_group_of_its_writers(
    broadcaster: Broadcaster, connection: LogConnection
):
    with capture_logs() as logs, pytest.raises(ExceptionGroup) as raised:
        async with broadcaster.feed("job") as feed:
            await broadcaster.stop("job")
            async with asyncio.TaskGroup() as group:
                group.create_task(feed.data("x", 1))
    assert raised.group_contains(StreamClosed)
    assert await raw_events(connection, "job") == [b'{"type":"abort","reason":"stopped"}']
    assert [line for line in logs if line["log_level"] != "info"] == []


async def test_an_id_that_is_taken_otherwise_is_refused(broadcaster: Broadcaster):
    async with broadcaster.feed("job", max_events=10):
        with pytest.raises(StreamExists):
            async with broadcaster.feed("job", max_events=11):
                pass
    with pytest.raises(InvalidInput, match="gen_"):
        async with broadcaster.feed("gen_1"):
            pass


@pytest.mark.parametrize(
    "options", [{"retention_s": -1}, {"retention_s": "60"}, {"on_full": "drop"}, {"max_events": 0}, {"metadata": "x"}]
)
async def test_options_are_checked_by_the_rules_of_http(broadcaster: Broadcaster, options: Any):
    with pytest.raises(InvalidInput, match=next(iter(options))):
        broadcaster.feed("job", **options)


async def test_a_webhook_to_a_host_that_is_not_listed_is_refused_before_anything_is_created(
    broadcaster: Broadcaster, connection: LogConnection
):
    webhook: WebhookOptions = {"url": "https://hooks.example.com/"}
    unknown: Any = {**webhook, "events": ["never"]}
    with pytest.raises(WebhookNotAllowed, match="BROADCASTER_WEBHOOK_HOSTS"):
        await broadcaster.publish(["a"], id="job", webhook=webhook)
    assert not await connection.redis.exists(connection.keys.meta("job"))
    with pytest.raises(InvalidInput, match="webhook"):
        broadcaster.feed("job", webhook=unknown)


async def test_a_feed_has_a_lease_unless_it_is_refused(broadcaster: Broadcaster, connection: LogConnection):
    lease = connection.keys.lease
    async with broadcaster.feed("kept"), broadcaster.feed("free", lease_s=None), broadcaster.feed("short", lease_s=2):
        assert 14_000 < await connection.redis.pttl(lease("kept")) <= 15_000
        assert not await connection.redis.exists(lease("free"))
        assert 1000 < await connection.redis.pttl(lease("short")) <= 2000


async def test_a_feed_whose_broadcaster_closes_ends_with_abort_and_its_block_raises(connection: LogConnection):
    broadcaster = Broadcaster.from_url(connection.url)
    with pytest.raises(StreamClosed, match="closed while this feed was open"):
        async with broadcaster.feed("job") as feed:
            feed.append_nowait({"type": "data-x", "data": 1})
            await broadcaster.aclose()
    assert await raw_events(connection, "job") == [
        b'{"type":"data-x","data":1}',
        b'{"type":"abort","reason":"cancelled"}',
    ]
    assert broadcaster.statistics() == (0, 0, 0)


async def test_a_feeds_block_runs_once_and_its_feed_is_written_to_inside_it(broadcaster: Broadcaster):
    feed: OpenFeed = broadcaster.feed("job")
    with pytest.raises(RuntimeError, match="inside"):
        await feed.data("x", 1)
    async with feed:
        pass
    with pytest.raises(RuntimeError, match="once"):
        async with feed:
            pass


async def test_publishing_starts_no_front_end(broadcaster: Broadcaster):
    before = asyncio.all_tasks()
    async with broadcaster.feed("job", lease_s=None) as feed:
        await feed.data("x", 1)
    async with asyncio.timeout(20):  # the feed's own tasks may still be ending
        while len(left := asyncio.all_tasks() - before) > 1:
            await asyncio.sleep(0.01)
    assert len(left) == 1  # what holds the connection


def test_nothing_is_opened_by_making_one():
    Broadcaster.from_url("redis://nowhere.invalid:1")


def test_a_keyword_that_is_not_a_setting_is_refused_by_name(monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(TypeError, match="retention_seconds"):
        Broadcaster.from_url("redis://localhost", retention_seconds=5)  # type: ignore[call-arg]
    with pytest.raises(SetupError, match="BROADCASTER_RETENTION_S"):
        Broadcaster.from_url("redis://localhost", retention_s=-5)
    with pytest.raises(SetupError, match="BROADCASTER_REDIS_URL") as refused:
        Broadcaster.from_url("http://user:hunter2@localhost")
    assert "hunter2" not in str(refused.value)
    monkeypatch.delenv("BROADCASTER_REDIS_URL", raising=False)
    with pytest.raises(SetupError, match="from_url"):
        Broadcaster(Settings())
