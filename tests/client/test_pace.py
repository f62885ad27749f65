"""When a reader retries and when it gives up."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from broadcaster.client.pace import FIRST_DELAY_S, JITTER, MAX_DELAY_S, Pace


def failing(pace: Pace, times: int, *, requested_s: float | None = None, dice: float = 0.0) -> list[float | None]:
    return [pace.next_delay(0, requested_s=requested_s, dice=dice) for _ in range(times)]


def test_delays_double_from_the_servers_delay_up_to_the_bound():
    assert failing(Pace(give_up_after_s=60, now=0), 6, requested_s=1.0) == [1, 2, 4, 8, MAX_DELAY_S, MAX_DELAY_S]


def test_without_a_requested_delay_the_first_one_is_short():
    assert failing(Pace(give_up_after_s=60, now=0), 2) == [FIRST_DELAY_S, 2 * FIRST_DELAY_S]


def test_a_requested_delay_longer_than_the_bound_is_honoured():
    assert failing(Pace(give_up_after_s=60, now=0), 2, requested_s=30.0) == [30, 30]


def test_chance_only_adds_to_the_delay():
    assert failing(Pace(give_up_after_s=60, now=0), 1, requested_s=2.0, dice=0.5) == [2.0 * (1 + JITTER / 2)]


def test_the_last_try_is_at_the_deadline_and_none_after_it():
    pace = Pace(give_up_after_s=60, now=100)
    assert pace.next_delay(155, requested_s=30.0, dice=0.9) == 5
    assert pace.next_delay(160, requested_s=30.0, dice=0.9) is None


def test_progress_restarts_the_clock_and_the_delays():
    pace = Pace(give_up_after_s=60, now=0)
    failing(pace, 5)
    pace.progressed(59)
    assert pace.next_delay(118, requested_s=0.25, dice=0) == 0.25


def test_bytes_are_progress_only_on_a_connection_that_has_held():
    pace = Pace(give_up_after_s=60, now=0)
    pace.connected(10)
    pace.received(15.9)
    assert pace.next_delay(60, requested_s=None, dice=0) is None
    pace.received(16)
    assert pace.next_delay(60, requested_s=None, dice=0) is not None


@given(st.lists(st.floats(0, 1e6), max_size=2000), st.floats(0.01, 1e4))
def test_without_progress_the_tries_end_whatever_delay_the_server_requests(requested, give_up_after_s):
    pace, now = Pace(give_up_after_s=give_up_after_s, now=0.0), 0.0
    for requested_s in requested:
        delay_s = pace.next_delay(now, requested_s=requested_s, dice=0.5)
        if delay_s is None:
            assert now >= give_up_after_s
            return
        assert 0 <= delay_s <= give_up_after_s
        now += delay_s
    assert now <= give_up_after_s * (1 + 1e-9)
