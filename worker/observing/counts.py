"""What a worker counts about attempts and calls of providers: once an attempt, once a call.

Labels are closed lists. A model's label is the name in the route's target, or else the route's pattern: callers may
request any name that a pattern matches. Reasons and codes outside the lists are ``other``.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from types import TracebackType
from typing import Final, Self

from broadcaster.core.events import Usage
from broadcaster.errors import ProviderFailed
from broadcaster.log.jobs.claims import Claim, Outcome
from broadcaster.log.streams.reader import Meta
from broadcaster.observability.counting import LONG_S, PER_S, Buckets, BucketsBy
from broadcaster.observability.limits import limit_reached

OTHER: Final = "other"
# Fewer tokens a second than can be measured: the answer came as a whole.
_SHORTEST_S: Final = 0.02

_REASONS: Final = frozenset(
    f"provider_{reason}"
    for reason in (
        *("auth", "bad_data", "bad_request", "disconnected", "error", "failed", "overloaded", "rate_limited"),
        *("timeout", "truncated", "unreachable"),
    )
)
ERROR_CODES: Final = _REASONS | {
    *("generation_timeout", "internal_error", "tool_outcome_unknown"),
    *("unknown_model", "unknown_tool", "worker_out_of_memory"),
}
"""What a worker writes into the ``error`` that ends a stream; docs/error-codes.md has the meanings."""

_CODES: Final = ERROR_CODES | {"abandoned", "crashed", "fenced", "full", "log_away", "log_lost", "stopped"}


@dataclass(slots=True)
class AttemptCounts:
    """The attempts of one worker. ``ended`` is by outcome and reason.

    Failures are counted from 0: Prometheus sees no increase in a series that begins with 1.
    """

    started: int = 0
    take_overs: int = 0
    ended: Counter[tuple[str, ...]] = field(
        default_factory=lambda: Counter({("failed", code): 0 for code in sorted(_CODES | {OTHER})})
    )
    queue_wait_s: Buckets = field(default_factory=lambda: Buckets(LONG_S))

    def begin(self, claim: Claim, meta: Meta) -> None:
        """An attempt begins. The epoch of a first grant is Redis's time, as the creation's is."""
        self.started += 1
        if claim.attempt == 1:
            self.queue_wait_s.observe(max(0, claim.epoch - meta.created_ms) / 1000)

    def take_over(self, claim: Claim) -> None:
        """A claim of a generation whose worker's lease had lapsed."""
        if claim.outcome is Outcome.GRANTED and claim.attempt > 1:
            self.take_overs += 1
            limit_reached("LEASE_TTL_S")

    def end(self, outcome: str, reason: str | None) -> None:
        """An attempt has ended so; of one that finished the reason is the provider's."""
        code = "" if reason is None or outcome == "finished" else reason if reason in _CODES else OTHER
        self.ended[outcome, code] += 1


class ProviderCounts:
    """The calls of one worker's providers."""

    def __init__(self) -> None:
        self.calls: Counter[tuple[str, ...]] = Counter()
        self.errors: Counter[tuple[str, ...]] = Counter()
        self.tokens: Counter[tuple[str, ...]] = Counter()
        self.whole_s = BucketsBy(LONG_S)
        self.first_s = BucketsBy(LONG_S)
        self.per_s = BucketsBy(PER_S)

    def call(self, provider: str, model: str) -> ProviderCall:
        """A call that begins with the ``with`` block; ``model`` is a label."""
        return ProviderCall(self, provider, model)


class ProviderCall:
    """One call; its block's end decides the outcome."""

    def __init__(self, counts: ProviderCounts, provider: str, model: str) -> None:
        self._counts = counts
        self._labels = provider, model
        self._loop = asyncio.get_running_loop()
        self._begun_at = 0.0
        self._first_at: float | None = None
        self.usage: Usage | None = None
        """The counts of tokens at its end; estimated where it was cut short."""

    def content(self) -> None:
        """The first content has arrived."""
        if self._first_at is None:
            self._first_at = self._loop.time()
            self._counts.first_s[self._labels].observe(self._first_at - self._begun_at)

    def __enter__(self) -> Self:
        self._begun_at = self._loop.time()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        counts, (provider, _) = self._counts, self._labels
        if isinstance(error, ProviderFailed):
            reason = error.reason if error.reason in _REASONS else OTHER
            counts.errors[provider, reason] += 1
            counts.calls[provider, "failed"] += 1
        elif error is None:
            counts.calls[provider, "complete"] += 1
            counts.whole_s[provider,].observe(self._loop.time() - self._begun_at)
        else:
            counts.calls[provider, "cancelled" if isinstance(error, asyncio.CancelledError) else "crashed"] += 1
        self._count_tokens(is_complete=error is None)

    def _count_tokens(self, *, is_complete: bool) -> None:
        usage = self.usage
        if usage is None:
            return
        for direction, count in (
            ("input", usage.input_tokens),
            ("output", usage.output_tokens),
            ("reasoning", usage.reasoning_tokens),
            ("cached_input", usage.cached_input_tokens),
            ("cache_write_input", usage.cache_write_input_tokens),
        ):
            if count:
                self._counts.tokens[*self._labels, direction] += count
        took_s = 0.0 if self._first_at is None else self._loop.time() - self._first_at
        if is_complete and usage.output_tokens and took_s > _SHORTEST_S:
            self._counts.per_s[self._labels].observe(usage.output_tokens / took_s)
