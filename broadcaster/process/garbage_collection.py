"""The garbage collector of a front-end or worker: long-lived objects are frozen, and collections are rarer.

Viewers and generations live long, and hardly any of them are in a cycle. With the interpreter's defaults the collector
scans all of them repeatedly while their number grows (measured at 10 000 viewers, docs/benchmarks.md).
"""

from __future__ import annotations

import gc
from typing import Final

# Container allocations less deallocations before the youngest generation is collected; Python's default is 700.
YOUNG_THRESHOLD: Final = 20_000
_YOUNG_ROUNDS: Final = 20
_MIDDLE_ROUNDS: Final = 20


def tune_collector() -> None:
    """Exempt everything imported and built so far from collection. It affects the whole process: not for libraries."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG_THRESHOLD, _YOUNG_ROUNDS, _MIDDLE_ROUNDS)
