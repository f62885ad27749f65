"""The bounds of feeds."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from broadcaster.core.requests.metadata import MAX_METADATA_BYTES

KEYS_KEPT: Final = 4096
KEYS_KEPT_AT_LEAST_S: Final = 90


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


def keys_kept(appends_per_s: float) -> int:
    """How many Idempotency-Keys of a feed are remembered at once (feeds.py, rule 2)."""
    return max(KEYS_KEPT, math.ceil(appends_per_s * KEYS_KEPT_AT_LEAST_S))
