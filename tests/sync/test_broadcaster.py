"""Whole answers, reading and generations from blocking code, over a real log."""

from __future__ import annotations

import asyncio
import inspect
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import AsyncGenerator, Iterator
from typing import Any, Final

import pytest

from broadcaster.client.stream import EntryReceived
from broadcaster.errors import LogUnavailable, SetupError, UnknownStream
from broadcaster.library.broadcaster import Broadcaster
from broadcaster.process.blocking import call_blocking
from broadcaster.process.blocking_items import QUEUED, iterate_blocking
from broadcaster.sync import BlockingBroadcaster
from tests.support.log.held_log import held, until_so
from tests.support.log.valkey import ValkeyServer

FINISH: Final = {"type": "finish"}
DEADLINE_S: Final = 20.0
# Start of an interpreter that imports a front-end's parts, on a busy machine.
PROGRAM_S: Final = 90.0


@pytest.fixture
def broadcaster(redis_url: str) -> Iterator[BlockingBroadcaster]:
    with BlockingBroadcaster.from_url(redis_url, drain_s=0.5) as opened:
        yield opened


def arguments_of(kind: type, name: str) -> str:
    arguments = list(inspect.signature(getattr(kind, name)).parameters.values())
    return str(inspect.Signature(arguments))


@pytest.mark.parametrize("name", ["publish", "read", "stop", "start", "get", "create_token"])
def test_a_blocking_call_takes_what_the_asynchronous_one_takes(name: str) -> None:
    assert arguments_of(BlockingBroadcaster, name) == arguments_of(Broadcaster, name)


def test_a_blocking_iterator_is_published_and_read(broadcaster: BlockingBroadcaster, stream_id: str) -> None:
    source = iter(["Hé", "llo", {"type": "data-n", "data": 1}])
    result = broadcaster.publish(source, id=stream_id, metadata={"chat": 1})
    assert (result.id, result.status, result.text) == (stream_id, "finished", "Héllo")
    assert broadcaster.read(stream_id).parts == result.parts
    events = list(broadcaster.events(stream_id))
    assert [event.type for event in events if isinstance(event, EntryReceived)] == [
        *("text-start", "text-delta", "text-delta", "text-end", "data-n", "finish")
    ]
    assert [event.cursor for event in events][-1] == result.cursor
    rest = list(broadcaster.events(stream_id, after=events[3].cursor))
    assert rest == events[4:]


def test_an_iterator_that_fails_ends_its_stream_with_error_and_raises_its_own_exception(
    broadcaster: BlockingBroadcaster, redis_url: str, stream_id: str
) -> None:
    def tokens() -> Iterator[str]:
        yield "Hé"
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        broadcaster.publish(tokens(), id=stream_id)
    assert held(redis_url, stream_id)[-1]["code"] == "publisher_failed"


def test_a_reader_on_one_thread_sees_what_another_thread_publishes(
    broadcaster: BlockingBroadcaster, stream_id: str
) -> None:
    seen = threading.Event()

    def tokens() -> Iterator[str]:
        yield "first"
        assert seen.wait(DEADLINE_S)
        yield "second"

    writer = threading.Thread(target=lambda: broadcaster.publish(tokens(), id=stream_id))
    writer.start()
    texts = []
    for event in broadcaster.events(stream_id, wait_s=DEADLINE_S):
        if isinstance(event, EntryReceived) and event.type == "text-delta":
            texts.append(getattr(event.event, "delta", ""))
            seen.set()
    writer.join(DEADLINE_S)
    assert texts == ["first", "second"]


def test_leaving_a_loop_early_ends_the_reading(broadcaster: BlockingBroadcaster, stream_id: str) -> None:
    def viewers() -> int:
        running = broadcaster._async.get()
        return call_blocking(lambda: _viewers(running), limit_s=DEADLINE_S)

    with broadcaster_feed(broadcaster, stream_id):
        for _ in broadcaster.events(stream_id, wait_s=DEADLINE_S):
            assert viewers() == 1
            break
        until_so(lambda: viewers() == 0)


async def _viewers(broadcaster: Broadcaster) -> int:
    return broadcaster.statistics().viewers


class broadcaster_feed:
    """A stream that is open as long as its block."""

    def __init__(self, broadcaster: BlockingBroadcaster, stream_id: str) -> None:
        self._ends = threading.Event()
        self._thread = threading.Thread(target=lambda: broadcaster.publish(self._tokens(), id=stream_id))

    def _tokens(self) -> Iterator[str]:
        yield "open"
        self._ends.wait(DEADLINE_S)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._ends.set()
        self._thread.join(DEADLINE_S)


def test_a_generation_is_started_awaited_and_stopped(broadcaster: BlockingBroadcaster) -> None:
    generation_id = broadcaster.start("Why?", metadata={"chat": 1})
    assert broadcaster.get(generation_id).status == "queued"
    begun = time.monotonic()
    assert broadcaster.get(generation_id, wait_s=0.2).status == "queued"
    assert time.monotonic() - begun >= 0.2
    ended: list[str] = []
    waiting = threading.Thread(target=lambda: ended.append(broadcaster.get(generation_id, wait_s=DEADLINE_S).status))
    waiting.start()
    broadcaster.stop(generation_id)
    waiting.join(DEADLINE_S)
    assert ended == ["aborted"]
    assert broadcaster.get(generation_id, wait_s=DEADLINE_S).status == "aborted"
    with pytest.raises(UnknownStream):
        broadcaster.get("gen_unknown", wait_s=1)


def test_a_redis_that_refuses_connections_is_named_and_one_that_is_silent_holds_no_call(server: ValkeyServer) -> None:
    with BlockingBroadcaster.from_url(server.url, timeout_s=1.0, redis_timeout_s=5.0, drain_s=0) as broadcaster:
        broadcaster.start("Why?")
        server.pause()
        begun = time.monotonic()
        with pytest.raises(LogUnavailable, match="within 1 s"):
            broadcaster.start("Why?")
        assert time.monotonic() - begun < 1.0 + DEADLINE_S
        server.resume()
        server.kill()
        with pytest.raises(LogUnavailable, match=server.url.removeprefix("redis://")) as caught:
            broadcaster.start("Why?")
    assert caught.value.__cause__ is not None


def test_settings_without_a_redis_are_refused_when_it_is_made() -> None:
    with pytest.raises(SetupError):
        BlockingBroadcaster.from_url("http://localhost")


def test_a_source_runs_no_further_ahead_of_a_slow_reader_than_the_queue_is_long() -> None:
    made = 0

    async def numbers() -> AsyncGenerator[int, None]:
        nonlocal made
        while True:
            yield made
            made += 1

    async def turns() -> None:
        for _ in range(20 * QUEUED):
            await asyncio.sleep(0)

    for first in iterate_blocking(numbers):
        assert first == 0
        call_blocking(turns, limit_s=DEADLINE_S)
        assert made <= 2 * QUEUED
        break


def test_a_call_that_has_no_outcome_in_time_is_cancelled() -> None:
    cancelled = threading.Event()

    async def wait() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise

    with pytest.raises(TimeoutError, match=r"0\.1 s"):
        call_blocking(wait, limit_s=0.1)
    assert cancelled.is_set()


PUBLISHES: Final = """
    import sys, threading
    from broadcaster import sync

    def tokens():
        try:
            yield "begun"
            print("begun", flush=True)
            threading.Event().wait(1)
            while True:
                yield "more"
                threading.Event().wait(0.05)
        finally:
            print("closed", flush=True)

    try:
        sync.BlockingBroadcaster.from_url(sys.argv[1]).publish(tokens(), id=sys.argv[2])
    except KeyboardInterrupt:
        print("interrupted", flush=True)
"""

FORKS: Final = """
    import os, sys
    from broadcaster import sync

    broadcaster = sync.BlockingBroadcaster.from_url(sys.argv[1])
    broadcaster.publish(["parent"], id=sys.argv[2])
    pid = os.fork()
    if pid == 0:
        broadcaster.publish(["child"], id=sys.argv[2] + "-child")
        print("child", len(list(broadcaster.events(sys.argv[2]))), flush=True)
        os._exit(0)
    os.waitpid(pid, 0)
    print("parent", len(list(broadcaster.events(sys.argv[2] + "-child"))), flush=True)
"""


def test_ctrl_c_ends_a_publication_with_abort_and_closes_its_iterator(redis_url: str, stream_id: str) -> None:
    with started(PUBLISHES, redis_url, stream_id) as program:
        assert program.stdout is not None
        assert program.stdout.readline() == "begun\n"
        program.send_signal(signal.SIGINT)
        printed, _ = program.communicate(timeout=PROGRAM_S)
    assert printed.split() == ["closed", "interrupted"]
    assert held(redis_url, stream_id)[-1] == {"type": "abort", "reason": "cancelled"}


def test_a_forked_child_publishes_and_reads_with_connections_of_its_own(redis_url: str, stream_id: str) -> None:
    with started(FORKS, redis_url, stream_id) as program:
        printed, _ = program.communicate(timeout=PROGRAM_S)
    assert (program.returncode, printed) == (0, "child 4\nparent 4\n")


def started(program: str, *arguments: str) -> subprocess.Popen[Any]:
    command = [sys.executable, "-c", textwrap.dedent(program), *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=dict(os.environ))
