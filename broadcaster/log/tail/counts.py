"""What a tail counts: reads of the log, and why they were needed."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum


class RepairCause(StrEnum):
    """Why a watch read its log once more."""

    SUBSCRIBED = "subscribed"  # the connection was new: pushes may have been missed
    MISSED_PUSH = "missed_push"  # a push came that does not follow the last entry, or without its events
    TAIL_CHECK = "tail_check"  # the log holds more, or other entries, than were pushed
    VIEWER_AHEAD = "viewer_ahead"  # a viewer's cursor is beyond everything that this front-end has received
    CRASH = "crash"  # an unexpected error voided what was sent


@dataclass(slots=True)
class TailCounts:
    """All since the tail began. The first read of a watched stream is no repair."""

    repairs: Counter[RepairCause] = field(default_factory=Counter)
    pages: int = 0
