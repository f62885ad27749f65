"""Bytes → events → the same bytes, however a body is cut, and frames that end at whole characters."""

from __future__ import annotations

import base64
import itertools
import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from broadcaster.core.cursor import START, Cursor
from broadcaster.core.entry import Entry
from broadcaster.core.events import DataEvent
from broadcaster.core.events import decode_event as decode_stored
from broadcaster.core.sse import SseDecoder
from broadcaster.dialects import DIALECTS
from broadcaster.dialects.durable.contents import (
    DurableContent,
    decode_event,
    encode_bytes,
    encode_messages,
    join_contents,
)
from broadcaster.dialects.durable.frames import MOST_HELD, MOST_HELD_BYTES, DurableFrames, read_chunk
from broadcaster.dialects.durable.offsets import format_offset

KINDS = st.sampled_from([DurableContent.TEXT, DurableContent.BYTES])
BODIES = st.binary(max_size=3000) | st.text(max_size=1500).map(str.encode)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


def contents(events: list[bytes], content: DurableContent) -> list[bytes]:
    found = [decode_event(event, content) for event in events]
    assert None not in found
    return [each for each in found if each is not None]


@given(BODIES, KINDS, st.integers(1024, 3000))
def test_bytes_come_back_as_they_were(body: bytes, content: DurableContent, most: int) -> None:
    events = encode_bytes(body, content, max_event_bytes=most)
    assert join_contents(contents(events, content), content) == body
    for event in events:
        assert len(event) <= most
        assert b"\n" not in event
        assert isinstance(decode_stored(event), DataEvent)


@given(st.text(min_size=600, max_size=2000))
def test_text_is_kept_as_text_and_cut_between_characters(text: str) -> None:
    events = encode_bytes(text.encode(), DurableContent.TEXT, max_event_bytes=1024)
    kept = [json.loads(event)["data"] for event in events if b"data-text" in event]
    assert all(piece in text for piece in kept)
    assert all(piece.decode() in text for piece in contents(events, DurableContent.TEXT))


@given(JSON)
def test_messages_come_back_as_they_were(value: Any) -> None:
    events = encode_messages(json.dumps(value, indent=2).encode())
    expected = value if isinstance(value, list) else [value]
    assert json.loads(join_contents(contents(events, DurableContent.JSON), DurableContent.JSON)) == expected
    assert all(b"\n" not in event and isinstance(decode_stored(event), DataEvent) for event in events)


@pytest.mark.parametrize("event", [b'{"type":"finish"}', b'{"type":"attempt","attempt":2}'])
def test_events_that_are_no_content_are_skipped_unless_they_are_messages(event: bytes) -> None:
    assert decode_event(event, DurableContent.TEXT) is None
    assert decode_event(event, DurableContent.NATIVE) == event


@given(st.text(max_size=40), st.lists(st.integers(0, 120), max_size=8))
def test_the_text_of_the_frames_is_the_text_that_was_appended(text: str, cuts: list[int]) -> None:
    body = text.replace("\r", "").encode()
    marks = sorted({min(cut, len(body)) for cut in (0, *cuts, len(body))})
    pieces = [body[begin:end] for begin, end in itertools.pairwise(marks)]
    frames, decoder = DurableFrames(DurableContent.TEXT, at=START, cursor="1"), SseDecoder()
    sent = b""
    for seq, piece in enumerate(pieces, 1):
        (event,) = encode_bytes(piece, DurableContent.TEXT, max_event_bytes=2**20)
        frames.add(Cursor(1, seq), event)
        sent += frames.take(is_at_end=seq % 2 == 0, is_closed=False)
    sent += frames.take(is_at_end=True, is_closed=True)
    messages = decoder.decode(sent)
    assert "".join(each.data for each in messages if each.event == "data") == body.decode()
    assert json.loads(messages[-1].data)["streamClosed"] is True
    assert frames.take(is_at_end=True, is_closed=True) == b""


@given(st.text(max_size=40), st.lists(st.integers(0, 120), max_size=8), st.lists(st.booleans(), min_size=9, max_size=9))
@example("é", [1], [True] * 9)  # the first chunk ends within a character
def test_a_chunk_of_native_frames_gives_the_text_that_its_entries_give(
    text: str, cuts: list[int], breaks: list[bool]
) -> None:
    body = text.replace("\r", "").encode()
    marks = sorted({min(cut, len(body)) for cut in (0, *cuts, len(body))})
    entries = [
        Entry(1, seq, *encode_bytes(body[begin:end], DurableContent.TEXT, max_event_bytes=2**20))
        for seq, (begin, end) in enumerate(itertools.pairwise(marks), 1)
    ]
    frames, sent, chunk = DurableFrames(DurableContent.TEXT, at=START, cursor="1"), b"", list[Entry]()
    for entry, is_last in zip(entries, breaks, strict=False):
        chunk.append(entry)
        if is_last or entry is entries[-1]:
            data = frames.take_chunk(native_frames(chunk))
            if not data:
                for each in chunk:
                    frames.add(each.cursor, each.event)
            sent += data + frames.take(is_at_end=False, is_closed=False)
            chunk = []
    messages = SseDecoder().decode(sent + frames.take(is_at_end=True, is_closed=True))
    assert "".join(each.data for each in messages if each.event == "data") == body.decode()
    kinds = [each.event for each in messages]
    assert kinds[1::2] == ["control"] * (len(kinds) // 2), "each data event has its control event"
    if entries:
        assert json.loads(messages[-1].data)["streamNextOffset"] == format_offset(entries[-1].cursor)


def native_frames(entries: list[Entry]) -> bytes:
    return DIALECTS["native"].open("s").encode(entries)


def test_readers_at_the_same_place_share_the_making_of_their_data() -> None:
    entries = [Entry(3, seq, event) for seq, event in enumerate(encode_messages(b'["shared", 1, 2]'), 1)]
    chunk = native_frames(entries)
    read_chunk.cache_clear()
    taken = [DurableFrames(DurableContent.JSON, at=START, cursor="1").take_chunk(chunk) for _ in range(5)]
    assert set(taken) == {b'event: data\ndata:["shared",1,2]\n\n'}
    assert read_chunk.cache_info().misses == 1


@pytest.mark.parametrize(
    "chunk",
    [
        pytest.param(b'on","data":0}\n\nid: 1-2\ndata: {"type":"data-json","data":1}\n\n', id="its first frame is cut"),
        pytest.param(b'data: {"type":"data-json","data":1}\n\n', id="its first frame has lost its id"),
        pytest.param(
            b'id: 1-1\ndata: {"type":"data-json","data":1}\n\nid: 1-2\ndata: {"ty', id="its last frame is cut"
        ),
        pytest.param(b'id: 1-1\ndata: {"type":"data-json","data":1}\n\nevent: hub.live\ndata: {}\n\n', id="a notice"),
        pytest.param(b'id: 1-1\ndata: {"type":"finish"}\n\n', id="the end"),
        pytest.param(b'id: 1-1\ndata: {"type":"start"}\n\n', id="no content"),
    ],
)
def test_a_chunk_that_has_more_than_content_is_read_by_each_response(chunk: bytes) -> None:
    assert read_chunk(chunk, DurableContent.JSON) is None


def test_the_control_event_of_shared_data_comes_before_what_follows() -> None:
    first, second = (Entry(1, seq, event) for seq, event in enumerate(encode_messages(b"[1, 2]"), 1))
    frames = DurableFrames(DurableContent.JSON, at=START, cursor="1")
    sent = frames.take_chunk(native_frames([first]))
    assert frames.take_chunk(native_frames([second])) == b"", "it must wait for the control event"
    frames.add(second.cursor, second.event)
    messages = SseDecoder().decode(sent + frames.take(is_at_end=True, is_closed=False))
    assert [each.event for each in messages] == ["data", "control", "data", "control"]
    offsets = [json.loads(each.data)["streamNextOffset"] for each in messages[1::2]]
    assert offsets == [format_offset(first.cursor), format_offset(second.cursor)]
    assert "upToDate" not in messages[1].data
    assert "upToDate" in messages[3].data


def test_up_to_date_is_sent_once_and_once_more_after_more_content() -> None:
    frames = DurableFrames(DurableContent.BYTES, at=START, cursor="7")
    assert b'"upToDate":true' in frames.take(is_at_end=True, is_closed=False)
    assert frames.take(is_at_end=True, is_closed=False) == b""
    (event,) = encode_bytes(b"x", DurableContent.BYTES, max_event_bytes=2**20)
    frames.add(Cursor(5, 1), event)
    sent = frames.take(is_at_end=False, is_closed=False)
    assert base64.b64encode(b"x") in sent
    assert b"upToDate" not in sent
    assert b'"streamCursor":"7"' in sent
    assert b'"upToDate":true' in frames.take(is_at_end=True, is_closed=False)


def frames_of(*pieces: bytes) -> tuple[DurableFrames, list[str]]:
    """Each piece is an entry, taken before the next one comes; and the texts that were sent."""
    frames, sent = DurableFrames(DurableContent.TEXT, at=START, cursor="1"), SseDecoder()
    texts: list[str] = []
    for seq, piece in enumerate(pieces, 1):
        for event in encode_bytes(piece, DurableContent.TEXT, max_event_bytes=2**20):
            frames.add(Cursor(1, seq), event)
        taken = sent.decode(frames.take(is_at_end=False, is_closed=False))
        texts += [message.data for message in taken if message.event == "data"]
    return frames, texts


def test_an_entry_whose_character_is_never_completed_does_not_wait() -> None:
    assert frames_of(*[b"\xe2"] * 3, b"a")[1] == ["\ufffd", "\ufffd", "\ufffda"]


def test_text_that_is_always_cut_within_a_character_is_held_up_to_a_bound() -> None:
    pieces = [b"\xe2\x82", *[b"\xac\xe2\x82"] * (2 * MOST_HELD)]
    assert "".join(frames_of(*pieces)[1]).count("\u20ac") >= MOST_HELD
    piece = b"\xac" + b"x" * 40_000 + b"\xe2\x82"
    few = MOST_HELD_BYTES // len(piece) + 1
    assert few < MOST_HELD
    assert frames_of(b"\xe2\x82", *[piece] * few)[1]
