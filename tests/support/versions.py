"""Another version of the project: the tree of a commit, unpacked where its processes can be started from."""

from __future__ import annotations

import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]


def unpack(commit: str, folder: Path) -> Path | None:
    """The packages as that commit has them, in ``folder``; None when this checkout does not hold the commit."""
    git = ["git", "-C", str(ROOT)]
    try:
        listed = subprocess.run([*git, "ls-tree", "--name-only", commit], capture_output=True, check=True, timeout=30)
        there = [each for each in ("broadcaster", "worker", "clients") if each in listed.stdout.decode().split()]
        command = [*git, "archive", "--format=tar", commit, *there]
        archive = subprocess.run(command, capture_output=True, check=True, timeout=30).stdout
    except (OSError, subprocess.CalledProcessError):
        return None
    subprocess.run(["tar", "-x", "-C", str(folder)], input=archive, check=True, timeout=30)
    return folder
