"""The wire form of a push: read exactly, or taken for less than it is, never for more."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broadcaster.core.continuity import Push
from broadcaster.core.events import TextDelta, encode_event
from broadcaster.log.tail.push import next_event, parse_push


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
    push = parse_push(payload)

    assert push is not None
    assert (push.epoch, push.first_seq, push.events, push.prev_epoch) == (7, 5, (), None)


@pytest.mark.parametrize(
    "payload",
    [b"", b"\n", b"1", b"1 7 5", b"1 a 5 3", b"1 7 x 3", b"1 7 5 x", b"1 -7 5 3", b"1 7 0 3", b"1 7 5 0", b"1 7 5 1 x"],
)
def test_a_head_that_makes_no_sense_is_no_push(payload: bytes) -> None:
    assert parse_push(payload) is None


@given(st.integers(0, 2**64 - 1), st.integers(1, 2**64 - 1), st.text())
def test_the_push_of_the_next_entry_is_recognized_by_its_head(epoch: int, seq: int, text: str) -> None:
    event = encode_event(TextDelta(id="t", delta=text))
    payload = b"1 %d %d 1\n%b" % (epoch, seq, event)

    assert next_event(payload, epoch, seq) == event
    assert next_event(payload, epoch, seq + 1) is None
    assert next_event(payload, epoch + 1, seq) is None


@pytest.mark.parametrize(
    "payload",
    [
        b"1 7 5 1",
        b"1 7 5 1\n",
        b"1 7 5 1\n{}\n{}",
        b"1 7 5 2\n{}\n{}",
        b"2 7 5 1\n{}",
        b"1 7 5 1 6\n{}",
        b"1 07 5 1\n{}",
        b"",
    ],
)
def test_another_push_than_that_of_the_single_next_entry_is_not_taken_for_it(payload: bytes) -> None:
    assert next_event(payload, 7, 5) is None


@given(st.binary(max_size=60))
def test_whatever_comes_is_read_without_an_error(payload: bytes) -> None:
    push = parse_push(payload)

    assert push is None or (push.length >= 1 and len(push.events) in (0, push.length))
