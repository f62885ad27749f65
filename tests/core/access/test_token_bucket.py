"""The token bucket: bursts of a second, then the rate, however many are taken at once."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from broadcaster.core.access.token_bucket import TokenBucket


@given(
    per_s=st.floats(0.01, 1000),
    calls=st.lists(st.tuples(st.floats(0, 5), st.integers(1, 50)), max_size=60),
)
def test_no_more_is_taken_than_has_flowed_in_beside_one_burst(per_s: float, calls: list[tuple[float, int]]) -> None:
    bucket, now, taken, largest = TokenBucket(per_s, now=0.0), 0.0, 0, 0
    for pause_s, count in calls:
        now += pause_s
        if bucket.take(count, now=now) == 0:
            taken, largest = taken + count, max(largest, count)
    assert taken <= max(1.0, per_s) + largest + now * per_s + 1e-6


@given(per_s=st.floats(0.01, 1000), count=st.integers(1, 5000))
def test_a_caller_that_waits_as_long_as_required_is_admitted(per_s: float, count: int) -> None:
    bucket, wait_s = TokenBucket(per_s, now=0.0), 0.0
    while wait_s == 0:
        wait_s = bucket.take(count, now=0.0)
    assert bucket.take(count, now=wait_s * (1 + 1e-9) + 1e-9) == 0


@given(per_s=st.floats(0.01, 1000), taken=st.integers(1, 50), returned=st.integers(1, 50))
def test_tokens_that_are_returned_can_be_taken_and_never_more_than_a_burst(
    per_s: float, taken: int, returned: int
) -> None:
    bucket = TokenBucket(per_s, now=0.0)
    bucket.take(taken, now=0.0)
    bucket.put_back(returned)
    assert (bucket.wait_s(1, now=0.0) == 0) is (max(1.0, per_s) - taken + returned >= 1 - 1e-9)
    bucket.put_back(10_000)
    assert bucket.take(10_000, now=0.0) == 0
    assert bucket.wait_s(1, now=0.0) > 0


def test_a_refusal_takes_nothing() -> None:
    bucket = TokenBucket(2, now=0.0)
    assert bucket.take(2, now=0.0) == 0
    assert [bucket.take(1, now=0.0) for _ in range(3)] == [0.5, 0.5, 0.5]
    assert bucket.take(1, now=0.5) == 0
