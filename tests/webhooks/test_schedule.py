"""What answers mean and how long we wait."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broadcaster.webhooks.schedule import BACK_OFF_MOST_S, DeliveryVerdict, back_off_s, longest_s, verdict_of


@pytest.mark.parametrize(
    ("verdict", "statuses"),
    [
        (DeliveryVerdict.DELIVERED, [200, 201, 202, 204, 299]),
        (DeliveryVerdict.RETRY, [408, 409, 425, 429, 500, 502, 503, 504, 529, 599]),
        (DeliveryVerdict.GIVE_UP, [301, 302, 303, 307, 308, 304, 400, 401, 403, 404, 405, 410, 413, 422, 451]),
    ],
)
def test_every_status_has_its_verdict(verdict: DeliveryVerdict, statuses: list[int]) -> None:
    assert {verdict_of(status) for status in statuses} == {verdict}


def test_each_wait_is_four_times_the_last_up_to_ten_minutes() -> None:
    waits = [back_off_s(attempt, luck=0.5) for attempt in range(1, 9)]
    assert waits == [1, 4, 16, 64, 256, 600, 600, 600]


@given(st.integers(1, 10_000), st.floats(0, 1), st.floats(0, 1e9))
def test_a_wait_is_at_least_what_was_requested_and_never_beyond_its_bound(
    attempt: int, luck: float, requested_s: float
):
    wait_s = back_off_s(attempt, luck=luck, requested_s=requested_s)
    assert min(requested_s, BACK_OFF_MOST_S) <= wait_s <= BACK_OFF_MOST_S
    assert wait_s >= 0.75


@given(st.integers(1, 50))
def test_the_retention_of_a_generation_covers_every_wait(attempts: int) -> None:
    waits_s = sum(back_off_s(attempt, luck=1, requested_s=1e9) for attempt in range(1, attempts))
    assert longest_s(attempts, timeout_s=10) > waits_s + attempts * 10
