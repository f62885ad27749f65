"""The UsagePort in memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from broadcaster.errors import BudgetSpent
from broadcaster.log.access.daily_usage import UsageRow


@dataclass
class MemoryUsage:
    """``tokens``: what each credential has spent today."""

    tokens: dict[str, int] = field(default_factory=dict)

    async def spent(self, tenant: str, credential: str) -> int:
        return self.tokens.get(credential, 0)

    async def admit(self, tenant: str, credential: str, *, tokens_per_day: int) -> None:
        if await self.spent(tenant, credential) >= tokens_per_day:
            raise BudgetSpent("the budget is spent", retry_after_s=3600.5)

    async def read(self, tenant: str, *, days: int) -> Sequence[UsageRow]:
        return [UsageRow("2026-11-23", each, "m", tokens) for each, tokens in self.tokens.items()]
