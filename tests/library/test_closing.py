"""The end of a Broadcaster: every caller that waits for a publication gets an outcome, and nothing runs on."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
from collections.abc import AsyncIterator
from typing import Final

import pytest

from broadcaster import Broadcaster
from broadcaster.client.errors import GaveUp
from broadcaster.errors import StreamClosed
from broadcaster.library import publications
from broadcaster.library.publications import Publication, Publications
from broadcaster.library.results import StreamResult
from broadcaster.log.redis.connect import LogConnection
from tests.library.support import DEADLINE_S, until_in_the_log
from tests.library.test_publications import HeldSource, pieces
from tests.support.log.log_world import until


@pytest.fixture
async def closing(connection: LogConnection, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Broadcaster]:
    """A Broadcaster that a test closes, and that waits for nothing longer than some tenths of a second."""
    for limit in ("SOURCE_CLOSES_S", "CANCELLED_S", "ON_END_S"):
        monkeypatch.setattr(publications, limit, 0.2)
    async with Broadcaster.from_url(connection.url) as opened:
        yield opened


class Unclosable:
    """A source that hides every cancellation until it is released."""

    def __init__(self) -> None:
        self.is_released = False
        self.release = asyncio.Event()

    async def __aiter__(self) -> AsyncIterator[str]:
        yield "a"
        while not self.is_released:
            try:
                await self.release.wait()
                self.is_released = True
            except asyncio.CancelledError:
                pass


async def test_a_publication_that_joined_gives_up_when_its_broadcaster_is_closed(
    closing: Broadcaster, broadcaster: Broadcaster
) -> None:
    received: list[StreamResult] = []
    source = HeldSource("a")
    await broadcaster.publish_nowait(source, id="answer").created()
    joined = closing.publish_nowait(pieces("b"), id="answer", if_exists="join", on_end=received.append)
    await joined.created()
    await closing.aclose(drain_s=0)
    async with asyncio.timeout(DEADLINE_S):
        with pytest.raises(GaveUp):
            await joined.result()
    assert [each.is_whole for each in received] == [False]
    assert not (await broadcaster.read("answer")).is_over
    source.release.set()


async def test_the_result_is_known_although_on_end_hangs_when_the_broadcaster_is_closed(closing: Broadcaster) -> None:
    is_called = asyncio.Event()

    async def hang(_: StreamResult) -> None:
        is_called.set()
        await asyncio.Event().wait()

    publication = closing.publish_nowait(pieces("a"), on_end=hang)
    await is_called.wait()
    await closing.aclose(drain_s=0)
    async with asyncio.timeout(DEADLINE_S):
        assert (await publication.result()).status == "finished"


async def test_the_result_of_a_source_that_does_not_close_is_known_when_the_broadcaster_is_closed(
    closing: Broadcaster, connection: LogConnection
) -> None:
    source = Unclosable()
    publication = closing.publish_nowait(source, id="answer")
    await until_in_the_log(connection, "answer", 2)
    await closing.aclose(drain_s=0)
    async with asyncio.timeout(DEADLINE_S):
        assert (await publication.result()).abort_reason == "cancelled"
    assert not publication.writing.done()
    source.release.set()
    await asyncio.wait({publication.writing}, timeout=DEADLINE_S)


async def test_a_publication_whose_last_task_is_cancelled_before_it_begins_has_an_outcome(closing: Broadcaster) -> None:
    publication = closing.publish_nowait(pieces("a"))
    publication.cancel_nowait()
    publication.finishing.cancel()
    for waiting in (publication.created(), publication.result()):
        with pytest.raises(StreamClosed):
            await asyncio.wait_for(waiting, DEADLINE_S)


async def test_what_on_end_publishes_while_the_broadcaster_closes_is_ended_with_it(
    closing: Broadcaster, connection: LogConnection
) -> None:
    source = HeldSource("late")
    begun: list[Publication] = []

    async def publish(_: StreamResult) -> None:
        begun.append(closing.publish_nowait(source, id="outcome", on_end=publish))

    closing.publish_nowait(HeldSource("a"), id="answer", on_end=publish)
    await until_in_the_log(connection, "answer", 2)
    await closing.aclose(drain_s=0)
    assert [(await each.result()).status for each in begun] == ["aborted"]
    assert closing.statistics().publishing == 0
    assert closing._log.value is None


async def test_what_on_end_publishes_in_the_drain_has_the_rest_of_it(closing: Broadcaster) -> None:
    first, second = HeldSource("a"), HeldSource("b")
    begun: list[Publication] = []

    async def publish(_: StreamResult) -> None:
        begun.append(closing.publish_nowait(second))
        asyncio.get_running_loop().call_later(0.1, second.release.set)

    await closing.publish_nowait(first, on_end=publish).created()
    asyncio.get_running_loop().call_later(0.1, first.release.set)
    await closing.aclose(drain_s=DEADLINE_S)
    assert [(await each.result()).text for each in begun] == ["b"]


async def test_calls_of_on_end_that_hang_hold_up_neither_another_one_nor_the_threads_of_the_program(
    closing: Broadcaster,
) -> None:
    release = threading.Event()
    hanging = (os.cpu_count() or 1) + 4  # as many threads as the loop's executor has
    called: list[StreamResult] = []

    def hang(result: StreamResult) -> None:
        called.append(result)
        release.wait(DEADLINE_S)

    try:
        for _ in range(hanging):
            closing.publish_nowait(pieces("a"), on_end=hang)
        await until(lambda: len(called) == hanging)
        async with asyncio.timeout(DEADLINE_S / 2):
            await closing.publish(pieces("b"), on_end=called.append)
            await asyncio.to_thread(called.clear)
    finally:
        release.set()


PROGRAM: Final = """
import asyncio, sys, threading
from broadcaster import Broadcaster
from broadcaster.library import publications

publications.ON_END_S = 0.1

async def pieces():
    yield "a"

async def main():
    called = asyncio.Event()
    loop = asyncio.get_running_loop()

    def hang(result):
        loop.call_soon_threadsafe(called.set)
        threading.Event().wait()

    broadcaster = Broadcaster.from_url(sys.argv[1])
    broadcaster.publish_nowait(pieces(), on_end=hang)
    await called.wait()
    await broadcaster.aclose(drain_s=0)

asyncio.run(main())
"""


def test_a_call_of_on_end_that_hangs_does_not_keep_its_program_from_ending(redis_url: str) -> None:
    subprocess.run([sys.executable, "-c", PROGRAM, redis_url], check=True, timeout=DEADLINE_S)


async def test_a_closing_ends_when_on_end_ends_in_the_turn_in_which_its_time_is_over(
    closing: Broadcaster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A publication that is done leaves the list of running ones in the loop's next turn."""
    over, wait_for_all = asyncio.Event(), Publications._wait_for_all

    async def until_done(self: Publications, limit_s: float) -> None:
        if not self._is_closing:
            return await wait_for_all(self, limit_s)
        over.set()
        while not all(each.finishing.done() for each in self._running):
            await asyncio.sleep(0)
        return None

    async def wait(_: StreamResult) -> None:
        await over.wait()

    monkeypatch.setattr(Publications, "_wait_for_all", until_done)
    await closing.publish_nowait(HeldSource("a"), on_end=wait).created()
    async with asyncio.timeout(DEADLINE_S):
        await closing.aclose(drain_s=0)
    assert closing.statistics().publishing == 0
