"""The start of a server is not interrupted by the garbage collector, which then runs as it did."""

from __future__ import annotations

import subprocess
import sys
from typing import Final

import pytest

STARTED: Final = """
import gc
from broadcaster.process.start import uncollected

{before}
collections = []
gc.callbacks.append(lambda phase, info: collections.append(phase))
with uncollected():
    kept = [[] for _ in range(100_000)]
print(len(collections), gc.isenabled(), gc.get_freeze_count() > len(kept))
"""
"""Makes as many objects as cause a collection more than a hundred times."""


@pytest.mark.parametrize(("before", "is_enabled"), [("gc.enable()", True), ("gc.disable()", False)])
def test_nothing_is_collected_during_a_start_and_the_collector_is_left_as_it_was(before: str, is_enabled: bool) -> None:
    program = [sys.executable, "-c", STARTED.format(before=before)]
    printed = subprocess.run(program, check=True, capture_output=True, text=True).stdout
    assert printed == f"0 {is_enabled} True\n"
