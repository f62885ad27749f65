"""What a hub counts: integers that its rooms and viewers add to, and that metrics read.

Nothing is counted per entry and viewer: a live group adds when a member comes or goes, a viewer once for each pull.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from broadcaster.hub.stop_reasons import StopReason
from broadcaster.observability.counting import LONG_S, BucketsBy


class HubStatistics(NamedTuple):
    """What the hub holds now (viewers, streams that have viewers, rooms, bytes), and how its viewers ended so far."""

    viewers: int
    watched: int
    rooms: int
    bytes: int
    stopped: Mapping[StopReason, int]


_FEW: Final = 4


@dataclass(slots=True)
class HubCounts:
    """All since the hub began, except ``viewers``, which are present. Keys are dialects, gap and stall reasons.

    ``live_…``: written by live groups, up to date after ``Hub.statistics``. ``replay_…``: pulled by viewers; an entry
    that a snapshot stands for counts.
    ``first_event_s``: from the request of a viewer to its first event, where the stream had one for it.
    ``awaiting``: the viewers that have not pulled it yet, with the times of their requests.
    """

    viewers: Counter[str] = field(default_factory=Counter)
    opened: Counter[str] = field(default_factory=Counter)
    resumed: Counter[str] = field(default_factory=Counter)
    stopped: Counter[StopReason] = field(default_factory=Counter)
    gaps: Counter[str] = field(default_factory=Counter)
    stalls: Counter[str] = field(default_factory=Counter)
    live_entries: int = 0
    live_bytes: int = 0
    replay_entries: int = 0
    replay_bytes: int = 0
    awaiting: dict[object, float] = field(default_factory=dict)
    first_event_s: BucketsBy = field(default_factory=lambda: BucketsBy(LONG_S))

    def entered(self, dialect: str) -> None:
        """A viewer has begun."""
        self.viewers[dialect] += 1
        self.opened[dialect] += 1

    def left(self, dialect: str, reason: StopReason) -> None:
        """A viewer has ended."""
        self.viewers[dialect] -= 1
        self.stopped[reason] += 1

    def stop_awaiting(self, viewer: object) -> float | None:
        """When the request of this viewer came, if it has received no event yet."""
        since = self.awaiting.pop(viewer, None)
        if len(self.awaiting) <= _FEW:
            self.awaiting = dict(self.awaiting)  # a dictionary that was large stays large
        return since
