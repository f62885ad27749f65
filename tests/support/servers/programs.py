"""Programs and packages that some tests need: found, or their absence reported."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import NoReturn

import pytest

# What `make` unpacks lies beside this Python; Debian keeps servers in root's path alone.
_FOLDERS = (str(Path(sys.executable).parent), os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin")


def lacking(reason: str) -> NoReturn:
    """Skips the test, and fails it where CI is true: there, a test that does not run is a test that does not hold."""
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


def find_program(*names: str, remedy: str) -> str:
    """The path of the first of these names that is there. Ends the test as ``lacking`` when none is."""
    for name in names:
        if path := shutil.which(name, path=os.pathsep.join(_FOLDERS)):
            return path
    lacking(f"no {' or '.join(names)} found: {remedy}")
