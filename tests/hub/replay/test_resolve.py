"""Every row of the cursor table (docs/protocol.md §6), and what holds for all cursors."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broadcaster.core.cursor import START, Cursor
from broadcaster.core.lineage import Lineage
from broadcaster.core.notices import Gap, GapReason
from broadcaster.hub.replay.resolve import Extent, Finished, Follow, Hold, resolve


def lineage_of(*ids: str) -> Lineage:
    lineage = Lineage()
    for each in ids:
        lineage.append(Cursor.parse(each))
    return lineage


def log_of(*ids: str, is_over: bool = False, floor: Gap | None = None, was_read: bool = False) -> Extent:
    lineage = lineage_of(*ids)
    if floor is None and lineage.first_seq > 1:
        before = Cursor(lineage.epoch_at(lineage.first_seq), lineage.first_seq - 1)
        floor = Gap(GapReason.TRIMMED, before, 1, before.seq)
    return Extent(lineage, floor, is_over, was_read)


WHOLE = log_of("5-1", "5-2", "7-3", "7-4")
ENDED = log_of("5-1", "5-2", "7-3", "7-4", is_over=True)
READ = log_of("5-1", "5-2", "7-3", "7-4", was_read=True)
TRIMMED = log_of("7-4", "7-5", "8-6")
RECREATED = log_of("7-4", "7-5", "8-6", floor=Gap(GapReason.TRIMMED, Cursor(7, 3), 1, 3, since_epoch=6))
REPLACED = log_of("6-4", "7-5", "8-6", floor=Gap(GapReason.TRIMMED, Cursor(6, 3), 1, 3, since_epoch=7))
TORN = log_of("7-8", "7-9")._replace(pasts=(lineage_of("3-2", "3-3"), lineage_of("4-4", "6-5")))
EMPTY = log_of()
EXPIRED = log_of("7-9", is_over=True, floor=Gap(GapReason.EXPIRED, Cursor(7, 8), 1, 8))


def follow(after: str, *gap: object) -> Follow:
    if not gap:
        return Follow(Cursor.parse(after))
    reason, at, first_seq, last_seq = gap
    return Follow(Cursor.parse(after), Gap(GapReason(reason), Cursor.parse(str(at)), first_seq, last_seq))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("row", "cursor", "log", "answer"),
    [
        ("none: from the beginning", None, WHOLE, Follow(START)),
        ("nothing seen: from the beginning", "0-0", WHOLE, Follow(START)),
        ("nothing seen in an epoch: from the beginning", "9-0", WHOLE, Follow(START)),
        ("none, trimmed: the gap is reported", None, TRIMMED, follow("7-3", "trimmed", "7-3", 1, 3)),
        ("none, expired: the gap is reported", None, EXPIRED, follow("7-8", "expired", "7-8", 1, 8)),
        ("in the log", "5-2", WHOLE, follow("5-2")),
        ("the last one in the log", "7-4", WHOLE, follow("7-4")),
        ("in an ended log", "5-2", ENDED, follow("5-2")),
        ("the end of a gap, before the first entry of a newer epoch", "7-2", WHOLE, follow("7-2")),
        ("the terminal's own id", "7-4", ENDED, Finished(Cursor(7, 4))),
        ("the terminal's own id, expired", "7-9", EXPIRED, Finished(Cursor(7, 9))),
        ("trimmed away", "5-1", TRIMMED, follow("7-3", "trimmed", "7-3", 2, 3)),
        ("trimmed away, of the first entry's epoch", "7-2", TRIMMED, follow("7-3", "trimmed", "7-3", 3, 3)),
        ("trimmed right up to the cursor", "7-3", TRIMMED, follow("7-3")),
        ("trimmed right up to the cursor, of an older epoch", "5-3", TRIMMED, follow("5-3")),
        ("expired", "7-4", EXPIRED, follow("7-8", "expired", "7-8", 5, 8)),
        ("expired right up to the cursor", "7-8", EXPIRED, follow("7-8")),
        (
            "before the first, of a newer epoch: it never was there",
            "8-2",
            TRIMMED,
            follow("7-3", "rewound", "7-3", 0, 0),
        ),
        ("ahead of an open log, same epoch", "7-9", WHOLE, Hold(Cursor(7, 9))),
        ("ahead of an open log, older epoch", "5-9", WHOLE, follow("5-0", "rewound", "5-0", 1, 9)),
        ("ahead of an open log, same epoch, which was read", "7-9", READ, Hold(Cursor(7, 9))),
        ("ahead of an open log, newer epoch: another front-end may have it", "9-9", WHOLE, Hold(Cursor(9, 9))),
        ("of a newer epoch than an open log's, at a known seq", "9-3", WHOLE, Hold(Cursor(9, 3))),
        ("ahead of an open log, newer epoch, which was read", "9-9", READ, follow("5-0", "rewound", "5-0", 1, 9)),
        ("of a newer epoch, at a known seq, which was read", "9-3", READ, follow("5-0", "rewound", "5-0", 1, 3)),
        ("ahead of an ended log, newer epoch", "9-9", ENDED, follow("5-0", "rewound", "5-0", 1, 9)),
        ("ahead of an ended log", "7-9", ENDED, follow("5-0", "rewound", "5-0", 1, 9)),
        ("rewound: another attempt wrote its seq", "5-3", WHOLE, follow("5-0", "rewound", "5-0", 1, 3)),
        ("rewound in a trimmed log", "7-6", TRIMMED, follow("7-3", "rewound", "7-3", 4, 6)),
        ("re-created: the log began later", "3-2", WHOLE, follow("5-0", "reset", "5-0", 1, 2)),
        ("of another stream", "4-40", ENDED, follow("5-0", "reset", "5-0", 1, 40)),
        ("no log yet, none", None, EMPTY, Follow(START)),
        ("no log yet: what the cursor is worth will show", "5-2", EMPTY, Hold(Cursor(5, 2))),
        ("before the creation, right up to the log", "5-3", RECREATED, follow("7-3", "reset", "7-3", 0, 0)),
        ("before the creation, at an older seq", "5-1", RECREATED, follow("7-3", "reset", "7-3", 0, 0)),
        ("before the creation, at a seq in the log", "5-5", RECREATED, follow("7-3", "reset", "7-3", 4, 5)),
        ("since the creation, trimmed away", "6-2", RECREATED, follow("7-3", "trimmed", "7-3", 3, 3)),
        ("since the creation, trimmed right up to the cursor", "6-3", RECREATED, follow("6-3")),
        ("none, of a log that was created anew", None, RECREATED, follow("7-3", "trimmed", "7-3", 1, 3)),
        ("delivered before a gap", "3-2", TORN, follow("7-7", "trimmed", "7-7", 3, 7)),
        ("before all that was delivered", "2-1", TORN, follow("7-7", "trimmed", "7-7", 2, 7)),
        (
            "the end of a gap, before a newer epoch that was delivered",
            "4-3",
            TORN,
            follow("7-7", "trimmed", "7-7", 4, 7),
        ),
        ("in a gap", "6-6", TORN, follow("7-7", "trimmed", "7-7", 7, 7)),
        ("in a gap, of an older epoch than before it", "5-6", TORN, follow("3-1", "rewound", "3-1", 2, 6)),
        ("right up to the log, of an older epoch than before it", "5-7", TORN, follow("3-1", "rewound", "3-1", 2, 7)),
        ("another attempt's, before a gap", "4-5", TORN, follow("3-1", "rewound", "3-1", 2, 5)),
        ("another incarnation's, before a gap", "2-3", TORN, follow("3-1", "reset", "3-1", 2, 3)),
        ("before a creation that is newer than the log", "5-1", REPLACED, follow("6-3", "trimmed", "6-3", 2, 3)),
    ],
)
def test_a_cursor_is_resolved_by_the_table(row: str, cursor: str | None, log: Extent, answer: object) -> None:
    assert resolve(None if cursor is None else Cursor.parse(cursor), log) == answer


def test_a_gap_without_entries_behind_it_is_sent_and_cursors_beyond_it_wait() -> None:
    log = log_of(floor=Gap(GapReason.TRIMMED, Cursor(7, 3), 1, 3))
    assert resolve(None, log) == follow("7-3", "trimmed", "7-3", 1, 3)
    assert resolve(Cursor(7, 1), log) == follow("7-3", "trimmed", "7-3", 2, 3)
    assert resolve(Cursor(7, 3), log) == follow("7-3")
    assert resolve(Cursor(7, 4), log) == Hold(Cursor(7, 4))


epochs = st.integers(1, 4)


@st.composite
def logs(draw: st.DrawFn) -> Extent:
    first = draw(st.integers(1, 4))
    ids = [f"{epoch}-{first + at}" for at, epoch in enumerate(sorted(draw(st.lists(epochs, max_size=6))))]
    return log_of(*ids, is_over=draw(st.booleans()) and bool(ids), was_read=draw(st.booleans()))


@given(cursor=st.builds(Cursor, epochs, st.integers(0, 12)), log=logs())
def test_every_cursor_is_answered_and_its_gap_leads_to_where_no_gap_is(cursor: Cursor, log: Extent) -> None:
    answer = resolve(cursor, log)
    first_seq, last = log.lineage.first_seq, log.lineage.last
    if isinstance(answer, Finished):
        assert cursor == last
    elif isinstance(answer, Hold):
        assert not log.is_over
        assert cursor > last
        assert not log.was_read or cursor.epoch == last.epoch or not log.lineage
    elif answer.gap is None:
        is_before_epoch = log.lineage.contains(Cursor(cursor.epoch, cursor.seq + 1))
        assert log.lineage.contains(cursor) or cursor.seq in (0, first_seq - 1) or is_before_epoch
    else:
        assert answer.gap.at == answer.after
        # A browser that reconnects with the gap's id must not receive the same gap twice.
        second = resolve(answer.gap.at, log)
        assert isinstance(second, Follow)
        assert (second.after.seq, second.gap) == (answer.after.seq, None)
