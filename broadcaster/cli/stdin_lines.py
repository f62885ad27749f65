"""Lines of stdin as they come, for a command that goes on meanwhile.

A thread reads the descriptor itself: Python's own buffered stdin cannot be left while a read of it blocks. It reads
ahead by a bound; beyond it whoever writes to us is held up, as a pipe holds up its writer.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final, NamedTuple

CHUNK_BYTES: Final = 2**16
# As much as a front-end takes in one body (BROADCASTER_MAX_BODY_BYTES).
LONGEST_LINE_BYTES: Final = 4 * 2**20
AHEAD_BYTES: Final = 4 * 2**20

_STDIN: Final = 0

read_stdin: Final = partial(os.read, _STDIN, CHUNK_BYTES)


class Line(NamedTuple):
    """A line without its end; ``number`` counts from 1."""

    number: int
    text: bytes


class LineTooLong(Exception):
    """The line with this number has more than LONGEST_LINE_BYTES."""

    def __init__(self, number: int) -> None:
        super().__init__(f"line {number} has more than {LONGEST_LINE_BYTES} bytes")


class StdinLines:
    """``take`` what has come; the thread begins with the first one. Lives on one event loop."""

    def __init__(self, read: Callable[[], bytes] = read_stdin) -> None:
        self._read = read
        self._lines: deque[Line] = deque()
        self._held_bytes = 0
        self._room = threading.Condition()
        self._is_ended = False
        self._failure: Exception | None = None
        self._arrived = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._pump, daemon=True)

    async def take(self, *, most_bytes: int) -> list[Line]:
        """All whole lines that are there, at least one and about ``most_bytes``; none: stdin has ended.

        Raises LineTooLong, and OSError when stdin cannot be read; what came before is given first.
        """
        if not self._thread.is_alive() and not self._is_ended:
            self._thread.start()
        while True:
            await self._arrived.wait()
            with self._room:
                taken = self._pop(most_bytes)
                is_ended = self._is_ended
                if not self._lines and not is_ended:
                    self._arrived.clear()
                self._room.notify()
            # Woken for lines that an earlier call had taken already: wait for more.
            if taken or is_ended:
                break
        if not taken and self._failure is not None:
            raise self._failure
        return taken

    def _pop(self, most_bytes: int) -> list[Line]:
        taken: list[Line] = []
        while self._lines and most_bytes > 0:
            taken.append(self._lines.popleft())
            self._held_bytes -= len(taken[-1].text)
            most_bytes -= len(taken[-1].text)
        return taken

    def _pump(self) -> None:
        try:
            self._split()
        except (OSError, LineTooLong) as error:
            self._failure = error
        with self._room:
            self._is_ended = True
        self._tell()

    def _split(self) -> None:
        number, pieces, piece_bytes = 0, list[bytes](), 0
        while chunk := self._read():
            first, *others = chunk.split(b"\n")
            pieces.append(first)
            piece_bytes += len(first)
            if others:
                *whole, begun = others
                texts = [b"".join(pieces), *whole]
                self._offer([Line(number + at, text) for at, text in enumerate(texts, 1)])
                number += len(texts)
                pieces, piece_bytes = [begun], len(begun)
            if piece_bytes > LONGEST_LINE_BYTES:
                raise LineTooLong(number + 1)
        if piece_bytes:
            self._offer([Line(number + 1, b"".join(pieces))])

    def _offer(self, lines: Sequence[Line]) -> None:
        with self._room:
            while self._held_bytes > AHEAD_BYTES:
                self._room.wait()
            self._lines += lines
            self._held_bytes += sum(len(line.text) for line in lines)
        self._tell()

    def _tell(self) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._arrived.set)
