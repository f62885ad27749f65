"""The control groups of this process, which bound what a container may use of its machine."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path


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


def read_text(path: Path) -> str:
    """The text of this file without the blanks around it; empty if it cannot be read."""
    try:
        return path.read_text("utf-8").strip()
    except OSError:
        return ""
