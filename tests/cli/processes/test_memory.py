"""What front-ends and workers change about the memory of their process."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Final

import pytest

from broadcaster.process.memory import LARGE_BLOCK_BYTES

# Frees a block of 16 MB, which lets glibc count blocks below that as small, and prints how much two of 1 MB map.
MAPPED_BY_LARGE_BLOCKS: Final = """
import ctypes
import gc

from broadcaster.process.memory import tune_memory


class Mallinfo2(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in
        ("arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks", "keepcost")]


mallinfo2 = ctypes.CDLL(None).mallinfo2
mallinfo2.restype = Mallinfo2
if {is_tuned}:
    tune_memory()
    assert gc.get_freeze_count()
bytes(2**24)
before = mallinfo2().hblkhd
blocks = [bytes({size}), bytes({size})]
print(mallinfo2().hblkhd - before)
"""


def _mapped_bytes(*, is_tuned: bool, size: int) -> int:
    program = MAPPED_BY_LARGE_BLOCKS.format(is_tuned=is_tuned, size=size)
    return int(subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout)


@pytest.mark.skipif(not hasattr(os, "confstr") or "CS_GNU_LIBC_VERSION" not in os.confstr_names, reason="not glibc")
def test_large_blocks_are_mapped_by_themselves_although_a_larger_one_was_freed() -> None:
    """Such a block returns to the system when it is freed; one in the heap leaves a gap there."""
    assert _mapped_bytes(is_tuned=False, size=2**20) == 0  # what glibc does by itself
    assert _mapped_bytes(is_tuned=True, size=2**20) >= 2**21
    assert _mapped_bytes(is_tuned=True, size=LARGE_BLOCK_BYTES // 2) == 0
