"""How often each tenant may call this front-end, and append to feeds here.

Rules
1. Each front-end counts by itself, in memory: a tenant that calls n front-ends may call n times as often.
2. A refused call takes nothing from the bucket.
3. The tenants of a front-end are those of its keys, so there are only as many buckets as tenants.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field
from typing import Final

from broadcaster.core.access.token_bucket import TokenBucket
from broadcaster.errors import RateLimited
from broadcaster.observability.limits import LimitName, limit_reached

_REQUESTS: Final = "requests"


@dataclass(slots=True, kw_only=True, eq=False)
class TenantRates:
    """``requests_per_s`` and ``appends_per_s`` of one tenant at this front-end; None: any."""

    requests_per_s: float | None = None
    appends_per_s: float | None = None
    _buckets: dict[tuple[str, str], TokenBucket] = field(default_factory=dict, init=False)

    def admit_request(self, tenant: str) -> None:
        """Count a request. Raises RateLimited."""
        self._take(tenant, 1, per_s=self.requests_per_s, what=_REQUESTS, setting="TENANT_REQUESTS_PER_S")

    def admits_request(self, tenant: str) -> bool:
        """Whether a request would be admitted now; it is not counted."""
        bucket = self._buckets.get((_REQUESTS, tenant))
        return self.requests_per_s is None or bucket is None or not bucket.wait_s(1, now=time.monotonic())

    def return_request(self, tenant: str) -> None:
        """A request that was counted will be counted once more: the first time does not count."""
        bucket = self._buckets.get((_REQUESTS, tenant))
        if bucket is not None:
            bucket.put_back(1)

    def admit_append(self, tenant: str, events: int) -> None:
        """Count an append of so many events. Raises RateLimited."""
        self._take(tenant, events, per_s=self.appends_per_s, what="events", setting="TENANT_APPENDS_PER_S")

    def _take(self, tenant: str, count: int, *, per_s: float | None, what: str, setting: LimitName) -> None:
        if per_s is None:
            return
        now = time.monotonic()
        bucket = self._buckets.get((what, tenant))
        if bucket is None:
            bucket = self._buckets[what, tenant] = TokenBucket(per_s, now=now)
        wait_s = bucket.take(count, now=now)
        if wait_s > 0:
            limit_reached(setting)
            raise RateLimited(
                f"a tenant may send {per_s:g} {what} a second here ({setting}); again in {math.ceil(wait_s)} s",
                retry_after_s=wait_s,
            )
