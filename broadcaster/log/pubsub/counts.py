"""What the subscriber connections of one process count."""

from __future__ import annotations

from dataclasses import dataclass, field

from broadcaster.observability.counting import SHORT_S, Buckets


@dataclass(slots=True)
class SubscriberCounts:
    """All since the process began; ``probe_s``: from publishing a probe to its arrival."""

    connections_lost: int = 0
    probes_lost: int = 0
    probe_s: Buckets = field(default_factory=lambda: Buckets(SHORT_S))
