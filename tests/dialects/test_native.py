"""The frames of the dialect ``native``: one by one, and as the chunk of a live group, in C and in Python."""

from __future__ import annotations

from itertools import starmap
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broadcaster.core.entry import Entry
from broadcaster.core.sse import http_chunk
from broadcaster.dialects.native import encode
from broadcaster.dialects.native.encode import NATIVE, native_chunk_in_python
from broadcaster.dialects.writing import Chunker
from broadcaster.hub.live.writes import IS_COMPILED
from tests.hub.test_writes import NOT_COMPILED
from tests.support.servers.programs import lacking

FORMS = pytest.mark.parametrize("chunk", [encode.native_chunk, native_chunk_in_python], ids=["chosen", "in-python"])
NUMBERS = st.integers(0, 2**64 - 1)


def test_the_chunker_in_c_is_built_where_there_is_a_compiler() -> None:
    if not IS_COMPILED:
        lacking(NOT_COMPILED)
    assert encode.native_chunk is not native_chunk_in_python


@FORMS
@given(NUMBERS, st.integers(100, 2**64 - 1), st.lists(st.text(alphabet="a{é\u2028\0"), min_size=1, max_size=40))
def test_a_chunk_holds_the_frames_of_the_events(chunk: Chunker, epoch: int, last_seq: int, texts: list[str]) -> None:
    events = [text.encode() for text in texts]
    entries = [Entry(epoch, last_seq - len(events) + 1 + at, event) for at, event in enumerate(events)]
    assert chunk(epoch, last_seq, events) == http_chunk(b"".join(starmap(NATIVE.frame, entries)))


@given(st.lists(st.binary(max_size=9), min_size=1, max_size=3))
def test_the_chunker_in_c_leaves_events_of_several_lines_to_the_one_in_python(events: list[bytes]) -> None:
    has_lines = any(b"\n" in event or b"\r" in event for event in events)
    expected = native_chunk_in_python(7, 9, events)
    assert encode.native_chunk(7, 9, events) == (None if has_lines and IS_COMPILED else expected)


@pytest.mark.parametrize(
    "odd",
    [(7, 9), (7, 9, (b"{}",)), (7, 9, ["{}"]), (-1, 9, [b"{}"]), (7, "9", [b"{}"]), (7, 1, [b"{}", b"{}"]), (7, 9, [])],
)
def test_what_are_no_events_is_refused_by_the_chunker_in_c(odd: Any) -> None:
    if not IS_COMPILED:
        lacking(NOT_COMPILED)
    with pytest.raises((TypeError, ValueError, OverflowError)):
        encode.native_chunk(*odd)
