"""Chunks to many sockets, one ``write`` of the kernel for each socket, all of them in one call.

The loop is in C where a compiler was found when the package was built (``_writes.c``), else in Python; both do the
same. The interpreter's own loop costs little by itself, but evicts from the caches what the next write needs: with
1000 viewers and 20 to 40 events a second a delivery costs 1.0–1.1 × the CPU of a program in C with the loop in C, and
1.2 × with the loop in Python (docs/benchmarks.md).
"""

from __future__ import annotations

import os
from array import array
from collections.abc import Callable, Sequence
from typing import Final, TypeAlias

REFUSED: Final = -1
"""In place of the bytes taken: the socket is broken."""

Write: TypeAlias = "tuple[array[int], bytes]"
"""The numbers of sockets as ``array("i")``, none of them blocking, and the chunk for each of them."""

Shortfall: TypeAlias = tuple[int, int, int]
"""A socket that did not take its whole chunk: place of the write, number of the socket, bytes taken or ``REFUSED``."""

WriteBatch = Callable[[Sequence[Write]], list[Shortfall]]


def write_batch_in_python(batch: Sequence[Write], /) -> list[Shortfall]:
    """Write each chunk to each of its sockets, and return the sockets that did not take all of it.

    A socket must not be in a batch twice: it would be written the second chunk without the rest of the first.
    """
    write = os.write
    shortfalls: list[Shortfall] = []
    for place, (fds, chunk) in enumerate(batch):
        size = len(chunk)
        for fd in fds:
            try:
                taken = write(fd, chunk)
            except BlockingIOError:
                taken = 0
            except OSError:
                taken = REFUSED
            if taken != size:
                shortfalls.append((place, fd, taken))
    return shortfalls


try:
    from broadcaster.hub.live._writes import write_batch as _write_batch_in_c
except ImportError:
    IS_COMPILED = False
    write_batch: WriteBatch = write_batch_in_python
else:
    IS_COMPILED = True
    write_batch = _write_batch_in_c
