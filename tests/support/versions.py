"""Another version of the project: the tree of a commit, unpacked where its processes can be started from."""

from __future__ import annotations

import io
import subprocess
import tarfile
from pathlib import Path

ROOT = Path(__file__).parents[2]


def unpack(commit: str, folder: Path) -> Path | None:
    """The packages as that commit has them, in ``folder``; None when this checkout does not hold the commit."""
    command = ["git", "-C", str(ROOT), "archive", "--format=tar", commit, "broadcaster", "worker"]
    try:
        archive = subprocess.run(command, capture_output=True, check=True, timeout=30).stdout
    except (OSError, subprocess.CalledProcessError):
        return None
    with tarfile.open(fileobj=io.BytesIO(archive)) as tree:
        tree.extractall(folder, filter="data")
    return folder
