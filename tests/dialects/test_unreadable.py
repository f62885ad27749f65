"""What another version wrote in a shape that this one cannot read: every dialect leaves it out, but never the end."""

from __future__ import annotations

import pytest

from broadcaster.core import events as ev
from broadcaster.core.entry import Entry
from broadcaster.dialects import DIALECTS, Dialect

TRANSCRIBED = [each for each in DIALECTS.values() if each.open("g").chunk_alone is None]
ANSWER = [
    ev.encode_event(event)
    for event in (ev.Start(), ev.StartStep(), ev.TextStart(id="0"), ev.TextDelta(id="0", delta="whole?"))
]
NEWER_TEXT = b'{"type":"text-delta","id":"0","delta":{"of":"a newer version"}}'
NEWER_ENDS = [
    b'{"type":"finish","finishReason":{"of":"a newer version"}}',
    b'{"type":"error","errorText":{"of":"a newer version"}}',
    b'{"type":"abort","reason":{"of":"a newer version"}}',
]


def encoded(dialect: Dialect, *raw: bytes) -> list[bytes]:
    """What each entry is encoded as."""
    transcript = dialect.open("g")
    return [transcript.encode([Entry(5, seq, event)]) for seq, event in enumerate(raw, 1)]


@pytest.mark.parametrize("dialect", TRANSCRIBED, ids=lambda each: each.name)
def test_in_the_middle_it_is_sent_like_an_event_of_an_unknown_type(dialect):
    unknown = b'{"type":"of-a-newer-version"}'
    end = ev.encode_event(ev.Finish())
    assert encoded(dialect, *ANSWER, NEWER_TEXT, end) == encoded(dialect, *ANSWER, unknown, end)


@pytest.mark.parametrize("newer", NEWER_ENDS, ids=["finish", "error", "abort"])
@pytest.mark.parametrize("dialect", TRANSCRIBED, ids=lambda each: each.name)
def test_at_the_end_it_is_sent_as_an_error(dialect, newer):
    failed = ev.encode_event(ev.read_event(newer))
    assert b'"unreadable"' in failed
    assert encoded(dialect, *ANSWER, newer) == encoded(dialect, *ANSWER, failed)
    assert encoded(dialect, *ANSWER, newer) != encoded(dialect, *ANSWER, ev.encode_event(ev.Finish()))
    assert encoded(dialect, *ANSWER, newer)[-1] != b""
