"""The course of an answer's tries: bounded in number and in waiting, and never on after what is for good."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broadcaster.core.providers.retrying import Course, Retry, RetryBounds
from broadcaster.errors import ProviderFailed

BOUNDS = RetryBounds(retries=2, cap_s=20)
KEY_TROUBLE = ("provider_rate_limited", "provider_auth")
REASONS = (*KEY_TROUBLE, "provider_overloaded", "provider_timeout", "provider_bad_request", "provider_unreachable")

failures = st.builds(
    ProviderFailed,
    st.just("no"),
    reason=st.sampled_from(REASONS),
    retryable=st.booleans(),
    retry_after_s=st.none() | st.floats(0, 1e6),
)


def failed(reason: str = "provider_overloaded", *, retryable: bool = True, requested_s: float | None = None):
    return ProviderFailed("no", reason=reason, retryable=retryable, retry_after_s=requested_s)


def after(
    course: Course, failure: ProviderFailed, *, has_other_key: bool = False, luck: float = 0.5, left_s: float = 99
):
    return course.after(failure, luck=luck, has_other_key=has_other_key, left_s=left_s)


def walk(course: Course, met: Sequence[ProviderFailed], **how) -> list[tuple[int, float] | str]:
    """The target and the pause of each step, and at last the reason."""
    found: list[tuple[int, float] | str] = []
    for failure in met:
        step = after(course, failure, **how)
        if isinstance(step, ProviderFailed):
            return [*found, step.reason]
        course = step.course
        found.append((course.target, step.pause_s))
    return found


@given(
    st.integers(0, 5),
    st.floats(0.01, 600),
    st.lists(st.integers(1, 4), min_size=1, max_size=4),
    st.lists(st.tuples(failures, st.floats(0, 1), st.floats(0, 1e4)), min_size=100, max_size=100),
)
def test_tries_and_pauses_are_bounded_whatever_happens(
    retries: int, cap_s: float, keys: list[int], expected: list[tuple[ProviderFailed, float, float]]
) -> None:
    course = Course(RetryBounds(retries, cap_s), len(keys))
    fresh, waited_s = keys[0] - 1, 0.0
    for failure, luck, left_s in expected:
        step = after(course, failure, has_other_key=fresh > 0, luck=luck, left_s=left_s)
        if isinstance(step, ProviderFailed):
            break
        assert 0 <= step.pause_s <= min(cap_s, left_s)
        waited_s += step.pause_s
        if step.course.target != course.target:
            fresh = keys[step.course.target] - 1
        elif fresh > 0 and failure.reason in KEY_TROUBLE:
            fresh -= 1
        course = step.course
    else:
        raise AssertionError("no end")
    assert course.tries <= sum(1 + retries + count - 1 for count in keys)
    assert waited_s <= len(keys) * retries * cap_s


@given(st.floats(0, 1), st.floats(0, 20))
def test_a_pause_that_the_provider_requests_is_kept_up_to_the_cap(luck: float, requested_s: float) -> None:
    step = after(Course(BOUNDS, 1), failed("provider_rate_limited", requested_s=requested_s), luck=luck)
    assert isinstance(step, Retry)
    assert requested_s <= step.pause_s <= min(20, requested_s + 0.25)


def test_a_pause_is_drawn_from_twice_as_much_each_time() -> None:
    assert [BOUNDS.pause_s(n, luck=1, requested_s=None, left_s=99) for n in range(8)] == [0.5, 1, 2, 4, 8, 16, 20, 20]
    assert BOUNDS.pause_s(3, luck=0, requested_s=None, left_s=99) == 0
    assert BOUNDS.pause_s(10_000, luck=1, requested_s=None, left_s=99) == 20


def test_a_target_has_its_tries_and_then_the_next_one_has_as_many() -> None:
    assert walk(Course(BOUNDS, 2), [failed()] * 9, luck=1) == [
        (0, 0.5), (0, 1.0), (1, 0.0), (1, 0.5), (1, 1.0), "provider_overloaded",
    ]  # fmt: skip


def test_a_provider_that_wants_more_than_we_wait_is_passed_over_at_once() -> None:
    assert walk(Course(BOUNDS, 2), [failed("provider_rate_limited", requested_s=20.1)]) == [(1, 0.0)]
    assert walk(Course(BOUNDS, 2), [failed("provider_rate_limited", requested_s=5)], left_s=4) == [(1, 0.0)]


def test_without_another_target_the_failure_has_the_requested_pause_and_the_number_of_tries() -> None:
    course = Course(BOUNDS, 1, tries=3, retried=1)
    step = after(course, failed("provider_rate_limited", requested_s=3600))
    assert isinstance(step, ProviderFailed)
    assert step.detail == "no; it asks for a pause of 3600 s, longer than we wait; tried 3 times"
    assert (step.reason, step.retry_after_s) == ("provider_rate_limited", 3600)


def test_a_failure_after_one_try_is_reported_unchanged() -> None:
    step = after(Course(BOUNDS, 1), failed("provider_bad_request", retryable=False))
    assert isinstance(step, ProviderFailed)
    assert step.detail == "no"


def test_a_reported_failure_names_the_request_of_the_last_try() -> None:
    failure = failed("provider_bad_request", retryable=False)
    failure.request_id = "req_1"
    step = after(Course(BOUNDS, 1, tries=2), failure)
    assert isinstance(step, ProviderFailed)
    assert step.request_id == "req_1"


@pytest.mark.parametrize("reason", KEY_TROUBLE)
def test_trouble_with_a_key_costs_no_pause_while_another_key_is_ready(reason: str) -> None:
    step = after(Course(BOUNDS, 1), failed(reason, retryable=False, requested_s=9), has_other_key=True)
    assert isinstance(step, Retry)
    assert (step.pause_s, step.course.retried, step.course.tries) == (0, 0, 2)


def test_other_trouble_is_not_the_keys() -> None:
    assert walk(Course(BOUNDS, 1), [failed()], has_other_key=True, luck=1) == [(0, 0.5)]


def test_refused_credentials_lead_to_the_next_target_and_a_refused_request_nowhere() -> None:
    assert walk(Course(BOUNDS, 2), [failed("provider_auth", retryable=False)]) == [(1, 0.0)]
    assert walk(Course(BOUNDS, 2), [failed("provider_unreachable", retryable=False)]) == [(1, 0.0)]
    assert walk(Course(BOUNDS, 2), [failed("provider_bad_request", retryable=False)]) == ["provider_bad_request"]


def test_a_provider_that_marks_a_failure_as_retryable_is_believed() -> None:
    assert walk(Course(BOUNDS, 2), [failed("provider_bad_request")], luck=1) == [(0, 0.5)]
    assert walk(Course(BOUNDS, 2), [failed("provider_overloaded", retryable=False)]) == [(1, 0.0)]
