"""Ids, ends and results of publications: what an existing stream means, what a stop does, what ``on_end`` receives."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Any

import pytest
from structlog.testing import capture_logs

from broadcaster import Broadcaster, Cursor
from broadcaster.client import EntryReceived
from broadcaster.errors import InvalidInput, LogUnavailable, StreamClosed, StreamExists, UnknownStream
from broadcaster.library.results import StreamResult
from broadcaster.library.writing import PublishChoices, StreamWriting
from broadcaster.log.redis.connect import LogConnection
from tests.library.support import DEADLINE_S, raw_events, until_in_the_log

STOPPED = b'{"type":"abort","reason":"stopped"}'


class HeldSource:
    """Yields its texts, then waits until it is closed or released."""

    def __init__(self, *texts: str) -> None:
        self.texts = list(texts)
        self.is_closed = False
        self.release = asyncio.Event()

    async def __aiter__(self) -> AsyncIterator[str]:
        try:
            for text in self.texts:
                yield text
            await self.release.wait()
        finally:
            self.is_closed = True


async def pieces(*found: Any) -> AsyncIterator[Any]:
    for each in found:
        yield each


async def entries(broadcaster: Broadcaster, stream_id: str, **options: Any) -> list[EntryReceived]:
    return [each async for each in broadcaster.events(stream_id, **options) if isinstance(each, EntryReceived)]


async def test_an_id_is_made_that_no_other_publication_has(broadcaster: Broadcaster):
    first, second = (broadcaster.publish_nowait(pieces("a")) for _ in range(2))
    assert first.id != second.id
    assert first.events_url == f"/v1/streams/{first.id}/events?wait_s=5"
    assert (await first.result()).id == first.id
    assert (await broadcaster.read(second.id)).id == second.id


async def test_the_former_form_is_refused_with_what_to_write(broadcaster: Broadcaster):
    for call in (broadcaster.publish, broadcaster.publish_nowait):
        with pytest.raises(TypeError, match=r"publish\(source, id=…\)"):
            call("answer", pieces("a"))  # type: ignore[call-arg, arg-type]


async def test_the_result_is_the_stream_folded_as_any_program_reads_it(broadcaster: Broadcaster):
    usage = {"type": "usage", "outputTokens": 3}
    end = {"type": "finish", "finishReason": "length"}
    result = await broadcaster.publish(pieces("Hello", " you", usage, end), id="answer")
    assert (result.status, result.text, result.finish_reason) == ("finished", "Hello you", "length")
    assert result.usage == {"outputTokens": 3}
    assert result.parts == [{"type": "text", "text": "Hello you", "state": "done"}]
    assert await broadcaster.read("answer") == result


async def test_reading_a_stream_that_is_not_there_is_an_error(broadcaster: Broadcaster):
    with pytest.raises(UnknownStream):
        await broadcaster.read("answer")


async def test_an_id_that_is_taken_fails_before_viewers_are_shown_a_stream(broadcaster: Broadcaster):
    await broadcaster.publish(pieces("old"), id="answer")
    source = HeldSource("new")
    with capture_logs() as logs:
        publication = broadcaster.publish_nowait(source, id="answer")
        with pytest.raises(StreamExists, match="taken"):
            await publication.created()
        with pytest.raises(StreamExists):
            await publication.result()
    assert [line["event"] for line in logs if line["log_level"] == "error"] == ["publish_failed"]
    assert (await broadcaster.read("answer")).text == "old"


async def test_an_open_stream_with_the_same_options_is_taken_too(broadcaster: Broadcaster):
    first = broadcaster.publish_nowait(HeldSource("old"), id="answer")
    await first.created()
    with pytest.raises(StreamExists):
        await broadcaster.publish(pieces("new"), id="answer")
    await first.stop()
    assert (await first.result()).text == "old"


async def test_a_choice_that_there_is_not_is_named(broadcaster: Broadcaster):
    with pytest.raises(InvalidInput, match="'overwrite'"):
        await broadcaster.publish(pieces("a"), id="answer", if_exists="overwrite")  # type: ignore[arg-type]


async def test_joining_follows_the_stream_that_is_there_and_closes_the_source_unread(broadcaster: Broadcaster):
    first, ignored = HeldSource("of the ", "first"), HeldSource("second")
    writing = broadcaster.publish_nowait(first, id="answer", if_exists="join")
    await writing.created()
    joined = broadcaster.publish_nowait(ignored, id="answer", if_exists="join")
    await joined.created()
    first.release.set()
    assert (await joined.result()).text == (await writing.result()).text == "of the first"
    assert (writing.is_joined, joined.is_joined) == (False, True)
    assert (await broadcaster.publish(pieces("third"), id="answer", if_exists="join")).text == "of the first"


async def test_joining_a_stream_that_was_deleted_is_refused_and_has_no_end(broadcaster: Broadcaster):
    received: list[StreamResult] = []
    await broadcaster.publish(pieces("old"), id="answer")
    services = await broadcaster._services.get()
    await services.feeds.delete("answer", tenant="local")
    joined = broadcaster.publish_nowait(HeldSource("new"), id="answer", if_exists="join", on_end=received.append)
    with pytest.raises(StreamExists):
        await joined.created()
    with pytest.raises(StreamExists):
        await joined.result()
    assert (joined.is_joined, received) == (False, [])


async def test_a_stop_ends_the_stream_at_once_and_closes_the_source(
    broadcaster: Broadcaster, connection: LogConnection
):
    source = HeldSource("partial")
    publication = broadcaster.publish_nowait(source, id="answer")
    await until_in_the_log(connection, "answer", 2)
    await publication.stop()
    assert source.is_closed
    assert (await raw_events(connection, "answer"))[-1] == STOPPED
    result = await publication.result()
    assert (result.status, result.abort_reason, result.text) == ("aborted", "stopped", "partial")
    await publication.stop()
    await broadcaster.stop("answer")
    assert len(await raw_events(connection, "answer")) == 3


async def test_a_stop_of_another_process_cancels_a_source_that_yields_nothing_within_a_second(
    broadcaster: Broadcaster, connection: LogConnection
):
    source = HeldSource("partial")
    publication = broadcaster.publish_nowait(source, id="answer")
    await until_in_the_log(connection, "answer", 2)
    async with Broadcaster.from_url(connection.url) as other:
        await other.stop("answer")
    loop = asyncio.get_running_loop()
    stopped_at = loop.time()
    async with asyncio.timeout(DEADLINE_S):
        result = await publication.result()
    assert loop.time() - stopped_at < 3  # a second, and what a busy machine adds
    assert source.is_closed
    assert (result.abort_reason, result.text) == ("stopped", "partial")
    assert result.cursor is not None


async def test_a_source_that_hides_its_cancellation_is_stopped_all_the_same(
    broadcaster: Broadcaster, connection: LogConnection
):
    async def stubborn() -> AsyncIterator[str]:
        try:
            yield "a"
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            yield "b"

    publication = broadcaster.publish_nowait(stubborn(), id="answer")
    await until_in_the_log(connection, "answer", 2)
    await publication.stop()
    assert (await raw_events(connection, "answer"))[-1] == STOPPED
    assert (await publication.result()).status == "aborted"


async def test_stopping_an_id_that_no_stream_has_is_an_error(broadcaster: Broadcaster):
    with pytest.raises(UnknownStream):
        await broadcaster.stop("answer")


async def test_a_publication_that_is_stopped_before_its_first_step_closes_its_source(broadcaster: Broadcaster):
    class Stream:
        is_closed = False

        def __aiter__(self) -> Stream:
            return self

        async def __anext__(self) -> str:
            raise AssertionError("it must not be read")

        async def aclose(self) -> None:
            self.is_closed = True

    stream = Stream()
    publication = broadcaster.publish_nowait(stream, id="answer")
    await publication.stop()
    assert (await publication.result()).status == "aborted"
    assert stream.is_closed
    with pytest.raises(StreamClosed):
        await publication.created()


async def test_on_end_receives_the_result_once_however_the_stream_ended(broadcaster: Broadcaster):
    received: list[StreamResult] = []

    async def save(result: StreamResult) -> None:
        received.append(result)

    async def failing() -> AsyncIterator[str]:
        yield "half"
        raise ValueError("mine")

    await broadcaster.publish(pieces("whole"), on_end=save)
    with pytest.raises(ValueError, match="mine"):
        await broadcaster.publish(failing(), on_end=save)
    stopped = broadcaster.publish_nowait(HeldSource("some"), on_end=save)
    await stopped.created()
    await stopped.stop()
    await stopped.result()
    assert [(each.status, each.text) for each in received[:2]] == [("finished", "whole"), ("failed", "half")]
    assert received[1].error is not None
    assert received[1].error["code"] == "publisher_failed"
    assert (len(received), received[2].status) == (3, "aborted")


async def test_on_end_receives_the_result_when_the_program_ends(connection: LogConnection):
    received: list[StreamResult] = []
    broadcaster = Broadcaster.from_url(connection.url)
    broadcaster.publish_nowait(HeldSource("partial"), id="answer", on_end=received.append)  # a plain function
    await until_in_the_log(connection, "answer", 2)
    await broadcaster.aclose(drain_s=0)
    assert [(each.abort_reason, each.text) for each in received] == [("cancelled", "partial")]


@pytest.mark.parametrize(
    "error",
    [OSError("the database is away"), StopIteration(), SystemExit("no room"), KeyboardInterrupt()],
    ids=lambda error: type(error).__name__,
)
async def test_a_failing_on_end_is_logged_and_changes_nothing(
    broadcaster: Broadcaster, connection: LogConnection, error: BaseException
):
    def fail(_: StreamResult) -> None:
        raise error

    with capture_logs() as logs:
        async with asyncio.timeout(DEADLINE_S):
            result = await broadcaster.publish(pieces("a"), id="answer", on_end=fail)
    assert (result.status, (await raw_events(connection, "answer"))[-1]) == ("finished", b'{"type":"finish"}')
    assert [line["event"] for line in logs if line["log_level"] == "error"] == ["on_end_failed"]


async def test_on_end_is_not_called_for_an_id_that_is_another_streams(broadcaster: Broadcaster):
    received: list[StreamResult] = []
    await broadcaster.publish(pieces("old"), id="answer")
    with pytest.raises(StreamExists):
        await broadcaster.publish(pieces("new"), id="answer", on_end=received.append)
    assert received == []


async def test_the_end_that_another_program_wrote_is_in_the_result(broadcaster: Broadcaster, connection: LogConnection):
    publication = broadcaster.publish_nowait(HeldSource("a"), id="answer")
    await until_in_the_log(connection, "answer", 2)
    async with broadcaster.feed("answer-2") as feed:
        await feed.data("x", 1)
    services = await broadcaster._services.get()
    end = b'{"type":"error","errorText":"no","code":"mine"}'
    await services.feeds.close("answer", end, tenant="local")
    result = await publication.result()
    assert (result.status, result.error) == ("failed", {"code": "mine", "message": "no"})
    assert result.cursor is not None
    assert isinstance(result.cursor, Cursor)


async def test_a_redis_that_refuses_connections_is_named_in_time_with_its_cause():
    async with Broadcaster.from_url("redis://user:secret@127.0.0.1:1/0") as broadcaster:
        with pytest.raises(LogUnavailable, match=r"127\.0\.0\.1:1") as caught:
            async with asyncio.timeout(DEADLINE_S):
                async with broadcaster.feed("answer", timeout_s=0.5):
                    pass
    assert caught.value.__cause__ is not None
    assert "secret" not in str(caught.value)


async def test_bytes_in_an_event_are_refused_with_what_to_send(broadcaster: Broadcaster):
    async with broadcaster.feed("job") as feed:
        with pytest.raises(InvalidInput, match=r"type bytes at /data/content is not JSON.*base64"):
            await feed.data("file", {"content": b"\x00"})


class LateCheck(StreamWriting):
    """Learns that a feed has ended only while the feed's own end is being written."""

    def __init__(self, broadcaster: Broadcaster) -> None:
        super().__init__(broadcaster._open_feeds, tenant=broadcaster.tenant, follow=broadcaster.read)
        self.is_checked = asyncio.Event()

    async def ended(self, feeds: Mapping[str, str]) -> set[str]:
        self.is_checked.set()
        async with asyncio.timeout(DEADLINE_S):
            while not all(feed.is_ending for feed in self.feeds):
                await asyncio.sleep(0)
        return set(feeds)


async def test_a_failure_is_raised_although_a_check_finds_the_stream_ended(broadcaster: Broadcaster):
    writing = LateCheck(broadcaster)

    async def failing() -> AsyncIterator[str]:
        yield "a"
        await writing.is_checked.wait()
        raise ValueError("mine")

    choices = PublishChoices(None, "fail", None, is_awaited=True)
    with pytest.raises(ValueError, match="mine"):
        await writing.publish(failing(), choices, {}).result()
    await writing.aclose(drain_s=0)
