"""A short run of the soak, of one seed: what breaks here breaks everywhere. The long one is ``make soak``."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.figures import Figures
from tests.faults.soak import soak

SEED = 20
SOAK_S = 20.0


@pytest.mark.timeout(300)
async def test_twenty_seconds_of_everything_at_once_break_no_promise(tmp_path: Path, figures: Figures) -> None:
    outcome = await soak(tmp_path, seed=SEED, soak_s=SOAK_S)
    print("\n".join(outcome.lines()))
    assert not outcome.violations
    assert outcome.done["start"] > 0
    figures.add("soak: quiet → everything over", outcome.settled_s, "s")
