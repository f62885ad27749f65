"""The bounds of feeds, as the settings give them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final, Protocol

from broadcaster.core.requests.metadata import MAX_METADATA_BYTES

KEYS_KEPT: Final = 4096
KEYS_KEPT_AT_LEAST_S: Final = 90


class FeedSettings(Protocol):
    """The settings that bound feeds; only composition roots know the others."""

    @property
    def max_events(self) -> int:
        """Most entries of one feed."""

    @property
    def max_bytes(self) -> int:
        """Most event bytes of one feed."""

    @property
    def max_event_bytes(self) -> int:
        """Most bytes of one event."""

    @property
    def max_metadata_bytes(self) -> int:
        """Most bytes of its metadata, as JSON."""

    @property
    def feed_append_rate(self) -> float:
        """Most appends a second."""

    @property
    def push_max_bytes(self) -> int:
        """Most bytes of one push."""

    @property
    def live_ttl_s(self) -> float:
        """How long an open feed outlives its last append."""

    @property
    def retention_s(self) -> float:
        """How long a feed is kept after its end."""


@dataclass(frozen=True, slots=True)
class FeedBounds:
    """The bounds of every feed; a feed may choose lower ones. ``appends_per_s`` counts calls, over all writers."""

    max_events: int
    max_bytes: int
    max_event_bytes: int
    appends_per_s: float
    push_max_bytes: int
    live_ttl_ms: int
    retention_ms: int
    keys_kept: int = KEYS_KEPT
    max_metadata_bytes: int = MAX_METADATA_BYTES

    @classmethod
    def of(cls, settings: FeedSettings) -> FeedBounds:
        """The bounds in these settings: the same in a front-end and in a publisher beside it."""
        return cls(
            max_events=settings.max_events,
            max_bytes=settings.max_bytes,
            max_event_bytes=settings.max_event_bytes,
            appends_per_s=settings.feed_append_rate,
            push_max_bytes=settings.push_max_bytes,
            live_ttl_ms=int(settings.live_ttl_s * 1000),
            retention_ms=int(settings.retention_s * 1000),
            keys_kept=keys_kept(settings.feed_append_rate),
            max_metadata_bytes=settings.max_metadata_bytes,
        )


def keys_kept(appends_per_s: float) -> int:
    """How many Idempotency-Keys of a feed are remembered at once (feeds.py, rule 2)."""
    return max(KEYS_KEPT, math.ceil(appends_per_s * KEYS_KEPT_AT_LEAST_S))
