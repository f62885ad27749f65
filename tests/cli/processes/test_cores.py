"""What `--processes 0` counts: the cores of this process, within what its control groups allow."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from broadcaster.cli.processes.cores import usable_cores

GIVEN = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def machine(folder: Path, limits: dict[str, str], group: str) -> Path:
    """A root with a process in this group, and the groups' limits."""
    (folder / "proc/self").mkdir(parents=True)
    (folder / "proc/self/cgroup").write_text(f"0::{group}\n")
    for name, limit in limits.items():
        path = folder / "sys/fs/cgroup" / name.strip("/") / "cpu.max"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(limit)
    return folder


@pytest.mark.parametrize(
    ("group", "limits", "cores"),
    [
        ("/", {}, GIVEN),
        ("/", {"/": "max 100000\n"}, GIVEN),
        ("/", {"/": "100000 100000\n"}, 1),
        ("/", {"/": "50000 100000\n"}, 1),
        ("/", {"/": "190000 100000\n"}, 1),
        ("/", {"/": "6400000 100000\n"}, GIVEN),
        ("/system.slice/a.service", {"/system.slice/a.service": "100000 100000\n"}, 1),
        ("/system.slice/a.service", {"/system.slice": "100000 100000\n", "/system.slice/a.service": "max 100000\n"}, 1),
        ("/system.slice/a.service", {"/other.slice": "100000 100000\n"}, GIVEN),
        ("/", {"/": "nonsense"}, GIVEN),
    ],
)
def test_a_container_s_limit_counts(tmp_path: Path, group: str, limits: dict[str, str], cores: int) -> None:
    assert usable_cores(machine(tmp_path, limits, group)) == cores


def test_if_no_limit_can_be_read_the_system_decides(tmp_path: Path) -> None:
    assert usable_cores(tmp_path) == GIVEN
