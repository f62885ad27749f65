"""What an appender counts: once for each append and for each write."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from broadcaster.core.batching import Code
from broadcaster.observability.counting import SHORT_S, Buckets


@dataclass(slots=True)
class AppendCounts:
    """All since the worker began. ``outcomes``: by the log's reply, or ``unavailable``; ``events``: those accepted."""

    outcomes: Counter[str] = field(default_factory=Counter)
    events: int = 0
    write_s: Buckets = field(default_factory=lambda: Buckets(SHORT_S))

    def replied(self, code: Code, events: int) -> None:
        """The log's reply to one append."""
        self.outcomes[code.name.lower()] += 1
        if code is Code.APPENDED:
            self.events += events
