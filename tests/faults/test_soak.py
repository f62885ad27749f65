"""A short hunt of one seed (tests/hunt): what breaks here breaks everywhere. The long one is ``make soak``."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.hunt.run import Options, hunt

SEED = 20
SECONDS = 20.0


@pytest.mark.thorough
@pytest.mark.timeout(300)
async def test_twenty_seconds_of_everything_at_once_break_no_promise(tmp_path: Path) -> None:
    verdict = await hunt(tmp_path, Options(seed=SEED, seconds=SECONDS, topology="one", is_forked=True))
    print("\n".join(verdict.lines))
    assert not verdict.violations, "\n".join(map(str, verdict.violations))
    assert verdict.faults > 0
