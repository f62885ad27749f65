"""The messages of a WebSocket are the native frames in another form: both are read back, and compared."""

from __future__ import annotations

import json
from typing import Any

import pytest

from broadcaster.core.cursor import Cursor
from broadcaster.core.entry import Entry
from broadcaster.core.notices import Gap, GapReason, StallReason
from broadcaster.core.sse import SseDecoder
from broadcaster.dialects import MESSAGES, NATIVE, NATIVE_SNAPSHOT, SNAPSHOT_MESSAGES, Dialect
from broadcaster.hub.stop_reasons import StopReason
from broadcaster.web.viewing.websocket import MessageLines, close_code

ENTRIES = [
    Entry(5, 1, b'{"type":"text-delta","id":"0","delta":"a\\n"}'),
    Entry(5, 2, '{"type":"text-delta","id":"0","delta":"é\u2028"}'.encode()),
    Entry(5, 3, b'{"type":"data-a",\n"data":[1,\r\n2]}'),
]
GAP = Gap(GapReason.TRIMMED, Cursor(5, 3), 1, 3)


def of_sse(frames: bytes) -> list[dict[str, Any]]:
    """The messages that these frames should be."""
    found, last_id = [], ""
    for message in SseDecoder().decode(frames):
        given = {
            "event": None if message.event == "message" else message.event,
            "id": message.id if message.id != last_id else None,
            "retry": message.retry_ms,
            "data": json.loads(message.data),
        }
        last_id = message.id
        found.append({name: value for name, value in given.items() if value is not None})
    return found


def of_lines(lines: bytes) -> list[dict[str, Any]]:
    return [json.loads(text) for text, _ in MessageLines().decode(lines)]


@pytest.mark.parametrize(("messages", "native"), [(MESSAGES, NATIVE), (SNAPSHOT_MESSAGES, NATIVE_SNAPSHOT)])
def test_every_frame_of_the_native_dialect_has_its_message(messages: Dialect, native: Dialect) -> None:
    ours, theirs = messages.open("gen_1"), native.open("gen_1")
    assert of_lines(ours.encode(ENTRIES)) == of_sse(theirs.encode(ENTRIES))
    assert of_lines(ours.snapshot()) == of_sse(theirs.snapshot())
    assert of_lines(ours.fork().snapshot()) == of_sse(theirs.fork().snapshot())
    notices: dict[str, dict[str, Any]] = {
        "hello": {"status": "running", "retry_ms": 7},
        "live": {},
        "gap": {"gap": GAP},
        "discard": {"gap": GAP},
        "stalled": {"reason": StallReason.WORKER_LOST},
        "expiring": {"expires_s": 7.5},
        "bye": {"reason": "drain", "reconnect": True, "retry_ms": 9},
    }
    for name, arguments in notices.items():
        assert of_lines(getattr(ours, name)(**arguments)) == of_sse(getattr(theirs, name)(**arguments))
    assert messages.name == native.name
    assert (ours.chunk_alone is None) == (theirs.chunk_alone is None)


def test_lines_cut_at_every_byte_are_the_same_messages_in_fragments() -> None:
    whole = MESSAGES.open("g").encode(ENTRIES) + MESSAGES.heartbeat
    expected = [str(line, "utf-8") for line in whole.split(b"\n")[:-1]]
    for size in range(1, len(whole)):
        lines = MessageLines()
        found, text = list[str](), ""
        for at in range(0, len(whole), size):
            for fragment in lines.decode(whole[at : at + size]):
                assert len(fragment.text) <= size
                text += fragment.text
                if fragment.is_last:
                    found.append(text)
                    text = ""
        assert (found, text) == (expected, "")


def test_bytes_that_are_no_text_are_replaced_in_their_own_message_alone() -> None:
    lines = MessageLines()
    fragments = [*lines.decode(b"a\xc3"), *lines.decode(b"\n\xa9b\n")]
    assert fragments == [("a", False), ("\ufffd", True), ("\ufffdb", True)]


@pytest.mark.parametrize("reason", StopReason)
def test_a_client_reconnects_after_the_close_codes_1001_and_1013(reason: StopReason) -> None:
    assert (close_code(reason) in (1001, 1013)) == reason.reconnect
