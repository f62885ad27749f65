"""The acceptance rules of docs/protocol.md §5, cell by cell."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broadcaster.core.continuity import Judgement, Push, PushVerdict, TailVerdict, judge_push, judge_tail
from broadcaster.core.cursor import START, Cursor

LAST = Cursor(5, 10)
SAME, NEWER, OLDER = 5, 6, 4

DELIVER, DROP, HOLE, FORK = PushVerdict.DELIVER, PushVerdict.DROP, PushVerdict.HOLE, PushVerdict.FORK


@pytest.mark.parametrize(
    ("epoch", "first_seq", "count", "expected"),
    [
        (SAME, 11, 1, Judgement(DELIVER, 0)),
        (SAME, 11, 3, Judgement(DELIVER, 0)),
        (SAME, 10, 3, Judgement(DELIVER, 1)),
        (SAME, 9, 3, Judgement(DELIVER, 2)),
        (SAME, 10, 1, Judgement(DROP)),
        (SAME, 1, 10, Judgement(DROP)),
        (SAME, 12, 1, Judgement(HOLE)),
        (NEWER, 11, 2, Judgement(DELIVER, 0)),
        (NEWER, 10, 1, Judgement(FORK)),
        (NEWER, 1, 1, Judgement(FORK)),
        (NEWER, 10, 5, Judgement(FORK)),
        (NEWER, 12, 1, Judgement(HOLE)),
        (OLDER, 10, 1, Judgement(DROP)),
        (OLDER, 10, 5, Judgement(DROP)),
        (OLDER, 11, 1, Judgement(DROP)),
        (OLDER, 15, 1, Judgement(DROP)),
    ],
)
def test_a_push_is_judged_by_its_epoch_and_its_place(
    epoch: int, first_seq: int, count: int, expected: Judgement
) -> None:
    assert judge_push(LAST, Push(epoch, first_seq, count)) == expected


def test_the_first_entry_follows_the_start_and_a_later_one_leaves_a_hole() -> None:
    assert judge_push(START, Push(1_700_000_000_000, 1, 2)) == Judgement(DELIVER, 0)
    assert judge_push(START, Push(1_700_000_000_000, 2, 1)) == Judgement(HOLE)


def test_a_newer_epoch_that_follows_another_than_the_delivered_one_is_a_hole() -> None:
    assert judge_push(LAST, Push(8, 11, 1, prev_epoch=SAME)) == Judgement(DELIVER, 0)
    assert judge_push(LAST, Push(8, 11, 1, prev_epoch=7)) == Judgement(HOLE)
    assert judge_push(START, Push(8, 1, 1, prev_epoch=0)) == Judgement(DELIVER, 0)


@given(st.integers(0, 3), st.integers(0, 6), st.integers(0, 3), st.integers(1, 8), st.integers(1, 4))
def test_a_delivered_push_always_continues_densely(
    epoch: int, seq: int, push_epoch: int, first_seq: int, count: int
) -> None:
    verdict, skip = judge_push(Cursor(epoch, seq), Push(push_epoch, first_seq, count))

    if verdict is DELIVER:
        assert first_seq + skip == seq + 1
        assert 0 <= skip < count
        assert push_epoch >= epoch
    else:
        assert skip == 0


@pytest.mark.parametrize(
    ("log_last", "expected"),
    [
        (LAST, TailVerdict.FINE),
        (Cursor(SAME, 11), TailVerdict.HOLE),
        (Cursor(SAME, 9), TailVerdict.HOLD),
        (Cursor(NEWER, 11), TailVerdict.HOLE),
        (Cursor(NEWER, 30), TailVerdict.HOLE),
        (Cursor(NEWER, 10), TailVerdict.FORK),
        (Cursor(NEWER, 3), TailVerdict.FORK),
        (Cursor(OLDER, 9), TailVerdict.HOLD),
        (Cursor(OLDER, 12), TailVerdict.HOLD),
        (START, TailVerdict.HOLD),
    ],
)
def test_the_tail_of_the_log_is_judged_against_what_was_delivered(log_last: Cursor, expected: TailVerdict) -> None:
    assert judge_tail(LAST, log_last) == expected


def test_a_stream_without_a_log_is_fine_as_long_as_nothing_was_delivered() -> None:
    assert judge_tail(START, START) == TailVerdict.FINE
    assert judge_tail(START, Cursor(1, 1)) == TailVerdict.HOLE


def test_no_worker_resends_the_lost_tail_of_an_ended_stream_so_it_is_a_fork() -> None:
    assert judge_tail(LAST, Cursor(SAME, 9), has_ended=True) == TailVerdict.FORK
    assert judge_tail(LAST, Cursor(OLDER, 12), has_ended=True) == TailVerdict.FORK
    assert judge_tail(LAST, LAST, has_ended=True) == TailVerdict.FINE


def test_a_last_id_that_was_never_delivered_is_a_fork_and_no_lag() -> None:
    assert judge_tail(LAST, Cursor(OLDER, 10), is_foreign=True) == TailVerdict.FORK
    assert judge_tail(LAST, Cursor(OLDER, 12), is_foreign=True) == TailVerdict.FORK
    assert judge_tail(LAST, Cursor(NEWER, 11), is_foreign=True) == TailVerdict.HOLE


def test_of_an_ended_stream_whose_log_is_gone_the_terminal_is_still_to_be_read() -> None:
    assert judge_tail(LAST, START, has_ended=True) == TailVerdict.HOLE
    assert judge_tail(START, START, has_ended=True) == TailVerdict.HOLE
