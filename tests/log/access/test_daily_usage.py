"""Tokens by day: counted once for each attempt, bounded in rows, and held against a budget until midnight of UTC."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

import pytest

from broadcaster.core.events import Usage
from broadcaster.errors import BudgetSpent
from broadcaster.log.access import daily_usage
from broadcaster.log.access.daily_usage import DailyUsage, Spender, UsageRow
from broadcaster.log.redis.connect import LogConnection

KEY, OTHER = "key:0123456789abcdef", "key:fedcba9876543210"
MIDNIGHT = datetime(2026, 11, 24, tzinfo=UTC).timestamp()


@dataclass
class Clock:
    now_s: float = MIDNIGHT - 90.5

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def usage(connection: LogConnection, clock: Clock) -> DailyUsage:
    return DailyUsage(connection, clock=clock)


async def test_attempts_are_summed_by_credential_and_model(usage: DailyUsage) -> None:
    for spender, counts in (
        (Spender("web", KEY, "gpt 4"), Usage(input_tokens=10, output_tokens=5)),
        (Spender("web", KEY, "gpt 4"), Usage(input_tokens=1, output_tokens=2, estimated=True)),
        (Spender("web", KEY, "claude"), Usage(input_tokens=None, output_tokens=3)),
        (Spender("web", OTHER, "claude"), None),
        (Spender("jobs", KEY, "claude"), Usage(input_tokens=1000)),
        (Spender("web", "", "m"), Usage(output_tokens=10**30)),
    ):
        await usage.add(spender, counts)
    day = "2026-11-23"
    assert await usage.read("web", days=1) == [
        UsageRow(day, "-", "m", 0, 10**9, 1, 0),
        UsageRow(day, KEY, "claude", 0, 3, 1, 0),
        UsageRow(day, KEY, "gpt 4", 11, 7, 2, 1),
        UsageRow(day, OTHER, "claude", 0, 0, 1, 0),
    ]
    assert [await usage.spent("web", each) for each in (KEY, OTHER, "")] == [21, 0, 10**9]


async def test_the_input_includes_what_was_read_from_a_cache_or_written_to_one(usage: DailyUsage) -> None:
    await usage.add(Spender("web", KEY, "m"), Usage(input_tokens=3, cache_write_input_tokens=200_000, output_tokens=1))
    await usage.add(Spender("web", KEY, "m"), Usage(input_tokens=3, cached_input_tokens=200_000, output_tokens=1))
    (row,) = await usage.read("web", days=1)
    assert (row.input_tokens, row.output_tokens) == (400_006, 2)
    with pytest.raises(BudgetSpent, match="400008 tokens were spent today"):
        await usage.admit("web", KEY, tokens_per_day=400_000)


async def test_a_budget_admits_until_it_is_spent_and_once_more_on_the_next_day(usage: DailyUsage, clock: Clock) -> None:
    with pytest.raises(BudgetSpent):
        await usage.admit("web", KEY, tokens_per_day=0)
    await usage.add(Spender("web", KEY, "m"), Usage(input_tokens=60, output_tokens=39))
    await usage.admit("web", KEY, tokens_per_day=100)
    await usage.add(Spender("web", KEY, "other"), Usage(output_tokens=1))
    with pytest.raises(BudgetSpent, match="100 tokens were spent today of a budget of 100") as refused:
        await usage.admit("web", KEY, tokens_per_day=100)
    assert refused.value.retry_after_s == 90.5
    await usage.admit("web", OTHER, tokens_per_day=100)
    await usage.admit("jobs", KEY, tokens_per_day=100)
    clock.now_s = MIDNIGHT
    await usage.admit("web", KEY, tokens_per_day=100)
    assert [row.day for row in await usage.read("web", days=2)] == ["2026-11-23"] * 2
    assert await usage.read("web", days=1) == []


async def test_a_budget_that_is_judged_over_midnight_counts_for_the_new_day(connection: LogConnection) -> None:
    before = DailyUsage(connection, clock=lambda: MIDNIGHT - 0.25)
    await before.add(Spender("web", KEY, "m"), Usage(input_tokens=100))
    at_midnight = iter((MIDNIGHT - 0.25, MIDNIGHT + 0.25))
    usage = DailyUsage(connection, clock=lambda: next(at_midnight, MIDNIGHT + 0.5))
    await usage.admit("web", KEY, tokens_per_day=100)
    at_midnight = iter((MIDNIGHT - 0.25,))
    with pytest.raises(BudgetSpent, match="0 tokens were spent today of a budget of 0") as refused:
        await usage.admit("web", KEY, tokens_per_day=0)
    assert refused.value.retry_after_s == 86_399.5


async def test_the_days_that_are_read_are_those_of_one_moment(connection: LogConnection) -> None:
    for now_s in (MIDNIGHT - 1, MIDNIGHT + 1):
        await DailyUsage(connection, clock=Clock(now_s)).add(Spender("web", KEY, "m"), None)
    clock = iter((MIDNIGHT - 1,))
    usage = DailyUsage(connection, clock=lambda: next(clock, MIDNIGHT + 1))
    assert [row.day for row in await usage.read("web", days=2)] == ["2026-11-23"]
    assert [row.day for row in await usage.read("web", days=2)] == ["2026-11-24", "2026-11-23"]


async def test_rows_beyond_the_bound_are_counted_together(usage: DailyUsage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(daily_usage, "MAX_ROWS", 2)
    for number in range(20):
        await usage.add(Spender("web", KEY, f"m-{number}"), Usage(output_tokens=1))
    await usage.add(Spender("web", KEY, "m-0"), Usage(output_tokens=1))
    rows = {row.model: row.output_tokens for row in await usage.read("web", days=1)}
    assert rows == {"m-0": 2, "m-1": 1, "other": 18}
    assert await usage.spent("web", KEY) == 21


async def test_a_day_is_forgotten_after_its_time(usage: DailyUsage, connection: LogConnection) -> None:
    await usage.add(Spender("web", KEY, "m" * 5000), Usage(output_tokens=1))
    left_ms = await connection.redis.pttl(connection.keys.usage("web", "2026-11-23"))
    assert 34 * 86_400_000 < left_ms <= 35 * 86_400_000
    (row,) = await usage.read("web", days=1)
    assert len(row.model) == 128
