"""A provider's keys: calls are spread over those that are ready, and what a key met decides how long it rests."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack

import pytest
from structlog.testing import capture_logs

from broadcaster.errors import ProviderFailed
from worker.providers import keys as keys_module
from worker.providers.keys import Key, ProviderKeys

SECRET = "sk-secret-0123456789"


def three(cooldown_s: float = 30) -> ProviderKeys:
    return ProviderKeys({name: f"{SECRET}-{name}" for name in ("A", "B", "C")}, cooldown_s=cooldown_s)


def limited(requested_s: float | None = None) -> ProviderFailed:
    return ProviderFailed("no", reason="provider_rate_limited", retryable=True, retry_after_s=requested_s)


def refused() -> ProviderFailed:
    return ProviderFailed("no", reason="provider_auth")


def take(keys: ProviderKeys, *, but: tuple[Key, ...] = ()) -> Key:
    """The key of a call that is over at once."""
    with keys.taken(but=but) as key:
        return key


def fail(keys: ProviderKeys, failure: ProviderFailed) -> Key:
    with keys.taken() as key:
        keys.failed(key, failure, provider="p")
    return key


async def test_calls_go_to_the_key_with_the_fewest_of_them():
    keys = three()
    with ExitStack() as calls:
        taken = [calls.enter_context(keys.taken()) for _ in range(7)]
        assert sorted(key.variable for key in taken) == ["A", "A", "A", "B", "B", "C", "C"]
        busy = taken[0]
    assert busy.running == 0


async def test_a_busy_key_is_passed_over_even_if_the_others_were_taken_later():
    keys = three()
    with keys.taken() as busy:
        assert [take(keys).variable for _ in range(4)] == ["B", "C", "B", "C"]
    assert busy.variable == "A"


async def test_of_equally_busy_keys_the_one_that_rested_longest_is_taken():
    keys = three()
    assert [take(keys).variable for _ in range(5)] == ["A", "B", "C", "A", "B"]


async def test_a_call_that_is_left_by_an_error_or_a_cancellation_is_not_counted_any_more():
    keys = three()

    async def call() -> None:
        with keys.taken():
            await asyncio.Event().wait()

    task = asyncio.create_task(call())
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    assert [take(keys).running for _ in range(3)] == [0, 0, 0]


async def test_a_rate_limited_key_rests_and_the_others_are_taken():
    keys = three()
    assert fail(keys, limited()).variable == "A"
    assert [take(keys).variable for _ in range(4)] == ["B", "C", "B", "C"]


@pytest.mark.parametrize(
    ("failure", "rest_s"),
    [(limited(), 30), (limited(2), 2), (limited(1e9), 900), (refused(), 900)],
    ids=["not requested", "requested", "too long", "refused"],
)
async def test_a_key_rests_as_long_as_the_provider_requests_or_the_setting_and_bounded(
    failure: ProviderFailed, rest_s: float
):
    keys = three()
    before = asyncio.get_running_loop().time()
    key = fail(keys, failure)
    assert rest_s <= key.ready_at - before < rest_s + 5


async def test_a_rest_is_not_shortened_by_a_later_failure():
    keys = ProviderKeys({"A": SECRET}, cooldown_s=30)
    ready_at = fail(keys, refused()).ready_at
    assert fail(keys, limited(1)).ready_at == ready_at


async def test_a_key_that_has_rested_is_reused():
    keys = three()
    for _ in range(3):
        fail(keys, limited(0))
    assert keys.has_ready()
    assert take(keys).variable == "A"


async def test_where_no_key_is_ready_the_one_that_will_be_soonest_is_taken():
    keys = three()
    for requested_s in (60, 20, 40):
        fail(keys, limited(requested_s))
    assert not keys.has_ready()
    assert take(keys).variable == "B"


async def test_other_failures_do_not_concern_a_key():
    keys = ProviderKeys({"A": SECRET}, cooldown_s=30)
    fail(keys, ProviderFailed("no", reason="provider_overloaded", retry_after_s=50))
    assert keys.has_ready()


async def test_a_key_that_was_tried_is_taken_only_where_no_other_is_ready():
    keys = three()
    a, b = take(keys), take(keys)
    assert take(keys, but=(a, b)).variable == "C"
    assert keys.has_ready(but=(a, b))
    with keys.taken(but=(a, b)) as c:  # the busiest of all, and still the one
        assert (c.variable, take(keys, but=(a, b)).variable) == ("C", "C")
        keys.failed(c, limited(), provider="p")
    assert not keys.has_ready(but=(a, b))
    assert take(keys, but=(a, b)).variable == "A"


async def test_a_provider_without_keys_of_ours_has_one_that_brings_nothing():
    keys = ProviderKeys(cooldown_s=30)
    assert (len(keys), take(keys).value) == (1, None)
    fail(keys, limited())
    assert not keys.has_ready()
    assert take(keys).value is None


async def test_a_key_is_logged_by_the_name_of_its_variable_and_never_by_its_value():
    keys = three()
    with capture_logs() as logs:
        fail(keys, limited())
        fail(keys, refused())
    assert [(each["event"], each["key"]) for each in logs] == [
        ("provider_key_cools_down", "A"),
        ("provider_key_refused", "B"),
    ]
    assert SECRET not in f"{logs} {take(keys)!r} {vars(keys)}"
    assert keys_module.LONGEST_S == 900
