"""The splice: replay becomes live with no gap and no double, in whatever order pushes, reads and losses come."""

from __future__ import annotations

import random
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broadcaster.core.continuity import Push
from broadcaster.core.cursor import START, Cursor
from broadcaster.core.entry import Entry
from broadcaster.core.notices import Gap, GapReason
from broadcaster.core.splice import CaughtUp, Deliver, Rewound, Splice
from tests.support.log.splice_world import DELTA, FINISH, World, entries, entry, every_end, live_splice, push

# ------------------------------------------------------------------------------------------------ every order of events


@pytest.mark.parametrize(
    "plan",
    [
        ("a", "a", "b", "z"),
        ("b", "a", "e", "a"),
        ("a", "p", "a", "z"),
        ("a", "q", "a", "q"),
        ("b", "b", "b"),
        ("a", "l", "a", "l", "a"),
        ("a", "a", "f1", "a"),
        ("b", "a", "f2", "b", "z"),
        ("b", "f2", "f1", "a"),
        ("b", "b", "t3", "a"),
        ("b", "a", "t1", "f1", "t1", "a"),
        ("b", "q", "f2", "l", "a"),
        ("a", "e", "o1", "a"),
        ("a", "e", "e", "o2", "e", "a"),
        ("b", "e", "o1", "e", "z"),
        ("b", "e", "t1", "o1", "q", "e"),
    ],
    ids=" ".join,
)
def test_every_order_of_pushes_and_reads_ends_with_the_log_delivered(plan: tuple[str, ...]) -> None:
    for end in every_end(World(plan)):
        end.check_outcome()


@pytest.mark.parametrize(
    "plan",
    [
        ("a", "a", "a", "z"),
        ("a", "b", "e", "a"),
        ("a", "a", "f1", "a"),
        ("a", "b", "f2", "a"),
        ("a", "a", "t1", "a"),
        ("a", "e", "o1", "e"),
    ],
    ids=" ".join,
)
def test_every_order_with_lost_and_doubled_pushes_ends_with_the_log_delivered(plan: tuple[str, ...]) -> None:
    for end in every_end(World(plan, can_lose=True, can_double=True)):
        end.check_outcome()


@pytest.mark.parametrize("bound", [1, 2])
def test_every_order_ends_with_the_log_delivered_when_hardly_a_push_can_be_parked(bound: int) -> None:
    world = World(("a", "b", "a", "f1", "z"), splice=Splice(max_parked_entries=bound))

    for end in every_end(world):
        end.check_outcome()


def test_a_page_of_one_new_entry_makes_no_difference() -> None:
    for end in every_end(World(("b", "a", "f2", "b"), page=2, can_lose=True)):
        end.check_outcome()


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.sampled_from(["a", "b", "p", "q", "e", "l", "f1", "f2", "o1", "o2", "t1", "t2"]), min_size=1, max_size=14
    ),
    st.randoms(use_true_random=False),
    st.integers(2, 5),
    st.integers(1, 8),
)
def test_any_long_order_ends_with_the_log_delivered(
    actions: list[str], rng: random.Random, page: int, bound: int
) -> None:
    world = World(
        _possible(actions), page=page, can_lose=True, can_double=True, splice=Splice(max_parked_entries=bound)
    )

    while choices := world.choices():
        world.happen(rng.choice(choices))
    world.quiesce()

    world.check_outcome()


def _possible(actions: list[str]) -> tuple[str, ...]:
    """Leave out what a log of that length cannot do; it never loses or trims all it has."""
    plan, length = [], 0
    for action in actions:
        number = int(action[1:] or 0)
        if action[0] in "fot" and number >= length:
            continue
        length += {"b": 2, "f": 1 - number, "o": 1 - number, "t": -number, "l": 0}.get(action[0], 1)
        plan.append(action)
    return tuple(plan) or ("a",)


# ------------------------------------------------------------------------------------------------------- rule by rule


def test_entries_parked_during_the_read_follow_it_without_a_double() -> None:
    splice = Splice()
    splice.next_read()
    assert splice.receive(push(1, 2)) == ()
    assert splice.receive(push(1, 3, 2)) == ()

    steps = splice.take(entries(1, 1, 3), is_last=True)

    assert steps == [Deliver(entries(1, 1, 3)), Deliver([entry(1, 4)]), CaughtUp()]
    assert splice.receive(push(1, 5)) == [entry(1, 5)]


def test_a_push_over_a_hole_waits_for_the_log() -> None:
    splice = live_splice(entries(1, 1, 2))

    assert splice.receive(push(1, 4)) == ()
    assert splice.wants_read
    assert splice.next_read() == Cursor(1, 1)
    assert splice.take(entries(1, 2, 4), is_last=True) == [Deliver(entries(1, 3, 4)), CaughtUp()]


def test_a_poke_is_read_from_the_log() -> None:
    splice = live_splice(entries(1, 1, 2))

    assert splice.receive(Push(1, 3, 1)) == ()
    assert splice.wants_read


def test_a_poke_of_what_is_known_costs_no_read() -> None:
    splice = live_splice(entries(1, 1, 2))

    assert splice.receive(Push(1, 1, 2)) == ()
    assert splice.is_live


def test_a_push_that_the_log_has_lost_is_read_for_once_and_then_void() -> None:
    splice = live_splice(entries(1, 1, 2))
    splice.receive(push(1, 5))

    splice.next_read()

    assert splice.take([], is_last=True) == [CaughtUp()]
    assert splice.receive(push(1, 3)) == [entry(1, 3)]


def test_a_push_ahead_that_came_after_the_page_was_requested_requires_another_page() -> None:
    splice = live_splice(entries(1, 1, 2))
    splice.reread()
    splice.next_read()
    splice.receive(push(1, 5))

    assert splice.take([], is_last=True) == []
    assert splice.wants_read


def test_a_connection_that_broke_during_a_read_requires_another_read() -> None:
    splice = Splice()
    splice.next_read()
    splice.reread()

    assert splice.take(entries(1, 1, 2), is_last=True) == [Deliver(entries(1, 1, 2))]
    assert splice.wants_read


def test_more_pushes_than_may_be_parked_are_forgotten_and_read_instead() -> None:
    splice = Splice(max_parked_entries=3)
    splice.next_read()
    for seq in range(1, 6):
        splice.receive(push(1, seq))

    assert splice.take([], is_last=True) == []
    assert splice.next_read() == START
    steps = splice.take(entries(1, 1, 5), is_last=True)
    assert steps == [Deliver(entries(1, 1, 5)), CaughtUp()]


def test_parked_pushes_are_bounded_in_bytes_too() -> None:
    splice = Splice(max_parked_bytes=2 * len(DELTA))
    splice.next_read()
    splice.receive(push(1, 1, 3))

    assert splice.take([], is_last=True) == []
    assert splice.wants_read


def test_a_trimmed_log_gives_the_exact_range_that_is_missing() -> None:
    splice = live_splice(entries(1, 1, 3))
    splice.reread()
    splice.next_read()

    assert splice.take(entries(2, 9, 10), is_last=True) == []
    assert splice.next_read() == START
    assert splice.take(entries(2, 9, 10), is_last=True) == []
    assert splice.next_read() == Cursor(1, 3)
    steps = splice.take(entries(2, 9, 10), is_last=True)

    gap = Gap(GapReason.TRIMMED, at=Cursor(2, 8), first_seq=4, last_seq=8)
    assert steps == [gap, Deliver(entries(2, 9, 10)), CaughtUp()]


def test_a_log_trimmed_between_two_pages_gives_the_gap_in_its_place() -> None:
    splice = Splice()
    splice.next_read()

    steps = splice.take([*entries(1, 1, 2), *entries(1, 6, 6)], is_last=True)

    gap = Gap(GapReason.TRIMMED, at=Cursor(1, 5), first_seq=3, last_seq=5)
    assert steps == [Deliver(entries(1, 1, 2)), gap, Deliver([entry(1, 6)]), CaughtUp()]


def test_a_fork_keeps_what_the_log_still_holds_and_voids_the_rest() -> None:
    splice = live_splice([*entries(1, 1, 3), *entries(2, 4, 6)])
    assert splice.receive(push(3, 5)) == ()
    splice.next_read()
    assert splice.take([entry(3, 5)], is_last=True) == []
    assert splice.next_read() == START

    steps = splice.take([*entries(1, 1, 3), *entries(2, 4, 4), *entries(3, 5, 5)], is_last=True)
    assert steps == [Rewound(Cursor(2, 4))]
    assert splice.next_read() == Cursor(2, 3)
    assert splice.take([entry(2, 4), entry(3, 5)], is_last=True) == [Deliver([entry(3, 5)]), CaughtUp()]


def test_a_log_re_created_from_nothing_voids_everything() -> None:
    splice = live_splice(entries(1, 1, 5))
    splice.reread()
    splice.next_read()
    splice.take(entries(2, 1, 2), is_last=True)
    splice.next_read()

    assert splice.take(entries(2, 1, 2), is_last=True) == [Rewound(START)]
    assert splice.next_read() == START
    assert splice.take(entries(2, 1, 2), is_last=True) == [Deliver(entries(2, 1, 2)), CaughtUp()]


def test_a_fork_whose_first_entries_are_trimmed_gives_the_rewind_and_then_the_gap() -> None:
    splice = live_splice(entries(1, 1, 5))
    splice.reread()
    splice.next_read()
    splice.take(entries(2, 4, 6), is_last=True)
    splice.next_read()

    assert splice.take(entries(2, 4, 6), is_last=True) == [Rewound(START)]
    splice.next_read()
    steps = splice.take(entries(2, 4, 6), is_last=True)
    assert steps[0] == Gap(GapReason.TRIMMED, at=Cursor(2, 3), first_seq=1, last_seq=3)


def test_a_doubt_that_proves_unfounded_voids_nothing() -> None:
    splice = live_splice(entries(1, 1, 5))
    splice.trace()
    splice.next_read()

    assert splice.take(entries(1, 1, 5), is_last=True) == []
    splice.next_read()
    assert splice.take([], is_last=True) == [CaughtUp()]


def test_tracing_stops_at_the_page_where_the_logs_part() -> None:
    splice = live_splice(entries(1, 1, 5))
    splice.trace()
    splice.next_read()

    assert splice.take(entries(1, 1, 2), is_last=False) == []
    assert splice.next_read() == Cursor(1, 2)
    assert splice.take(entries(2, 3, 4), is_last=False) == [Rewound(Cursor(1, 2))]


def test_a_log_trimmed_while_it_is_traced_keeps_what_had_matched() -> None:
    splice = live_splice(entries(1, 1, 9))
    splice.trace()
    splice.next_read()
    assert splice.take(entries(1, 1, 2), is_last=False) == []
    splice.next_read()

    assert splice.take(entries(2, 7, 8), is_last=False) == [Rewound(Cursor(1, 2))]


def test_a_log_that_forks_while_it_is_traced_is_traced_once_more() -> None:
    splice = live_splice(entries(1, 1, 9))
    splice.trace()
    splice.next_read()
    assert splice.take(entries(1, 1, 4), is_last=False) == []
    splice.next_read()

    assert splice.take([entry(2, 3)], is_last=True) == []
    assert splice.next_read() == START
    assert splice.take([*entries(1, 1, 2), entry(2, 3)], is_last=True) == [Rewound(Cursor(1, 2))]


def test_nothing_follows_the_terminal() -> None:
    splice = live_splice(entries(1, 1, 2))

    assert splice.receive(Push(1, 3, 1, (FINISH,))) == [Entry(1, 3, FINISH)]
    assert splice.is_over
    assert splice.receive(push(2, 4)) == ()
    splice.reread()
    assert not splice.wants_read


def test_entries_that_came_by_the_fast_path_are_delivered_and_what_follows_them_is_next() -> None:
    splice = live_splice(entries(1, 1, 2))

    splice.advance(2)
    assert splice.last == Cursor(1, 4)
    assert splice.receive(push(1, 4)) == (), "it was delivered"
    assert splice.receive(push(1, 5)) == [entry(1, 5)]


def test_the_terminal_among_the_parked_ends_it() -> None:
    splice = Splice()
    splice.next_read()
    splice.receive(Push(1, 2, 1, (FINISH,)))

    steps = splice.take([entry(1, 1)], is_last=True)

    assert steps == [Deliver([entry(1, 1)]), Deliver([Entry(1, 2, FINISH)]), CaughtUp()]
    assert splice.is_over


def test_a_newer_epoch_that_replaced_entries_unseen_is_found_out() -> None:
    """1-3 was replaced by 2-3, whose push is lost; the push of 2-4 fits by number and must not be believed."""
    for end in every_end(World(("a", "b", "f1", "a"), can_lose=True)):
        end.check_outcome()


def test_a_thousand_epochs_are_spliced_in_reasonable_time() -> None:
    log = [entry(seq, seq) for seq in range(1, 20_001)]
    splice = Splice()
    splice.next_read()
    began = time.process_time()

    splice.take(log, is_last=True)

    assert time.process_time() - began < 2.0
