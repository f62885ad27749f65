"""Tools that read deployment files and may be missing on a machine."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest


def find_tool(name: str, remedy: str) -> str:
    """The program's path. Skips the test where there is none, and fails it where CI is true."""
    folders = (str(Path(sys.executable).parent), os.environ.get("PATH", ""), "/usr/sbin")
    if path := shutil.which(name, path=os.pathsep.join(folders)):
        return path
    reason = f"no {name} found: {remedy}"
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)
