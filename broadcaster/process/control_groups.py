"""The control groups of this process, which bound what a container may use of its machine."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

# Of both versions of control groups.
_MEMORY_FILES: Final = ("memory.max", "memory.limit_in_bytes")


def control_groups(controller: str, root: Path) -> Iterator[Path]:
    """The folders of the groups that bound this controller: of both versions, the process's own and all around it.

    ``root`` is the folder of /proc and /sys. In a container the path of a group may be the host's, and not exist here.
    """
    for line in filter(None, read_text(root / "proc/self/cgroup").split("\n")):
        _, controllers, path = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        mount = root / "sys/fs/cgroup" / (controller if controllers else "")
        below = Path(path.lstrip("/"))
        yield from (mount / each for each in (below, *below.parents))


def usable_bytes(root: Path = Path("/")) -> int:
    """The memory that this process may use: the machine's, or the smallest limit of its control groups.

    Both versions of control groups are read, and every parent group: the smallest limit ends the process.
    """
    limits = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]
    for folder in control_groups("memory", root):
        texts = (read_text(folder / name) for name in _MEMORY_FILES)
        limits += [int(text) for text in texts if text.isdecimal()]
    return min(limits)


def read_text(path: Path) -> str:
    """The text of this file without the blanks around it; empty if it cannot be read."""
    try:
        return path.read_text("utf-8").strip()
    except OSError:
        return ""
