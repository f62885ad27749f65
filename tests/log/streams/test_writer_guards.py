"""When a writer must not write: guards of it that no other test would miss."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from broadcaster.core.batching import AppendReply, Batch, Code, StopRequest
from broadcaster.core.events import Finish, TextDelta, encode_event
from broadcaster.log.jobs.lease import LeaseKeeper
from broadcaster.log.streams.appender import Appender
from broadcaster.log.streams.writer import StreamWriter, WriterEnd
from tests.support.log.log_world import World, until

META: Mapping[str, str] = {}


class Refusing:
    """A recovery that finds, once requested, that the stream has another owner."""

    def __init__(self, *, restores: bool = False) -> None:
        self.restores = restores
        self.requested = asyncio.Event()
        self.answer = asyncio.Event()

    async def restore(self, writer: StreamWriter) -> bool:
        self.requested.set()
        await self.answer.wait()
        return self.restores

    async def rebase(self, writer: StreamWriter) -> tuple[int, int] | None:
        return None


def alone(recovery: Refusing, **options: Any) -> StreamWriter:
    """A writer whose appender is the test."""
    given: dict[str, Any] = {"epoch": 5, "base_seq": 2, "retention_ms": 1, "max_bytes": 1000, "meta": META, **options}
    return StreamWriter("gen_1", attend=lambda writer: None, recovery=recovery, **given)


def text(value: str) -> TextDelta:
    return TextDelta(id="0", delta=value)


async def test_nothing_is_written_behind_the_end(world: World, appender: Appender, keeper: LeaseKeeper) -> None:
    stream_id, claim = await world.granted()
    writer = await world.writer(stream_id, claim, appender, keeper)
    assert await writer.end([Finish()], deadline_s=30)
    writer.write([text("late")])
    assert writer.last_seq == 1
    assert writer.is_complete


async def test_an_event_that_waits_when_the_stream_is_lost_is_never_sent(
    world: World, appender: Appender, keeper: LeaseKeeper
) -> None:
    stream_id, claim = await world.granted()
    lost = await world.writer(stream_id, claim, appender, keeper)
    lost.write([text("waits for this loop turn to end")])
    lost.lose()
    other, other_claim = await world.granted()
    witness = await world.writer(other, other_claim, appender, keeper)
    witness.write([text("a")])
    await until(lambda: witness.acked_seq == 1)  # both would have left in one write
    assert await world.seqs(stream_id) == []


async def test_nothing_is_sent_while_the_log_is_being_restored() -> None:
    recovery = Refusing(restores=True)
    writer = alone(recovery, base_seq=0)
    writer.write([text("a")])
    assert writer.take() is not None
    writer.replied(AppendReply(Code.REWOUND, 0, 0, StopRequest.NONE))
    await recovery.requested.wait()
    assert writer.take() is None
    recovery.answer.set()
    await until(lambda: writer.take() is not None)


async def test_a_restore_that_is_refused_means_lost() -> None:
    recovery = Refusing()
    writer = alone(recovery)
    writer.request_restore()
    recovery.answer.set()
    await until(writer.over.is_set)
    assert writer.end_reason is WriterEnd.FENCED


async def test_a_rebase_that_is_refused_means_lost() -> None:
    writer = alone(Refusing())
    writer.write([text("a")])
    assert writer.take() is not None
    writer.replied(AppendReply(Code.REWOUND, 4, 1, StopRequest.NONE))
    await until(writer.over.is_set)
    assert writer.end_reason is WriterEnd.FENCED


async def test_entries_of_an_earlier_attempt_are_missed_even_when_redis_came_back_empty() -> None:
    recovery = Refusing(restores=True)
    writer = alone(recovery)  # behind two entries of an earlier attempt
    writer.write([text("a")])
    assert writer.take() is not None
    writer.replied(AppendReply(Code.REWOUND, 0, 0, StopRequest.NONE))
    recovery.answer.set()
    await until(writer.over.is_set)  # the rebase was requested


async def test_a_check_of_the_tail_that_redis_did_not_answer_is_repeated() -> None:
    writer = alone(Refusing())
    writer.verify()
    assert writer.take() == Batch(3, [])
    writer.failed()
    assert writer.take() == Batch(3, [])
    writer.replied(AppendReply(Code.DUPLICATE, 5, 2, StopRequest.NONE))
    assert writer.take() is None


async def test_a_check_of_the_tail_that_is_requested_during_an_append_follows_it() -> None:
    writer = alone(Refusing())
    writer.write([text("a")])
    assert writer.take() is not None
    writer.verify()
    assert writer.take() is None
    writer.replied(AppendReply(Code.APPENDED, 5, 3, StopRequest.NONE))
    assert writer.take() == Batch(4, [])


async def test_a_caller_that_waits_for_the_log_is_released_when_it_has_confirmed_what_was_written_before() -> None:
    writer = alone(Refusing())
    await writer.confirmed()  # nothing is written
    writer.write([text("a")])
    first = asyncio.create_task(writer.confirmed())
    await asyncio.sleep(0)
    assert writer.take() is not None
    writer.write([text("b")])
    second = asyncio.create_task(writer.confirmed())
    await asyncio.sleep(0)
    writer.replied(AppendReply(Code.APPENDED, 5, 3, StopRequest.NONE))
    await first
    assert not second.done()
    assert writer.take() is not None
    writer.replied(AppendReply(Code.APPENDED, 5, 4, StopRequest.NONE))
    await second


async def test_an_entry_confirmed_before_the_log_lost_it_is_awaited_until_it_is_restored() -> None:
    writer = alone(Refusing())
    writer.write([text("a")])
    writer.take()
    writer.replied(AppendReply(Code.APPENDED, 5, 3, StopRequest.NONE))
    writer.write([text("b")])
    writer.take()
    waits = asyncio.create_task(writer.confirmed())
    await asyncio.sleep(0)
    writer.replied(AppendReply(Code.REWOUND, 5, 2, StopRequest.NONE))
    assert writer.take() == Batch(3, [encode_event(text("a")), encode_event(text("b"))])
    assert not waits.done()
    writer.replied(AppendReply(Code.APPENDED, 5, 4, StopRequest.NONE))
    await waits


async def test_nothing_is_confirmed_to_an_attempt_that_has_lost_its_stream() -> None:
    writer = alone(Refusing())
    writer.lose()
    waits = asyncio.create_task(writer.confirmed())
    await asyncio.sleep(0)
    assert not waits.done()
    waits.cancel()


async def test_a_reply_that_comes_after_the_crash_of_its_writer_is_ignored() -> None:
    """The appender has one write for many writers: an error here would keep their replies from those behind it."""
    writer = alone(Refusing())
    writer.write([text("a")])
    assert writer.take() is not None
    writer.crashed(ValueError("a renewal was refused for good"))
    writer.replied(AppendReply(Code.APPENDED, 5, 3, StopRequest.NONE))
    assert writer.end_reason is WriterEnd.CRASHED
    assert writer.take() is None
