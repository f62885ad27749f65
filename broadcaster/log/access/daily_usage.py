"""Tokens by tenant, credential, model and day: what workers count at the end of each attempt, and what budgets bound.

Rules
1. A day is one of UTC, by the clock of the process that counts or asks. One reading of it judges and times a refusal.
2. An attempt counts once, after its end, with the newest counts of its provider, or with their estimate. One whose
   worker is killed before that does not count. Its input includes what was read from a cache or written to one.
3. A budget is checked before a generation is created. What runs already is not bounded by it: a key may spend more than
   its budget by what its running generations take.
4. A day has at most ``MAX_ROWS`` rows of a tenant, and is kept for ``KEEP_DAYS``.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NamedTuple

from broadcaster.core.events import Usage
from broadcaster.errors import BudgetSpent
from broadcaster.log.redis.connect import LogConnection, log_errors, reply_to
from broadcaster.log.redis.scripts import SCRIPTS

MAX_ROWS: Final = 1000
KEEP_DAYS: Final = 35

_DAY_S: Final = 86_400
# More than any answer has: a provider's wrong count must not overflow a sum.
_MOST_TOKENS: Final = 10**9
_MAX_NAME_CHARS: Final = 128
_NO_CREDENTIAL: Final = "-"
_FIELDS: Final = {"i": "input_tokens", "o": "output_tokens", "n": "requests", "e": "estimated_requests"}


class Spender(NamedTuple):
    """Whose tokens they are, and of which model."""

    tenant: str
    credential: str
    model: str


class UsageRow(NamedTuple):
    """What one credential spent on one model in a day. ``requests`` are attempts; some have estimated counts."""

    day: str
    credential: str
    model: str
    input_tokens: int = 0
    output_tokens: int = 0
    requests: int = 0
    estimated_requests: int = 0


class DailyUsage:
    """Every method raises LogUnavailable while Redis cannot answer."""

    def __init__(self, connection: LogConnection, *, clock: Callable[[], float] = time.time) -> None:
        """``clock``: Unix time in seconds."""
        self._redis = connection.redis
        self._keys = connection.keys
        self._clock = clock

    async def add(self, spender: Spender, usage: Usage | None) -> None:
        """Count an attempt that has ended; ``usage`` None: its provider was never reached."""
        counts = (0, 0) if usage is None else (_input_tokens(usage), _tokens(usage.output_tokens))
        is_estimated = usage is not None and usage.estimated
        key = self._keys.usage(spender.tenant, _day(self._clock()))
        names = (spender.credential or _NO_CREDENTIAL, spender.model[:_MAX_NAME_CHARS])
        keep_ms = KEEP_DAYS * _DAY_S * 1000
        await SCRIPTS["usage_add"].run(self._redis, [key], *names, *counts, int(is_estimated), keep_ms, MAX_ROWS)

    async def spent(self, tenant: str, credential: str) -> int:
        """The tokens that a credential has spent today."""
        return await self._spent(tenant, credential, day=_day(self._clock()))

    async def admit(self, tenant: str, credential: str, *, tokens_per_day: int) -> None:
        """Raises BudgetSpent if the credential has spent its budget of today."""
        now_s = self._clock()
        spent = await self._spent(tenant, credential, day=_day(now_s))
        if spent < tokens_per_day:
            return
        if _day(self._clock()) != _day(now_s):  # midnight came before Redis's reply: the new day's budget counts
            await self.admit(tenant, credential, tokens_per_day=tokens_per_day)
            return
        raise BudgetSpent(
            f"{spent} tokens were spent today of a budget of {tokens_per_day} (tokens_per_day of the key, or "
            "BUDGET_TOKENS_PER_DAY); the next day begins at 00:00 UTC",
            retry_after_s=_DAY_S - now_s % _DAY_S,
        )

    async def read(self, tenant: str, *, days: int) -> Sequence[UsageRow]:
        """The rows of the newest days, the newest day first."""
        now_s = self._clock()
        names = [_day(now_s, before=before) for before in range(days)]
        with log_errors():
            found = [await reply_to(self._redis.hgetall(self._keys.usage(tenant, day))) for day in names]
        return [row for day, fields in zip(names, found, strict=True) for row in _rows(day, fields)]

    async def _spent(self, tenant: str, credential: str, *, day: str) -> int:
        key, field = self._keys.usage(tenant, day), f"t {credential or _NO_CREDENTIAL}"
        return int(await reply_to(self._redis.hget(key, field)) or 0)


def _day(now_s: float, *, before: int = 0) -> str:
    return (datetime.fromtimestamp(now_s, tz=UTC) - timedelta(days=before)).strftime("%Y-%m-%d")


def _input_tokens(usage: Usage) -> int:
    """Rule 2."""
    return sum(map(_tokens, (usage.input_tokens, usage.cached_input_tokens, usage.cache_write_input_tokens)))


def _tokens(count: float | None) -> int:
    return 0 if count is None or not math.isfinite(count) else min(max(0, int(count)), _MOST_TOKENS)


def _rows(day: str, fields: dict[bytes, bytes]) -> Sequence[UsageRow]:
    rows: dict[tuple[str, str], dict[str, Any]] = {}
    for name, value in fields.items():
        kind, _, rest = name.decode().partition(" ")
        credential, _, model = rest.partition(" ")
        if kind in _FIELDS:
            rows.setdefault((credential, model), {})[_FIELDS[kind]] = int(value)
    return [UsageRow(day, *names, **counts) for names, counts in sorted(rows.items())]
