"""How often each tenant may call this front-end, and append to feeds here.

Rules
1. Each front-end counts by itself, in memory: a tenant that calls n front-ends may call n times as often.
2. A refused call takes nothing from the bucket.
3. An append that is refused, or repeats an earlier one, takes no events: it counts as a request.
4. The tenants of a front-end are those of its keys, so there are only as many buckets as tenants.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

from broadcaster.core.access.token_bucket import TokenBucket
from broadcaster.errors import BroadcasterError, RateLimited
from broadcaster.observability.limits import LimitName, limit_reached

_REQUESTS: Final = "requests"
_EVENTS: Final = "events"


@dataclass(slots=True)
class CountedAppend:
    """An append that is under way; ``is_new`` False: it has found that it repeats an earlier one, or was refused."""

    is_new: bool = True


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
        self._put_back(tenant, 1, what=_REQUESTS)

    def admit_append(self, tenant: str, events: int) -> None:
        """Count an append of so many events. Raises RateLimited."""
        self._take(tenant, events, per_s=self.appends_per_s, what=_EVENTS, setting="TENANT_APPENDS_PER_S")

    @contextmanager
    def appending(self, tenant: str, events: int) -> Iterator[CountedAppend]:
        """Count the append in the block (rule 3); without events there is nothing to count. Raises RateLimited.

        One that is cancelled stays counted: Redis may have stored its events.
        """
        if events:
            self.admit_append(tenant, events)
        append = CountedAppend()
        try:
            yield append
        except BroadcasterError:
            append.is_new = False
            raise
        finally:
            if not append.is_new:
                self._put_back(tenant, events, what=_EVENTS)

    def _put_back(self, tenant: str, count: int, *, what: str) -> None:
        bucket = self._buckets.get((what, tenant))
        if bucket is not None:
            bucket.put_back(count)

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
