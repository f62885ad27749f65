"""Stops of publications: whose stream they end, and how soon they reach a source, also one that closes slowly."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping

import pytest
from structlog.testing import capture_logs

from broadcaster import Broadcaster
from broadcaster.errors import StreamExists
from broadcaster.library import publications
from broadcaster.library.writing import PublishChoices, StreamWriting
from broadcaster.log.redis.connect import LogConnection
from tests.library.support import DEADLINE_S, raw_events, until_in_the_log
from tests.library.test_publications import STOPPED, HeldSource
from tests.support.log.log_world import until


class SlowToClose:
    """A source whose clean-up lasts until it is released; it counts the cancellations that interrupt it."""

    def __init__(self) -> None:
        self.is_closing = asyncio.Event()
        self.release = asyncio.Event()
        self.interruptions = 0

    async def __aiter__(self) -> AsyncIterator[str]:
        try:
            yield "a"
            await asyncio.Event().wait()
        finally:
            self.is_closing.set()
            try:
                await self.release.wait()
            except asyncio.CancelledError:
                self.interruptions += 1
                raise


async def test_stopping_a_publication_whose_id_was_taken_leaves_the_stream_of_that_id(
    broadcaster: Broadcaster, connection: LogConnection
) -> None:
    async with Broadcaster.from_url(connection.url) as other:
        theirs = HeldSource("theirs")
        await other.publish_nowait(theirs, id="answer").created()
        refused = broadcaster.publish_nowait(HeldSource("ours"), id="answer")
        with pytest.raises(StreamExists):
            await refused.created()
        await refused.stop()
        assert not (await other.read("answer")).is_over
        theirs.release.set()


async def test_stopping_a_publication_that_was_replaced_leaves_the_replacement(
    broadcaster: Broadcaster, connection: LogConnection
) -> None:
    replaced = broadcaster.publish_nowait(HeldSource("old"), id="answer")
    await replaced.created()
    async with Broadcaster.from_url(connection.url) as other:
        new = HeldSource("new")
        await other.publish_nowait(new, id="answer", if_exists="replace").created()
        assert (await replaced.result()).abort_reason == "replaced"
        await replaced.stop()
        assert not (await other.read("answer")).is_over
        new.release.set()


@pytest.mark.parametrize("way", ["cancelled", "stopped"])
async def test_a_stream_ends_although_its_source_hangs_as_it_closes(
    broadcaster: Broadcaster, connection: LogConnection, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    monkeypatch.setattr(publications, "SOURCE_CLOSES_S", 0.2)
    monkeypatch.setattr(publications, "CANCELLED_S", 0.1)  # shorter: the caller leaves before the stream has ended
    source = SlowToClose()
    if way == "cancelled":
        publishing = asyncio.create_task(broadcaster.publish(source, id="answer"))
        await until_in_the_log(connection, "answer", 2)
        publishing.cancel()
        await asyncio.wait({publishing})
    else:
        publication = broadcaster.publish_nowait(source, id="answer")
        await until_in_the_log(connection, "answer", 2)
        publication.cancel_nowait(reason="stopped")
    await until_in_the_log(connection, "answer", 3)
    assert (await raw_events(connection, "answer"))[-1] == STOPPED.replace(b"stopped", way.encode())
    await until(lambda: broadcaster.statistics().publishing == 0)
    source.release.set()
    await until(lambda: broadcaster.statistics().feeds == 0)


async def test_a_stop_reaches_its_source_while_another_source_closes_and_interrupts_that_one_no_more(
    broadcaster: Broadcaster, connection: LogConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publications, "SOURCE_CLOSES_S", 3 * DEADLINE_S)
    monkeypatch.setattr(publications, "CANCELLED_S", 0.1)
    slow, quick = SlowToClose(), HeldSource("b")
    closing = broadcaster.publish_nowait(slow, id="slow")
    await closing.created()
    await broadcaster.publish_nowait(quick, id="quick").created()
    async with Broadcaster.from_url(connection.url) as other, asyncio.timeout(DEADLINE_S):
        await other.stop("slow")
        await slow.is_closing.wait()
        await other.stop("quick")
        await until(lambda: quick.is_closed)
    await closing.stop()
    slow.release.set()
    assert (await closing.result()).abort_reason == "stopped"
    assert slow.interruptions == 0


class FailingChecks(StreamWriting):
    """The first checks of its publications fail."""

    def __init__(self, broadcaster: Broadcaster) -> None:
        super().__init__(broadcaster._open_feeds, tenant=broadcaster.tenant, follow=broadcaster.read)
        self.failures_left = 3

    async def ended(self, feeds: Mapping[str, str]) -> set[str]:
        if self.failures_left:
            self.failures_left -= 1
            raise RuntimeError("this check fails")
        return await super().ended(feeds)


async def test_checks_that_fail_are_logged_once_and_a_later_one_finds_what_was_stopped(
    broadcaster: Broadcaster, connection: LogConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publications, "WATCH_S", 0.01)
    source, writing = HeldSource("a"), FailingChecks(broadcaster)
    with capture_logs() as lines:
        await writing.publish(source, PublishChoices("answer", "fail", None, is_awaited=False), {}).created()
        async with Broadcaster.from_url(connection.url) as other:
            await other.stop("answer")
        await until(lambda: source.is_closed)
    assert writing.failures_left == 0
    assert [line["event"] for line in lines if line["log_level"] == "error"] == ["publications_not_watched"]
    await writing.aclose(drain_s=0)
