"""When a provider is asked again, when the next target is asked, and when a failure is the end.

All of it concerns an answer of which nothing has been seen yet: after its first content nothing is tried here.

| the try failed with | the same target is asked again | the next target is asked |
|---|---|---|
| ``provider_rate_limited``, another key is ready | at once, by that key | – |
| ``provider_auth`` | at once, by another key that is ready | when there is none |
| anything that may end otherwise next time | after a pause | when the tries are spent |
| the same, and a longer pause is asked for than we make | – | at once |
| anything else that is for good (no such server) | – | at once |
| ``provider_bad_request`` | – | – |

Rules
1. What may end otherwise is 429, 529, 5xx, silence, no connection, a cut, bad data; or what the provider calls so
   (``x-should-retry``). A bad request is told at once: whoever asked must mend it, whoever is asked.
2. A target has ``retries`` tries after its first, and besides one for each further key.
3. A pause is what the provider asked for, or else drawn from 0 to twice the last (full jitter); never longer than
   ``cap_s``. So all pauses of a course together are at most ``targets × retries × cap_s``.
4. Where no target is left the last failure stands, and says how often it was tried.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final, TypeAlias

from broadcaster.errors import ProviderFailed

BACK_OFF_FIRST_S: Final = 0.5
# Those whom a provider sends away for the same time must not come back in the same moment.
SPREAD_S: Final = 0.25

_RATE_LIMITED: Final = "provider_rate_limited"
_AUTH: Final = "provider_auth"
_BAD_REQUEST: Final = "provider_bad_request"


@dataclass(frozen=True, slots=True)
class RetryBounds:
    """``retries`` of one target after its first try; ``cap_s`` is the longest pause."""

    retries: int
    cap_s: float

    def pause_s(self, pauses: int, *, luck: float, asked_s: float | None, left_s: float) -> float | None:
        """Rule 3, after ``pauses`` pauses; None when the provider asks for a longer one, or than ``left_s`` allows."""
        longest_s = min(self.cap_s, left_s)
        if asked_s is None:
            # The exponent is bounded: a float overflows at 2**1024.
            return min(luck * BACK_OFF_FIRST_S * 2.0 ** min(pauses, 64), longest_s)
        return min(asked_s + luck * SPREAD_S, longest_s) if asked_s <= longest_s else None


@dataclass(frozen=True, slots=True)
class Again:
    """Ask the target of ``course`` after ``pause_s``."""

    course: Course
    pause_s: float


@dataclass(frozen=True, slots=True)
class GiveUp:
    """It is the end, and this is how it is told."""

    failure: ProviderFailed


Step: TypeAlias = Again | GiveUp


@dataclass(frozen=True, slots=True)
class Course:
    """Where the tries of one answer stand: ``target`` is the place in the route, ``tries`` counts all of them."""

    bounds: RetryBounds
    targets: int
    target: int = 0
    tries: int = 1
    retried: int = 0

    def after(self, failure: ProviderFailed, *, luck: float, has_other_key: bool, left_s: float) -> Step:
        """What follows a failed try. ``luck`` is from 0 to 1, ``left_s`` what is left of the answer's time;
        ``has_other_key``: this target has a key that was not asked yet. See the module's table.
        """
        if has_other_key and failure.reason in (_RATE_LIMITED, _AUTH):
            return Again(replace(self, tries=self.tries + 1), 0.0)
        if failure.retryable and self.retried < self.bounds.retries:
            asked_s = failure.retry_after_s
            pause_s = self.bounds.pause_s(self.retried, luck=luck, asked_s=asked_s, left_s=left_s)
            if pause_s is not None:
                return Again(replace(self, tries=self.tries + 1, retried=self.retried + 1), pause_s)
        is_final = failure.reason == _BAD_REQUEST and not failure.retryable
        if is_final or self.target + 1 >= self.targets:
            return GiveUp(self._told(failure, asks_too_long=failure.retryable and self._asks_too_long(failure)))
        return Again(replace(self, target=self.target + 1, tries=self.tries + 1, retried=0), 0.0)

    def _asks_too_long(self, failure: ProviderFailed) -> bool:
        return failure.retry_after_s is not None and failure.retry_after_s > self.bounds.cap_s

    def _told(self, failure: ProviderFailed, *, asks_too_long: bool) -> ProviderFailed:
        """Rule 4."""
        words = [failure.detail]
        if asks_too_long:
            words.append(f"it wants to be left alone for {failure.retry_after_s:.0f} s, longer than we wait")
        if self.tries > 1:
            words.append(f"tried {self.tries} times")
        return ProviderFailed(
            "; ".join(words),
            reason=failure.reason,
            retryable=failure.retryable,
            retry_after_s=failure.retry_after_s,
            refusal=failure.refusal,
        )
