"""The garbage collector of a process of ours that serves: told what lives for ever, and to look less often.

Viewers and generations live long, and nearly nothing here is a cycle. With the interpreter's defaults the collector
looks at all of them again and again while they come (measured at 10 000 viewers, docs/benchmarks.md).
"""

from __future__ import annotations

import gc
from typing import Final

# New containers that outlive their makers until the youngest are looked at; the interpreter's own is 700.
YOUNG_THRESHOLD: Final = 20_000
_YOUNG_LOOKS: Final = 20
_ALL_LOOKS: Final = 20


def settle_collector() -> None:
    """Leave what has been imported and built alone from here on. Of this whole process: never from a library."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG_THRESHOLD, _YOUNG_LOOKS, _ALL_LOOKS)
