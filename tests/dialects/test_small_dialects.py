"""The small shapes: what their plainest readers are left with, from wherever they begin."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broadcaster.core import events as ev
from broadcaster.core.cursor import Cursor
from broadcaster.core.entry import Entry
from broadcaster.core.fold import Fold
from broadcaster.core.notices import Gap, GapReason, StallReason
from broadcaster.dialects import DIALECTS, Dialect
from broadcaster.dialects.tutorial.delta import DeltaDialect
from broadcaster.dialects.tutorial.named import NamedDialect
from broadcaster.dialects.tutorial.parts import PartsDialect
from broadcaster.dialects.tutorial.transcript import SmallTranscript
from broadcaster.dialects.writing import NEW_ATTEMPT
from tests.dialects.ag_ui import ag_ui_streams as streams
from tests.dialects.ag_ui.ag_ui_streams import STREAM_ID, STREAMS, any_stream, entries_of
from tests.dialects.frames import Block, blocks_of

Shape = DeltaDialect | NamedDialect | PartsDialect
SHAPES: Final[dict[str, Shape]] = {"delta": DeltaDialect(), "named": NamedDialect(), "parts": PartsDialect()}
IN_ORDER: Final = ("reasoning", "tool-call", "tool-result", "tool_call", "tool_result")

on_every_shape = pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
on_every_stream = pytest.mark.parametrize("events", STREAMS.values(), ids=STREAMS)
any_shape = st.sampled_from(list(SHAPES.values()))


class Reader:
    """Reads one of the shapes as people write it: it stops at the first ending."""

    def __init__(self) -> None:
        self.text = ""
        self.rest: list[tuple[str, Any]] = []
        self.started: Any = None
        self.ending: tuple[Any, ...] = ()
        self.is_closed = False
        self.gaps: list[Any] = []

    def read(self, raw: bytes) -> Reader:
        for block in blocks_of(raw):
            if self.is_closed:
                break
            if block.data == "[DONE]":
                self.ending, self.is_closed = (*self.ending, "[DONE]"), True
            elif block.event is not None:
                self._named(block.event, json.loads(block.data))
            else:
                self._typed(block)
        return self

    @property
    def left_with(self) -> dict[str, Any]:
        return {"text": self.text, "rest": self.rest, "started": self.started, "ending": self.ending}

    def _typed(self, block: Block) -> None:
        data = json.loads(block.data)
        kind = data.pop("type", None)
        if "delta" in data or kind == "text-delta":
            self.text += data.get("delta", data.get("textDelta"))
        elif "error" in data:
            self.ending, self.is_closed = ("error", data["error"], data["code"]), True
        elif "aborted" in data or kind == "abort":
            self.ending = ("abort", data["reason"])
        elif "gap" in data or kind == "gap":
            self.gaps.append(data.get("gap", data))
        elif kind == "finish":
            self.ending = ("finish", data["finishReason"], data.get("usage"))
        else:
            self._also(kind, data)

    def _named(self, name: str, data: Any) -> None:
        if name == "start":
            self.started = data
        elif name == "retry":
            self.text, self.rest, self.started = "", [], None
        elif name == "content":
            self.text += data["delta"]
        elif name in ("complete", "aborted", "error"):
            self.ending, self.is_closed = (name, data), True
        elif name == "gap":
            self.gaps.append(data)
        elif name != "stalled":
            self._also(name, data)

    def _also(self, kind: str, data: Any) -> None:
        assert kind in IN_ORDER
        delta = data.get("delta", data.get("textDelta"))
        if delta is not None and self.rest and self.rest[-1][0] == kind:
            delta = self.rest.pop()[1] + delta
        self.rest.append((kind, data if delta is None else delta))


def reader_after(shape: Dialect, entries: Sequence[Entry], *, k: int = 0) -> Reader:
    """A reader that joins after k entries."""
    transcript = shape.open(STREAM_ID)
    transcript.encode(entries[:k])
    hello = transcript.hello(status="running", retry_ms=1000)
    return Reader().read(hello + transcript.snapshot() + transcript.encode(entries[k:]))


def from_its_attempt_on(entries: Sequence[Entry], k: int) -> Sequence[Entry]:
    """What a viewer that joins after k entries ends with: the attempt that was the newest then, and what came after."""
    starts = [at for at in range(k) if entries[at].event.startswith(b'{"type":"attempt"')]
    return entries[starts[-1] if starts else 0 :]


# ------------------------------------------------------------------------------------------------------------ the laws


@on_every_shape
@on_every_stream
def test_a_late_joiner_at_any_entry_ends_with_the_newest_attempt(shape: Shape, events: list[ev.Event]):
    entries = entries_of(events)
    for k in range(len(entries)):
        alone = reader_after(shape, from_its_attempt_on(entries, k))
        assert reader_after(shape, entries, k=k).left_with == alone.left_with, f"joined after {k}"


@on_every_stream
def test_named_leaves_every_reader_with_the_same(events: list[ev.Event]):
    entries = entries_of(events)
    for k in range(len(entries)):
        assert reader_after(SHAPES["named"], entries, k=k).left_with == reader_after(SHAPES["named"], entries).left_with


@given(any_shape, any_stream(), st.data())
def test_any_stream_joined_anywhere_leaves_the_same(shape: Shape, events: list[ev.Event], data: st.DataObject):
    entries = entries_of(events)
    k = data.draw(st.integers(0, len(entries) - 1))
    alone = reader_after(shape, from_its_attempt_on(entries, k)).left_with
    joined = reader_after(shape, entries, k=k).left_with
    # What the first event of an attempt states of its model stays, whichever attempt's it was.
    assert {**joined, "started": None} == {**alone, "started": None}


@given(any_shape, any_stream(max_attempts=1))
def test_the_text_is_sent_as_it_came(shape: Shape, events: list[ev.Event]):
    notice = "".join(event.delta for event in events if isinstance(event, ev.TextDelta))
    assert reader_after(shape, entries_of(events)).text == notice


@given(any_shape, any_stream(), st.data())
def test_entries_give_the_same_bytes_encoded_in_portions_as_at_once(
    shape: Shape, events: list[ev.Event], data: st.DataObject
):
    entries = entries_of(events)
    k = data.draw(st.integers(0, len(entries)))
    at_once, in_portions = shape.open(STREAM_ID), shape.open(STREAM_ID)
    first = in_portions.encode(entries[:k])
    snapshot = in_portions.snapshot()
    fork = in_portions.fork()
    assert fork.snapshot() == snapshot
    rest = in_portions.encode(entries[k:])
    assert first + rest == at_once.encode(entries)
    assert fork.snapshot() == snapshot
    assert fork.encode(entries[k:]) == rest


@on_every_shape
def test_a_snapshot_is_short(shape: Shape):
    deltas = [ev.TextDelta(id="0", delta="w") for _ in range(10_000)]
    transcript = shape.open(STREAM_ID)
    whole = transcript.encode(entries_of([streams.START, ev.TextStart(id="0"), *deltas]))
    # The shortest frame of all holds 20 bytes around its delta.
    assert len(transcript.snapshot()) <= (0.05 if isinstance(shape, DeltaDialect) else 0.03) * len(whole)


# ---------------------------------------------------------------------------------------------------------- the shapes


def encoded(shape: Dialect, *events: ev.Event) -> str:
    return shape.open(STREAM_ID).encode(entries_of(events)).decode()


def test_delta_is_what_people_write_first():
    events = [streams.START, *streams.thought("Hm."), *streams.wrote("Hel", "lo"), ev.Finish(finish_reason="stop")]
    assert encoded(SHAPES["delta"], *events) == 'data: {"delta":"Hel"}\n\ndata: {"delta":"lo"}\n\ndata: [DONE]\n\n'


def test_parts_are_typed():
    events = [*streams.thought("Hm."), *streams.wrote("Hi"), *streams.called("a", value={"x": 1})]
    results: list[ev.Event] = [
        ev.ToolOutputAvailable(tool_call_id="a", output=None, preliminary=True),
        ev.ToolOutputAvailable(tool_call_id="a", output=[18]),
        ev.ToolOutputError(tool_call_id="b", error_text="no"),
    ]
    end: list[ev.Event] = [streams.USAGE, ev.Finish(finish_reason="stop")]
    assert encoded(SHAPES["parts"], *events, *results, *end).split("\n\n") == [
        'data: {"type":"reasoning","textDelta":"Hm."}',
        'data: {"type":"text-delta","textDelta":"Hi"}',
        'data: {"type":"tool-call","toolCallId":"a","toolName":"weather","args":{"x":1}}',
        'data: {"type":"tool-result","toolCallId":"a","result":[18]}',
        'data: {"type":"tool-result","toolCallId":"b","result":"no","isError":true}',
        'data: {"type":"finish","finishReason":"stop",'
        '"usage":{"inputTokens":7,"outputTokens":3,"cachedInputTokens":2}}',
        "data: [DONE]",
        "",
    ]


def test_named_gives_the_type_of_every_block():
    events = [streams.START, *streams.thought("Hm."), *streams.wrote("Hi"), *streams.called("a")]
    end: list[ev.Event] = [ev.ToolOutputAvailable(tool_call_id="a", output="18"), ev.Finish(finish_reason="stop")]
    assert encoded(SHAPES["named"], *events, *end).split("\n\n") == [
        'event: start\ndata: {"id":"gen_01","model":"claude-x"}',
        'event: reasoning\ndata: {"delta":"Hm."}',
        'event: content\ndata: {"delta":"Hi"}',
        'event: tool_call\ndata: {"id":"a","name":"weather","input":{}}',
        'event: tool_result\ndata: {"id":"a","output":"18"}',
        'event: complete\ndata: {"finishReason":"stop"}',
        "",
    ]


# --------------------------------------------------------------------------------------------------------- the endings


@on_every_shape
def test_a_failure_is_an_error_without_done(shape: Shape):
    raw = encoded(shape, *STREAMS["failed"])
    assert "the worker died" in raw.split("\n\n")[-2]
    assert "worker_lost" in raw.split("\n\n")[-2]
    assert "[DONE]" not in raw


def test_a_stop_is_sent_and_is_no_error():
    assert encoded(SHAPES["delta"], ev.Abort(reason="stopped")) == (
        'data: {"aborted":true,"reason":"stopped"}\n\ndata: [DONE]\n\n'
    )
    assert encoded(SHAPES["parts"], ev.Abort()) == 'data: {"type":"abort","reason":"stopped"}\n\ndata: [DONE]\n\n'
    assert encoded(SHAPES["named"], ev.Abort(reason="abandoned")).endswith(
        'event: aborted\ndata: {"reason":"abandoned"}\n\n'
    )


@on_every_shape
@on_every_stream
def test_the_last_block_is_an_ending_and_nothing_follows_it(shape: Shape, events: list[ev.Event]):
    entries = entries_of(events)
    late = entries_of([*events, ev.TextDelta(id="0", delta="late"), ev.Finish()])
    assert shape.open(STREAM_ID).encode(late) == shape.open(STREAM_ID).encode(entries)
    assert reader_after(shape, entries).ending


@pytest.mark.parametrize("name", ["delta", "parts"])
def test_a_new_attempt_is_an_error_where_nothing_can_be_taken_back(name: str):
    reader = reader_after(SHAPES[name], entries_of(STREAMS["new attempt"]))
    assert reader.text == "Hi, I "
    assert reader.ending[2] == NEW_ATTEMPT
    raw = encoded(SHAPES[name], *STREAMS["new attempt before anything was said"])
    assert "error" not in raw


def test_a_new_attempt_is_a_retry_where_the_shape_has_an_event():
    raw = encoded(SHAPES["named"], *STREAMS["new attempt"])
    assert 'event: retry\ndata: {"attempt":2,"reason":"worker_lost"}\n\nevent: start\n' in raw
    assert reader_after(SHAPES["named"], entries_of(STREAMS["new attempt"])).text == "I ask two.Paris 18, Rome 22."
    assert "retry" not in encoded(SHAPES["named"], *STREAMS["new attempt before anything was said"])


@on_every_stream
def test_named_ends_with_the_text_of_the_fold(events: list[ev.Event]):
    fold = Fold()
    for entry in entries_of(events):
        fold.apply(entry.event)
    assert reader_after(SHAPES["named"], entries_of(events)).text == fold.state.text


# ------------------------------------------------------------------------------------------------------ ids and notices


@pytest.mark.parametrize("name", SHAPES)
@on_every_stream
def test_an_id_stands_on_the_last_block_of_an_entry_that_has_one(name: str, events: list[ev.Event]):
    dialect = DIALECTS[name]
    transcript = dialect.open(STREAM_ID)
    for entry in entries_of(events):
        for raw in (transcript.encode([entry]), transcript.snapshot()):
            *others, last = [block.id for block in blocks_of(raw)] or [str(entry.cursor)]
            assert others == [None] * len(others)
            assert last == str(entry.cursor)


@on_every_shape
def test_without_ids_there_are_none(shape: Shape):
    assert "\nid:" not in "\n" + encoded(shape, *streams.LOOP)


@on_every_shape
def test_a_gap_is_sent_or_ends_the_viewer(shape: Shape):
    transcript = shape.open(STREAM_ID)
    notice = transcript.gap(Gap(GapReason.TRIMMED, Cursor(1, 2), 1, 2))
    assert notice is not None
    assert Reader().read(notice).gaps == [{"reason": "trimmed", "from": 1, "to": 2}]
    assert transcript.gap(Gap(GapReason.REWOUND, Cursor(1, 1), 2, 2)) is None
    assert transcript.gap(Gap(GapReason.RESET, Cursor(1, 1), 0, 0)) is None


def test_a_stall_is_sent_where_it_disturbs_no_client():
    transcripts: dict[str, SmallTranscript] = {name: shape.open(STREAM_ID) for name, shape in SHAPES.items()}
    assert transcripts["named"].stalled(StallReason.WORKER_LOST) == (
        b'event: stalled\ndata: {"reason":"worker_lost"}\n\n'
    )
    assert transcripts["named"].stalled(None) == b'event: stalled\ndata: {"reason":null}\n\n'
    assert transcripts["delta"].stalled(StallReason.WORKER_LOST) == b""
    assert transcripts["parts"].stalled(None) == b""


@on_every_shape
def test_a_connection_that_ends_early_ends_with_an_error(shape: Shape):
    raw = shape.open(STREAM_ID).bye("drain", reconnect=True, retry_ms=1000)
    assert Reader().read(raw).is_closed
    assert b'"code":"drain","retry":true' in raw
    assert b"[DONE]" not in raw
    assert b"retry" not in shape.open(STREAM_ID).bye("expired", reconnect=False, retry_ms=1000)


@on_every_shape
def test_nothing_is_sent_before_the_first_entry(shape: Shape):
    transcript = shape.open(STREAM_ID)
    assert transcript.hello(status="queued", retry_ms=1000) + transcript.snapshot() + transcript.encode([]) == b""
    assert shape.heartbeat == b":\n\n"


@on_every_shape
def test_an_event_of_a_newer_version_is_left_out(shape: Shape):
    transcript = shape.open(STREAM_ID)
    strange = [Entry(1, 1, b'{"type":"text-delta","words":3}'), Entry(1, 2, b'{"type":"hologram"}')]
    assert transcript.encode(strange) == b""


@pytest.mark.parametrize("shape", [NamedDialect(), PartsDialect()], ids=lambda shape: shape.name)
def test_an_estimated_count_is_marked_until_the_provider_counts(shape: Shape) -> None:
    guessed = ev.Usage(output_tokens=9, estimated=True)
    for counts, expected in (
        ([guessed], {"outputTokens": 9, "estimated": True}),
        ([guessed, ev.Usage(output_tokens=7)], {"outputTokens": 7}),
    ):
        events: list[ev.Event] = [ev.Start(), *counts, ev.Finish(finish_reason="stop")]
        raw = shape.open(STREAM_ID).encode(entries_of(events))
        notice = [json.loads(block.data) for block in blocks_of(raw) if "usage" in block.data]
        assert [each["usage"] for each in notice] == [expected]
