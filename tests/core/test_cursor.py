"""The cursor: what is read, what is refused, how it orders."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broadcaster.core.cursor import MAX_CURSOR_BYTES, MAX_HALF, START, Cursor
from broadcaster.errors import BadCursor

halves = st.integers(0, MAX_HALF)
cursors = st.builds(Cursor, halves, halves)


def as_redis_compares(cursor: Cursor) -> bytes:
    """Redis orders stream ids bytewise, as two big-endian 64-bit numbers (src/t_stream.c, streamEncodeID)."""
    return cursor.epoch.to_bytes(8, "big") + cursor.seq.to_bytes(8, "big")


@given(cursors)
def test_a_cursor_survives_formatting_and_parsing(cursor):
    assert Cursor.parse(str(cursor)) == cursor


@given(st.text(alphabet="0123456789-", max_size=12))
def test_a_text_has_one_reading_or_none(text):
    try:
        cursor = Cursor.parse(text)
    except BadCursor:
        return
    assert str(cursor) == text


@given(cursors, cursors)
def test_cursors_order_as_redis_orders_entry_ids(left, right):
    assert (left < right) == (as_redis_compares(left) < as_redis_compares(right))


@given(cursors)
def test_nothing_comes_before_the_start(cursor):
    assert cursor >= START


def test_seq_ten_comes_after_seq_nine_and_a_newer_epoch_after_every_seq():
    assert Cursor.parse("7-10") > Cursor.parse("7-9")
    assert Cursor.parse("8-1") > Cursor.parse(f"7-{MAX_HALF}")


def test_the_start_is_zero_zero():
    assert Cursor.parse("0-0") == START
    assert str(START) == "0-0"


@pytest.mark.parametrize(
    "text",
    [
        "", "-", "1", "1-", "-1", "1-1-1", "1--1", "-1-1", "+1-1", "1-+1", "01-1", "1-01", "00-0", "0-00",
        " 1-1", "1-1 ", "1 -1", "1-1\n", "\n1-1", "1-1\0", "1_0-1", "1.0-1", "0x1-1", "1e3-1", "1-*", "*", "$", ">",
        "٣-1", "1-٣", "1–1", "1−1", "²-1", "null", "a-b",
    ],
)  # fmt: skip
def test_anything_but_two_plain_numbers_is_refused(text):
    with pytest.raises(BadCursor):
        Cursor.parse(text)


def test_halves_reach_64_bits_and_no_further():
    assert Cursor.parse(f"{MAX_HALF}-{MAX_HALF}") == Cursor(2**64 - 1, 2**64 - 1)
    for text in (f"{MAX_HALF + 1}-1", f"1-{MAX_HALF + 1}", f"1-{10**20}"):
        with pytest.raises(BadCursor):
            Cursor.parse(text)


def test_the_longest_cursor_is_far_below_the_bound_and_a_longer_text_is_refused_before_it_is_read():
    assert len(str(Cursor(MAX_HALF, MAX_HALF))) < MAX_CURSOR_BYTES == 128
    with pytest.raises(BadCursor, match="128"):
        Cursor.parse("1" * 128 + "-1")
    with pytest.raises(BadCursor, match="128"):
        Cursor.parse("1" * 10_000_000)


@given(cursors)
def test_a_cursor_costs_a_browser_no_preflight(cursor):
    text = str(cursor)
    assert len(text.encode()) <= MAX_CURSOR_BYTES
    assert set(text) <= set("0123456789-")
