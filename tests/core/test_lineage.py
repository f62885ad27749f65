"""The lineage holds every id of a stream in a few numbers, and finds where two of them part."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broadcaster.core.cursor import START, Cursor
from broadcaster.core.lineage import Lineage


def lineage_of(ids: list[Cursor]) -> Lineage:
    lineage = Lineage()
    for cursor in ids:
        lineage.append(cursor)
    return lineage


@st.composite
def logs(draw: st.DrawFn) -> list[Cursor]:
    """Dense ids with rising epochs, from any first seq."""
    first_seq = draw(st.integers(1, 5))
    steps = draw(st.lists(st.sampled_from([0, 0, 0, 1, 3]), max_size=12))
    epoch, ids = draw(st.integers(0, 3)), []
    for at, step in enumerate(steps):
        epoch += step
        ids.append(Cursor(epoch, first_seq + at))
    return ids


def test_an_empty_lineage_ends_at_the_start() -> None:
    lineage = Lineage()

    assert (lineage.last, lineage.first_seq, len(lineage), lineage.runs) == (START, 0, 0, ())
    assert not lineage.contains(START)


def test_thousands_of_ids_of_one_attempt_are_one_run() -> None:
    lineage = Lineage()
    lineage.extend(Cursor(7, 1), count=50_000)

    assert lineage.runs == ((7, 1),)
    assert lineage.last == Cursor(7, 50_000)
    assert len(lineage) == 50_000


def test_a_lineage_may_begin_behind_a_trim() -> None:
    lineage = lineage_of([Cursor(3, 40), Cursor(3, 41)])

    assert lineage.first_seq == 40
    assert not lineage.contains(Cursor(3, 39))


@pytest.mark.parametrize(
    ("first", "count"),
    [(Cursor(2, 4), 1), (Cursor(2, 6), 1), (Cursor(1, 5), 1), (Cursor(2, 5), 0)],
    ids=["seq again", "seq further on", "older epoch", "nothing"],
)
def test_ids_out_of_order_are_refused(first: Cursor, count: int) -> None:
    lineage = Lineage()
    lineage.extend(Cursor(2, 1), count=4)

    with pytest.raises(ValueError):
        lineage.extend(first, count=count)
    assert lineage.last == Cursor(2, 4)


@given(logs())
def test_a_lineage_holds_exactly_the_ids_that_were_added(ids: list[Cursor]) -> None:
    lineage = lineage_of(ids)

    nearby = [Cursor(epoch, seq) for epoch in range(12) for seq in range(20)]
    assert [cursor for cursor in nearby if lineage.contains(cursor)] == sorted(set(ids) & set(nearby))
    assert {cursor.seq: lineage.epoch_at(cursor.seq) for cursor in ids} == {seq: epoch for epoch, seq in ids}
    assert len(lineage) == len(ids)


@given(logs())
def test_a_seq_it_does_not_hold_has_no_epoch(ids: list[Cursor]) -> None:
    lineage = lineage_of(ids)
    outside = {0, lineage.first_seq - 1, lineage.last.seq + 1} - {cursor.seq for cursor in ids}

    for seq in outside:
        with pytest.raises(KeyError):
            lineage.epoch_at(seq)


@given(logs(), st.data())
def test_keeping_through_an_id_leaves_what_was_added_up_to_it(ids: list[Cursor], data: st.DataObject) -> None:
    lineage = lineage_of(ids)
    kept = data.draw(st.integers(0, len(ids)))
    keep = ids[kept - 1] if kept else START

    lineage.keep_through(keep)

    assert lineage.runs == lineage_of(ids[:kept]).runs
    assert lineage.last == keep


def test_keeping_through_an_id_it_does_not_hold_is_refused() -> None:
    lineage = lineage_of([Cursor(1, 1), Cursor(2, 2)])

    with pytest.raises(ValueError):
        lineage.keep_through(Cursor(1, 2))


@given(logs(), st.data())
def test_two_lineages_agree_up_to_where_one_was_continued_by_a_newer_epoch(
    ids: list[Cursor], data: st.DataObject
) -> None:
    """Everything that can happen to a log: cut short, continued by a newer epoch, trimmed in front."""
    cut = data.draw(st.integers(0, len(ids)))
    newer = max((epoch for epoch, _ in ids), default=0) + 1
    begin = ids[cut - 1].seq + 1 if cut else 1
    other_ids = ids[:cut] + [Cursor(newer, begin + at) for at in range(data.draw(st.integers(0, 4)))]
    other_ids = other_ids[data.draw(st.integers(0, len(other_ids))) :]

    common = lineage_of(ids).common_prefix(lineage_of(other_ids))

    assert common == max(set(ids) & set(other_ids), default=START)
    assert common == lineage_of(other_ids).common_prefix(lineage_of(ids))


@given(logs(), st.integers(1, 3))
def test_beyond_its_bound_it_keeps_the_newest_ids_and_knows_them_as_before(ids: list[Cursor], kept_runs: int) -> None:
    bounded, whole = Lineage(kept_runs=kept_runs), lineage_of(ids)
    for cursor in ids:
        bounded.append(cursor)

    assert len(bounded.runs) <= 2 * kept_runs
    assert bounded.runs == whole.runs[len(whole.runs) - len(bounded.runs) :]
    assert len(bounded.runs) >= min(kept_runs, len(whole.runs))
    assert bounded.last == whole.last
