"""The memory of a front-end or worker: rarer collections of garbage, and large blocks that go back to the system.

Viewers and generations live long, and hardly any of them are in a cycle. With the interpreter's defaults the collector
scans all of them repeatedly while their number grows (measured at 10 000 viewers, docs/benchmarks.md).

glibc maps a large block and unmaps it when it is freed, but it raises the size that counts as large to that of the
largest block freed so far. Answers of megabytes then lie in the heap, with gaps between them. Once the size is set, it
stays: 60 unread answers of 14 MB made a front-end grow by 277 MB, and by 330 MB without (tests.attacks.unread_json
shows the whole).
"""

from __future__ import annotations

import ctypes
import gc
import sys
from typing import Final

# Container allocations less deallocations before the youngest generation is collected; Python's default is 700.
YOUNG_THRESHOLD: Final = 20_000
_YOUNG_ROUNDS: Final = 20
_MIDDLE_ROUNDS: Final = 20
LARGE_BLOCK_BYTES: Final = 256 * 2**10
_M_MMAP_THRESHOLD: Final = -3  # mallopt(3)


def tune_memory() -> None:
    """Exempt everything imported and built so far from collection, and keep large blocks out of the heap.

    It affects the whole process: not for libraries. Where the C library has no ``mallopt`` (musl, macOS), only the
    collector changes. Nothing is collected before: a start leaves little garbage, and looking for it takes as long as
    opening Redis.
    """
    gc.freeze()
    gc.set_threshold(YOUNG_THRESHOLD, _YOUNG_ROUNDS, _MIDDLE_ROUNDS)
    if sys.platform == "linux":
        libc = ctypes.CDLL(None)
        if hasattr(libc, "mallopt"):
            libc.mallopt(_M_MMAP_THRESHOLD, LARGE_BLOCK_BYTES)
