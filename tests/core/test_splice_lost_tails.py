"""The splice beside a log that does not hold its last entry: it lags, was trimmed, or continues another history."""

from __future__ import annotations

from broadcaster.core.continuity import Push, TailVerdict
from broadcaster.core.cursor import START, Cursor
from broadcaster.core.entry import Entry
from broadcaster.core.notices import Gap, GapReason
from broadcaster.core.splice import CaughtUp, Deliver, Rewound
from tests.support.log.splice_world import DELTA, FINISH, entries, entry, live_splice


def test_a_log_that_is_empty_when_it_is_traced_voids_nothing() -> None:
    splice = live_splice(entries(1, 1, 5))
    splice.trace()
    splice.next_read()

    assert splice.take([], is_last=True) == []
    splice.next_read()
    assert splice.take([], is_last=True) == [CaughtUp()]
    assert splice.last == Cursor(1, 5)


def test_the_tail_that_an_ended_log_has_lost_is_void() -> None:
    splice = live_splice([*entries(1, 1, 3), *entries(2, 4, 6)])
    splice.trace()
    splice.next_read()

    end = Entry(1, 4, FINISH)
    assert splice.take([*entries(1, 1, 3), end], is_last=True) == [Rewound(Cursor(1, 3))]
    splice.next_read()
    assert splice.take([entry(1, 3), end], is_last=True) == [Deliver([end]), CaughtUp()]
    assert splice.is_over


def test_a_lost_tail_that_an_older_clock_continued_is_void_though_what_follows_it_is_newer() -> None:
    splice = live_splice([*entries(818, 1, 1), *entries(822, 2, 2), *entries(826, 3, 3), *entries(837, 4, 4)])
    log = [*entries(818, 1, 1), *entries(822, 2, 2), *entries(826, 3, 3), entry(827, 4), entry(4955, 5)]
    assert splice.receive(Push(4955, 5, 1, (DELTA,), prev_epoch=827)) == ()
    assert splice.next_read() == Cursor(837, 3)
    assert splice.take([entry(4955, 5)], is_last=True) == []
    assert splice.next_read() == START

    assert splice.take(log, is_last=True) == [Rewound(Cursor(826, 3))]
    splice.next_read()
    assert splice.take(log[2:], is_last=True) == [Deliver(log[3:]), CaughtUp()]


def test_a_log_that_was_trimmed_right_behind_the_last_entry_voids_nothing() -> None:
    splice = live_splice(entries(1, 1, 3))
    splice.reread()
    splice.next_read()
    assert splice.take(entries(1, 4, 5), is_last=True) == []
    assert splice.next_read() == START
    assert splice.take(entries(1, 4, 5), is_last=True) == []
    splice.next_read()

    assert splice.take(entries(1, 4, 5), is_last=True) == [Deliver(entries(1, 4, 5)), CaughtUp()]


def test_a_log_that_was_trimmed_and_then_re_created_is_traced_once_more() -> None:
    splice = live_splice(entries(1, 1, 3))
    splice.reread()
    splice.next_read()
    splice.take(entries(1, 4, 5), is_last=True)
    splice.next_read()
    splice.take(entries(1, 4, 5), is_last=True)
    splice.next_read()

    assert splice.take(entries(2, 1, 2), is_last=True) == []
    assert splice.next_read() == START
    assert splice.take(entries(2, 1, 2), is_last=True) == [Rewound(START)]


def test_a_log_of_a_stream_that_was_created_behind_the_last_entry_voids_all() -> None:
    splice = live_splice(entries(1, 1, 3))
    splice.reread()
    splice.next_read()
    assert not splice.begins_behind(entries(5, 4, 5))
    splice.take(entries(5, 4, 5), is_last=True)
    splice.next_read()
    assert splice.begins_behind(entries(5, 4, 5))

    assert splice.take(entries(5, 4, 5), is_last=True, since_epoch=3) == [Rewound(START)]
    splice.next_read()
    assert splice.begins_behind(entries(5, 4, 5))
    gap = Gap(GapReason.TRIMMED, Cursor(5, 3), 1, 3, since_epoch=3)
    assert splice.take(entries(5, 4, 5), is_last=True, since_epoch=3) == [gap, Deliver(entries(5, 4, 5)), CaughtUp()]


def test_a_stream_that_is_created_anew_between_a_trace_and_its_next_page_voids_all() -> None:
    splice = live_splice(entries(1, 1, 3))
    splice.trace()
    splice.next_read()
    splice.take(entries(2, 4, 5), is_last=True, since_epoch=1)
    splice.next_read()
    assert splice.begins_behind(entries(5, 4, 5))

    assert splice.take(entries(5, 4, 5), is_last=True, since_epoch=3) == []
    assert splice.next_read() == START
    assert splice.take(entries(5, 4, 5), is_last=True, since_epoch=3) == [Rewound(START)]


def test_a_creation_that_is_newer_than_the_page_voids_nothing() -> None:
    splice = live_splice(entries(1, 1, 3))
    splice.trace()
    splice.next_read()
    assert splice.take(entries(2, 6, 7), is_last=True, since_epoch=9) == []
    splice.next_read()
    gap = Gap(GapReason.TRIMMED, Cursor(2, 5), 4, 5, since_epoch=9)
    assert splice.take(entries(2, 6, 7), is_last=True, since_epoch=9) == [gap, Deliver(entries(2, 6, 7)), CaughtUp()]


def test_a_trimmed_log_that_begins_under_an_older_epoch_voids_what_it_cannot_follow() -> None:
    splice = live_splice([*entries(1, 1, 2), *entries(11, 3, 3)])
    splice.trace()
    splice.next_read()

    assert splice.take([entry(10, 4)], is_last=True) == [Rewound(START)]
    splice.next_read()
    gap = Gap(GapReason.TRIMMED, at=Cursor(10, 3), first_seq=1, last_seq=3)
    assert splice.take([entry(10, 4)], is_last=True) == [gap, Deliver([entry(10, 4)]), CaughtUp()]


def test_a_log_that_lags_voids_nothing_until_it_holds_what_was_never_delivered() -> None:
    splice = live_splice([*entries(3, 1, 2), *entries(9, 3, 4)])

    assert splice.judge_tail(Cursor(9, 3)) is TailVerdict.HOLD
    assert splice.judge_tail(Cursor(3, 2)) is TailVerdict.HOLD
    assert splice.judge_tail(Cursor(7, 4)) is TailVerdict.FORK
    assert splice.judge_tail(Cursor(7, 5)) is TailVerdict.FORK
    assert splice.judge_tail(START) is TailVerdict.HOLD


def test_a_log_that_ends_before_everything_that_was_delivered_proves_nothing() -> None:
    splice = live_splice(entries(9, 100, 104))

    assert splice.judge_tail(Cursor(7, 90)) is TailVerdict.HOLD
