"""The wire form of a push: read exactly, or taken for less than it is, never for more."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broadcaster.core.continuity import Push
from broadcaster.core.events import ATTEMPT_PREFIX, TERMINAL_PREFIXES, TextDelta, encode_event
from broadcaster.hub.live.writes import IS_COMPILED
from broadcaster.log.tail import push
from broadcaster.log.tail.push import NextEvents, next_events_in_python, parse_push
from tests.hub.test_writes import NOT_COMPILED
from tests.support.servers.programs import lacking

FORMS = pytest.mark.parametrize("next_events", [push.next_events, next_events_in_python], ids=["chosen", "in-python"])
PIECES = [b"1 7 5 1\n", b"1 7 5 2\n", b"1 7 5 ", b"1", b"2", b"{}", b"\n", b" ", b"x", b"6", TERMINAL_PREFIXES[0]]


@given(
    st.integers(0, 2**64 - 1), st.integers(1, 2**64 - 1), st.lists(st.text(), min_size=1), st.none() | st.integers(0, 9)
)
def test_a_push_reads_back_as_it_was_written(
    epoch: int, first_seq: int, texts: list[str], prev_epoch: int | None
) -> None:
    events = [encode_event(TextDelta(id="t", delta=text)) for text in texts]
    head = f"1 {epoch} {first_seq} {len(events)}" + (f" {prev_epoch}" if prev_epoch is not None else "")

    assert parse_push(b"\n".join([head.encode(), *events])) == Push(epoch, first_seq, len(events), events, prev_epoch)


def test_a_head_alone_is_a_poke() -> None:
    assert parse_push(b"1 7 5 3") == Push(7, 5, 3)


@pytest.mark.parametrize(
    "payload",
    [b"1 7 5 3\n{}\n{}", b"1 7 5 1\n{}\n{}", b"2 7 5 1\n{}", b"2 7 5 1 6\n{}", b"10 7 5 1"],
    ids=["too few", "too many", "other version", "other version with more words", "two digits"],
)
def test_events_that_cannot_be_trusted_make_it_a_poke(payload: bytes) -> None:
    read = parse_push(payload)

    assert read is not None
    assert (read.epoch, read.first_seq, read.events, read.prev_epoch) == (7, 5, (), None)


@pytest.mark.parametrize(
    "payload",
    [b"", b"\n", b"1", b"1 7 5", b"1 a 5 3", b"1 7 x 3", b"1 7 5 x", b"1 -7 5 3", b"1 7 0 3", b"1 7 5 0", b"1 7 5 1 x"],
)
def test_a_head_that_makes_no_sense_is_no_push(payload: bytes) -> None:
    assert parse_push(payload) is None


SEQS = st.integers(0, 2**64 - 3)
REFUSED = (*TERMINAL_PREFIXES, ATTEMPT_PREFIX)


def test_the_reader_in_c_is_built_where_there_is_a_compiler() -> None:
    if not IS_COMPILED:
        lacking(NOT_COMPILED)
    assert push.next_events is not next_events_in_python


@FORMS
@given(SEQS, SEQS, st.lists(st.text(), min_size=1))
def test_the_events_of_a_push_that_comes_next_are_read(
    next_events: NextEvents, epoch: int, last_seq: int, texts: list[str]
) -> None:
    events = [encode_event(TextDelta(id="t", delta=text)) for text in texts]
    payload = b"\n".join([b"1 %d %d %d" % (epoch, last_seq + 1, len(events)), *events])
    assert next_events(payload, epoch, last_seq) == events
    assert next_events(payload, epoch + 1, last_seq) is None
    assert next_events(payload, epoch, last_seq + 1) is None


@FORMS
@pytest.mark.parametrize(
    "payload",
    [
        b"1 7 5 1",
        b"1 7 5 1\n",
        b"1 7 5 1\n{}\n{}",
        b"1 7 5 1\n{}\n",
        b"1 7 5 2\n{}",
        b"1 7 5 2\n{}\n",
        b"1 7 5 3\n{}\n{}",
        b"1 7 5 02\n{}\n{}",
        b"2 7 5 1\n{}",
        b"1 7 5 1 6\n{}",
        b"1 7 5 2 6\n{}\n{}",
        b"1 07 5 1\n{}",
        b"1 7 5 0",
        b"1 7 5 ",
        b"1 7 5",
        b"",
        *(b"1 7 5 1\n%b}" % prefix for prefix in REFUSED),
        *(b"1 7 5 2\n{}\n%b}" % prefix for prefix in REFUSED),
        *(b"1 7 5 2\n%b}\n{}" % prefix for prefix in REFUSED),
    ],
)
def test_another_push_is_left_to_the_parser(next_events: NextEvents, payload: bytes) -> None:
    assert next_events(payload, 7, 4) is None


@given(st.one_of(st.binary(max_size=40), st.lists(st.sampled_from(PIECES), max_size=8).map(b"".join)), SEQS)
def test_both_forms_read_the_same(payload: bytes, last_seq: int) -> None:
    for seq in (4, last_seq):
        assert push.next_events(payload, 7, seq) == next_events_in_python(payload, 7, seq)


@pytest.mark.parametrize("odd", [("x", 7, 4), (b"x", -1, 4), (b"x", 7, "4"), (b"x", 7)])
def test_what_is_no_push_is_refused_by_the_reader_in_c(odd: Any) -> None:
    if not IS_COMPILED:
        lacking(NOT_COMPILED)
    with pytest.raises((TypeError, OverflowError)):
        push.next_events(*odd)


@given(st.binary(max_size=60))
def test_whatever_comes_is_read_without_an_error(payload: bytes) -> None:
    read = parse_push(payload)

    assert read is None or (read.length >= 1 and len(read.events) in (0, read.length))
