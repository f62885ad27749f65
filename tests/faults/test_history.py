"""The checker of histories: good ones pass, and whatever spoils one is found, by the rule that is there for it."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable
from itertools import count, islice
from types import FrameType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broadcaster.core.cursor import Cursor
from broadcaster.core.entry import Entry
from tests.faults.chance import change_by_chance
from tests.faults.history import Acked, Closed, Got, Happening, History, Noticed, Opened, Rule, ViewerTrace, check, lost
from tests.faults.model import STREAM, good_history
from tests.faults.redis.corruptions import NAMED, copied

SEEDS = st.integers(0, 2**32)
END = b'{"type":"finish"}'


@given(SEEDS)
@settings(max_examples=300, deadline=None)
def test_whatever_the_model_of_the_system_does_its_history_is_accepted(seed: int) -> None:
    assert check(good_history(random.Random(seed))) == []


@pytest.mark.parametrize(("spoil", "rule"), NAMED.items(), ids=lambda each: getattr(each, "__name__", each))
def test_each_named_corruption_is_rejected_by_its_rule(
    spoil: Callable[[History, random.Random], bool], rule: Rule
) -> None:
    spoiled = (history for seed in count() if (history := _spoiled(spoil, seed)) is not None)
    for history in islice(spoiled, 20):
        assert rule in {violation.rule for violation in check(history)}


def _spoiled(spoil: Callable[[History, random.Random], bool], seed: int) -> History | None:
    rng = random.Random(seed)
    history = copied(good_history(rng))
    return history if spoil(history, rng) else None


@given(SEEDS, SEEDS)
@settings(max_examples=500, deadline=None)
def test_any_one_change_by_chance_is_rejected_unless_it_is_harmless(seed: int, chance: int) -> None:
    history = copied(good_history(random.Random(seed)))
    is_harmless = change_by_chance(history, random.Random(chance))
    assert (check(history) == []) == is_harmless


def test_every_rule_is_there_for_some_named_corruption() -> None:
    assert set(NAMED.values()) == set(Rule.__args__)  # type: ignore[attr-defined]


def test_a_history_without_any_entry_for_a_viewer_that_left_is_good_but_for_the_open_log() -> None:
    trace = ViewerTrace(STREAM, [Opened(None, 200), Noticed("hub.hello", b"{}", None), Closed("left")])
    (violation,) = check(History([], {"v": trace}, {STREAM: []}))
    assert (violation.rule, violation.viewer) == ("one_terminal", None)


def test_a_cursor_of_a_log_that_was_created_anew_is_answered_with_a_gap_without_a_range() -> None:
    log = [Entry(9, 4, b'{"type":"text-start","id":"0"}'), Entry(9, 5, END)]
    happenings: list[Happening] = [
        Opened("5-2", 200),
        Noticed("hub.gap", b'{"reason":"reset","from":0,"to":0}', "9-3"),
        *(Got(str(entry.cursor), entry.event) for entry in log),
        Closed("clean"),
    ]
    viewers = {"v": ViewerTrace(STREAM, happenings)}
    assert check(History([], viewers, {STREAM: log}, trimmed=frozenset({STREAM}))) == []


def test_a_lost_entry_is_a_violation_unless_redis_was_made_to_lose_it_and_is_counted() -> None:
    event = b'{"type":"text-start","id":"0"}'
    log = [Entry(7, 1, b'{"type":"attempt","attempt":2}'), Entry(7, 2, END)]
    history = History([Acked(STREAM, 5, 1, (event, event)), Acked(STREAM, 7, 2, (END,))], {}, {STREAM: log})
    assert [violation.rule for violation in check(history)] == ["acked_delivered_or_declared"] * 2
    history.is_lossy = True
    assert check(history) == []
    assert lost(history) == [(STREAM, Cursor(5, 1)), (STREAM, Cursor(5, 2))]


def test_a_history_twice_as_long_takes_about_twice_as_many_steps_to_check() -> None:
    def steps(length: int) -> int:
        log = [Entry(1, seq, b'{"type":"text-start","id":"0"}') for seq in range(1, length)] + [Entry(1, length, END)]
        acked = [Acked(STREAM, entry.epoch, entry.seq, (entry.event,)) for entry in log]
        got = [Got(str(entry.cursor), entry.event) for entry in log]
        history = History(acked, {"v": ViewerTrace(STREAM, [Opened(None, 200), *got])}, {STREAM: log})
        lines = 0

        def count_line(frame: FrameType, event: str, argument: object) -> Any:
            nonlocal lines
            lines += 1
            return count_line

        before = sys.gettrace()
        sys.settrace(count_line)
        try:
            violations = check(history)
        finally:
            sys.settrace(before)
        assert violations == []
        return lines

    assert 4_000 < steps(4_000) < 2.1 * steps(2_000)
