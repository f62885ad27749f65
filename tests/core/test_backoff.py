"""The one back-off of everything that retries."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broadcaster.core.backoff import BackOff


def test_a_pause_doubles_with_each_failure_up_to_its_cap() -> None:
    assert [BackOff(0.05, 0.8).pause_s(failures, luck=1) for failures in range(1, 7)] == [0.05, 0.1, 0.2, 0.4, 0.8, 0.8]


@pytest.mark.parametrize(("luck", "share"), [(0, 0.75), (0.5, 1), (1, 1.25)])
def test_jitter_is_drawn_between_its_two_bounds(luck: float, share: float) -> None:
    assert BackOff(4, 60, least=0.75, most=1.25).pause_s(2, luck=luck) == 8 * share


@given(st.integers(1, 10**6), st.floats(0, 1), st.sampled_from([2.0, 4.0]))
def test_no_number_of_failures_exceeds_the_cap(failures: int, luck: float, factor: float) -> None:
    assert 0.05 <= BackOff(0.1, 30, factor=factor).pause_s(failures, luck=luck) <= 30
