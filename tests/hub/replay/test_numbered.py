"""Viewers that resume behind the number of an event: they are sent the events with higher numbers, and no others."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence

import pytest

from broadcaster.core import events as ev
from broadcaster.core.cursor import Cursor
from broadcaster.core.entry import Entry
from broadcaster.dialects.openai_responses.encode import RESPONSES, ResponsesTranscript
from broadcaster.errors import LogUnavailable
from broadcaster.hub.hub import Hub
from broadcaster.hub.replay.checkpoints import INTERVAL_ENTRIES
from broadcaster.hub.ring import SEGMENT_ENTRIES
from broadcaster.hub.stop_reasons import StopReason
from broadcaster.hub.viewer import Viewer
from tests.dialects.frames import blocks_of
from tests.hub.support import turns
from tests.support.servers.front_end import DEADLINE_S

DELTAS = 2_500


def entries_of(*events: ev.KnownEvent, after_seq: int = 0, epoch: int = 5) -> list[Entry]:
    return [Entry(epoch, seq, ev.encode_event(event)) for seq, event in enumerate(events, after_seq + 1)]


def begun(deltas: int = DELTAS) -> list[Entry]:
    deltas_of: list[ev.KnownEvent] = [ev.TextDelta(id="0", delta=f"word {at}\n\n") for at in range(deltas)]
    return entries_of(ev.Start(), ev.StartStep(), ev.TextStart(id="0"), *deltas_of)


def ended(deltas: int = DELTAS) -> list[Entry]:
    end = (ev.TextEnd(id="0"), ev.FinishStep(finish_reason="stop"), ev.Finish(finish_reason="stop"))
    entries = begun(deltas)
    return [*entries, *entries_of(*end, after_seq=len(entries))]


def numbered(entries: list[Entry]) -> list[dict]:
    return events_of(RESPONSES.open("g").encode(entries))


def events_of(raw: bytes) -> list[dict]:
    return [json.loads(block.data) for block in blocks_of(raw)]


async def join(hub: Hub) -> Viewer:
    viewer = await hub.join("g", cursor=None, timeout_s=5, dialect=RESPONSES, with_snapshot=False)
    assert isinstance(viewer, Viewer)
    return viewer


async def resume(hub: Hub, number: int) -> Viewer:
    viewer = await join(hub)
    assert await viewer.begin_after(number, timeout_s=DEADLINE_S) >= number
    return viewer


async def read(viewer: Viewer, *, count: int | None = None) -> list[dict]:
    """So many events, or all to the end."""
    raw = b""
    async with asyncio.timeout(DEADLINE_S):
        while not viewer.is_over and (count is None or raw.count(b"\n\n") < count):
            if piece := viewer.pull(2**16):
                raw += piece
            elif not viewer.is_over:
                await viewer.wait(DEADLINE_S)
    viewer.leave()
    return events_of(raw)


async def test_a_viewer_that_resumes_after_any_number_is_sent_what_follows_it(hub, tail):
    entries = ended()
    tail.log["g"].extend(entries)
    events = numbered(entries)
    newest = len(events) - 1
    near = (-1, 0, 1, 3, 255, 256, 257, 1_020, 1_024, 1_027, 1_028, 2_040, 2_051, 2_052, 2_053, newest - 300)
    for number in (*near, *range(newest - 8, newest + 1)):
        assert await read(await resume(hub, number)) == events[number + 1 :], number


async def test_a_viewer_that_knows_a_number_begins_at_the_checkpoint_before_it(hub, tail, monkeypatch):
    entries = ended()
    tail.log["g"].extend(entries)
    newest = numbered(entries)[-1]["sequence_number"]
    encode, encoded_counts = ResponsesTranscript.encode, list[int]()

    def counting(self: ResponsesTranscript, entries: Sequence[Entry]) -> bytes:
        encoded_counts.append(len(entries))
        return encode(self, entries)

    monkeypatch.setattr(ResponsesTranscript, "encode", counting)
    first = await resume(hub, newest)
    encoded_counts.clear()
    second = await resume(hub, newest - 300)
    await read(second)
    assert sum(encoded_counts) <= 300 + INTERVAL_ENTRIES + SEGMENT_ENTRIES
    first.leave()


async def test_viewers_that_resume_at_once_are_each_sent_their_own_rest(hub, tail):
    entries = ended()
    tail.log["g"].extend(entries)
    events = numbered(entries)
    numbers = [*range(-1, len(events), 61)]
    viewers = await asyncio.gather(*(resume(hub, number) for number in numbers))
    received = await asyncio.gather(*map(read, viewers))
    assert received == [events[number + 1 :] for number in numbers]


async def test_a_viewer_that_resumes_an_open_stream_is_sent_what_comes(hub, tail):
    entries = ended(600)
    tail.log["g"].extend(entries[:-10])
    events = numbered(entries)
    newest = numbered(entries[:-10])[-1]["sequence_number"]
    viewers = [await resume(hub, number) for number in (400, newest - 1, newest)]
    reading = [asyncio.create_task(read(viewer)) for viewer in viewers]
    await turns()
    tail.append("g", *entries[-10:])
    assert await asyncio.gather(*reading) == [events[401:], events[newest:], events[newest + 1 :]]


async def test_a_number_that_no_event_has_is_answered_with_the_newest(hub, tail):
    entries = ended(600)
    tail.log["g"].extend(entries)
    newest = len(numbered(entries)) - 1
    viewer = await join(hub)
    assert await viewer.begin_after(newest + 1, timeout_s=DEADLINE_S) == newest
    viewer.leave()


async def test_a_number_of_an_entry_that_is_still_to_come_here_is_waited_for(hub, tail):
    entries = begun(20)
    tail.log["g"].extend(entries[:10])
    viewer = await join(hub)
    number = numbered(entries)[-2]["sequence_number"]
    placing = asyncio.create_task(viewer.begin_after(number, timeout_s=DEADLINE_S))
    await turns()
    assert not placing.done()
    tail.append("g", *entries[10:])
    assert await placing == number + 1
    assert await read(viewer, count=1) == numbered(entries)[-1:]


async def test_an_entry_that_never_comes_is_not_waited_for_longer_than_allowed(hub, tail):
    tail.log["g"].extend(begun(20))
    viewer = await join(hub)
    with pytest.raises(LogUnavailable):
        await viewer.begin_after(1_000, timeout_s=0.05)
    viewer.leave()


async def test_a_viewer_that_may_have_void_events_is_ended_with_its_number(hub, tail):
    tail.log["g"].extend(begun(600))
    viewer = await resume(hub, 500)
    tail.log["g"][300:] = entries_of(ev.Attempt(attempt=2), after_seq=300, epoch=6)
    tail.sinks["g"].rewound(Cursor(5, 300))
    tail.sinks["g"].deliver(tail.log["g"][300:])
    (received,) = await read(viewer)
    assert viewer.stop_reason is StopReason.GAP
    assert (received["type"], received["sequence_number"]) == ("error", 500)
