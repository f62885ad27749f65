"""How many cores this process may use: those of the system, and those that its container is allowed.

A container that is allowed one core of a machine with sixty-four sees all sixty-four. Sixty-four front-ends in it would
be throttled together, and every stream with them.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from broadcaster.process.control_groups import control_groups, read_text

_ROOT: Final = Path("/")


def usable_cores(root: Path = _ROOT) -> int:
    """At least one. ``root`` is the folder of /proc and /sys; a limit that cannot be read is ignored."""
    return max(1, min([_cores_given(), *(int(limit) for limit in _limits(root))]))


def _cores_given() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _limits(root: Path) -> Iterator[float]:
    """Cores that the control groups of this process allow it (cgroup v2)."""
    for folder in control_groups("cpu", root):
        quota, _, period = read_text(folder / "cpu.max").partition(" ")
        if quota.isdecimal() and period.isdecimal() and int(period) > 0:
            yield int(quota) / int(period)
