"""Offsets: texts that sort as the entries they name."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broadcaster.core.cursor import MAX_HALF, START, Cursor
from broadcaster.dialects.durable.offsets import LivePlace, format_offset, parse_offset
from broadcaster.errors import InvalidInput

CURSORS = st.builds(Cursor, st.integers(1, MAX_HALF), st.integers(1, MAX_HALF))


@given(CURSORS)
def test_an_offset_leads_back_to_its_entry(cursor: Cursor) -> None:
    assert parse_offset(format_offset(cursor)) == cursor


@given(CURSORS, CURSORS)
def test_offsets_sort_by_number_and_then_by_epoch(one: Cursor, two: Cursor) -> None:
    by_text = format_offset(one) < format_offset(two)
    assert by_text == ((one.seq, one.epoch) < (two.seq, two.epoch))


def test_the_words_of_the_protocol_are_places() -> None:
    assert parse_offset("-1") == parse_offset(format_offset(START)) == START
    assert parse_offset("now") is LivePlace.NOW


@given(st.text(alphabet="0123456789_-, /x", max_size=45))
def test_any_other_text_is_refused(text: str) -> None:
    try:
        parsed = parse_offset(text)
    except InvalidInput:
        return
    assert text == "-1" or (isinstance(parsed, Cursor) and len(text) == 41)


@pytest.mark.parametrize("text", ["", "NOW", "-1 ", f"{MAX_HALF + 1:020d}_{1:020d}"])
def test_near_misses_are_refused(text: str) -> None:
    with pytest.raises(InvalidInput, match="Stream-Next-Offset"):
        parse_offset(text)
