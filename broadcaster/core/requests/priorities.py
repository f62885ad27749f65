"""Priorities: which of a tenant's waiting generations runs first.

A generation with a high priority waits as if it had come a head start earlier, one with a low priority as if it had
come that much later (`QueueLimits`). So none waits for ever, and tenants take turns as they do without priorities.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from broadcaster.errors import InvalidInput

PRIORITY_HEADER: Final = "broadcaster-priority"


class Priority(StrEnum):
    """A closed list: where a waiting generation stands among those of its tenant."""

    HIGH = "high"
    NORMAL = "normal"
    LOW = "low"


def read_priority(text: str) -> Priority:
    """The priority in a header. Raises InvalidInput for another one."""
    try:
        return Priority(text.strip().lower())
    except ValueError:
        raise InvalidInput(f"{PRIORITY_HEADER} is one of {', '.join(Priority)}") from None


def stored_priority(text: str) -> Priority:
    """The priority in a meta; one of a newer version counts as normal."""
    return Priority(text) if text in Priority.__members__.values() else Priority.NORMAL
