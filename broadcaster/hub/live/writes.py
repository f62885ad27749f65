"""One chunk to many sockets, one ``write`` of the kernel for each.

The loop is in C where a compiler was found when the package was built (``_writes.c``), else in Python; both do the
same. The interpreter's own loop costs little by itself, but evicts from the caches what the next write needs: with
1000 viewers and 20 to 40 events a second a delivery costs 1.0–1.1 × the CPU of a program in C with the loop in C, and
1.2 × with the loop in Python (docs/benchmarks.md).
"""

from __future__ import annotations

import os
from array import array
from collections.abc import Callable
from typing import Final

REFUSED: Final = -1
"""In place of the bytes taken: the socket is broken."""

WriteAll = Callable[["array[int]", bytes], list[tuple[int, int]]]


def write_all_in_python(fds: array[int], chunk: bytes, /) -> list[tuple[int, int]]:
    """Write ``chunk`` to every socket: numbers as ``array("i")``, none of them blocking.

    Returns each socket that did not take all of it: its number, and the bytes that it took (or ``REFUSED``).
    """
    size = len(chunk)
    write = os.write
    shortfalls: list[tuple[int, int]] = []
    for fd in fds:
        try:
            taken = write(fd, chunk)
        except BlockingIOError:
            taken = 0
        except OSError:
            taken = REFUSED
        if taken != size:
            shortfalls.append((fd, taken))
    return shortfalls


try:
    from broadcaster.hub.live._writes import write_all as _write_all_in_c
except ImportError:
    IS_COMPILED = False
    write_all: WriteAll = write_all_in_python
else:
    IS_COMPILED = True
    write_all = _write_all_in_c
