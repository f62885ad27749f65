"""When a call to a provider is repeated, when the next target is called, and when a failure is final.

This applies until the answer's first content: after it, nothing is tried here.

| the try failed with | the same target is called | the next target is called |
|---|---|---|
| ``provider_rate_limited``, another key is ready | at once, with that key | – |
| ``provider_auth`` | at once, with another key that is ready | when there is none |
| anything retryable | after a pause | when the tries are spent |
| the same, and the provider requests a longer pause than we make | – | at once |
| anything else that is final (no such server) | – | at once |
| ``provider_bad_request`` | – | – |

Rules
1. Retryable are 429, 529, 5xx, silence, no connection, a cut, bad data, and what the provider marks as such
   (``x-should-retry``). A bad request fails at once: no target accepts it until the client changes it.
2. A target has ``retries`` tries after its first, and one more for each further key.
3. A pause is what the provider requested, or else drawn from 0 to twice the last (full jitter); never longer than
   ``cap_s``. All pauses of a course together are at most ``targets × retries × cap_s``.
4. When no target is left, the last failure is reported, with the number of tries.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Final, TypeAlias

from broadcaster.core.backoff import BackOff
from broadcaster.errors import ProviderFailed

# Full jitter; ``RetryBounds`` has the cap.
_BACK_OFF: Final = BackOff(0.5, math.inf, least=0)
# Workers that a provider delays by the same time must not return at the same moment.
SPREAD_S: Final = 0.25

_RATE_LIMITED: Final = "provider_rate_limited"
_AUTH: Final = "provider_auth"
_BAD_REQUEST: Final = "provider_bad_request"


@dataclass(frozen=True, slots=True)
class RetryBounds:
    """``retries`` of one target after its first try; ``cap_s`` is the longest pause."""

    retries: int
    cap_s: float

    def pause_s(self, pauses: int, *, luck: float, requested_s: float | None, left_s: float) -> float | None:
        """Rule 3, after ``pauses`` pauses; None when the provider requests a longer one, or than ``left_s`` allows."""
        longest_s = min(self.cap_s, left_s)
        if requested_s is None:
            return min(_BACK_OFF.pause_s(pauses + 1, luck=luck), longest_s)
        return min(requested_s + luck * SPREAD_S, longest_s) if requested_s <= longest_s else None


@dataclass(frozen=True, slots=True)
class Retry:
    """Call the target of ``course`` after ``pause_s``."""

    course: Course
    pause_s: float


RetryStep: TypeAlias = Retry | ProviderFailed
"""The next try, or the failure that is reported: the answer has failed."""


@dataclass(frozen=True, slots=True)
class Course:
    """Where the tries of one answer stand: ``target`` is the place in the route, ``tries`` counts all of them."""

    bounds: RetryBounds
    targets: int
    target: int = 0
    tries: int = 1
    retried: int = 0

    def after(self, failure: ProviderFailed, *, luck: float, has_other_key: bool, left_s: float) -> RetryStep:
        """What follows a failed try. ``luck`` is from 0 to 1, ``left_s`` the rest of the answer's time;
        ``has_other_key``: this target has a key that was not used yet. See the module's table.
        """
        if has_other_key and failure.reason in (_RATE_LIMITED, _AUTH):
            return Retry(replace(self, tries=self.tries + 1), 0.0)
        if failure.retryable and self.retried < self.bounds.retries:
            requested_s = failure.retry_after_s
            pause_s = self.bounds.pause_s(self.retried, luck=luck, requested_s=requested_s, left_s=left_s)
            if pause_s is not None:
                return Retry(replace(self, tries=self.tries + 1, retried=self.retried + 1), pause_s)
        is_final = failure.reason == _BAD_REQUEST and not failure.retryable
        if is_final or self.target + 1 >= self.targets:
            return self._final_failure(failure)
        return Retry(replace(self, target=self.target + 1, tries=self.tries + 1, retried=0), 0.0)

    def _final_failure(self, failure: ProviderFailed) -> ProviderFailed:
        """Rule 4."""
        details = [failure.detail]
        requested_s = failure.retry_after_s
        if failure.retryable and requested_s is not None and requested_s > self.bounds.cap_s:
            details.append(f"it asks for a pause of {requested_s:.0f} s, longer than we wait")
        if self.tries > 1:
            details.append(f"tried {self.tries} times")
        final = ProviderFailed(
            "; ".join(details),
            reason=failure.reason,
            retryable=failure.retryable,
            retry_after_s=requested_s,
            refusal=failure.refusal,
        )
        final.request_id = failure.request_id
        return final
