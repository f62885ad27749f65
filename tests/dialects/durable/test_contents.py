"""Bytes → events → the same bytes, however a body is cut, and frames that end at whole characters."""

from __future__ import annotations

import base64
import itertools
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broadcaster.core.cursor import START, Cursor
from broadcaster.core.events import DataEvent
from broadcaster.core.events import decode_event as decode_stored
from broadcaster.core.sse import SseDecoder
from broadcaster.dialects.durable.contents import (
    DurableContent,
    decode_event,
    encode_bytes,
    encode_messages,
    join_contents,
)
from broadcaster.dialects.durable.frames import MOST_HELD, MOST_HELD_BYTES, DurableFrames

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
