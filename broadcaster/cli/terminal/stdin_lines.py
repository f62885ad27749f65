"""Lines of stdin as they come, for a command that does other work at the same time.

A thread reads the descriptor itself: a process cannot end while a read of Python's buffered stdin blocks. The thread
reads ahead up to a bound; beyond it the writer of the pipe blocks.
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


class StdinLine(NamedTuple):
    """A line without its end; ``number`` counts from 1."""

    number: int
    text: bytes


class LineTooLong(Exception):
    """The line with this number has more than LONGEST_LINE_BYTES."""

    def __init__(self, number: int) -> None:
        super().__init__(f"line {number} has more than {LONGEST_LINE_BYTES} bytes")


class StdinLines:
    """``take`` returns the lines so far; the first call starts the thread. Belongs to one event loop."""

    def __init__(self, read: Callable[[], bytes] = read_stdin) -> None:
        self._read = read
        self._lines: deque[StdinLine] = deque()
        self._buffered_bytes = 0
        self._room = threading.Condition()
        self._is_ended = False
        self._failure: Exception | None = None
        self._arrived = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._pump, daemon=True)

    async def take(self, *, most_bytes: int) -> list[StdinLine]:
        """All complete lines so far, at least one and about ``most_bytes``; empty at the end of stdin.

        Raises LineTooLong, and OSError if stdin cannot be read, after the lines before have been returned.
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
            # Woken for lines that an earlier call has taken: wait for more.
            if taken or is_ended:
                break
        if not taken and self._failure is not None:
            raise self._failure
        return taken

    def _pop(self, most_bytes: int) -> list[StdinLine]:
        taken: list[StdinLine] = []
        while self._lines and most_bytes > 0:
            taken.append(self._lines.popleft())
            self._buffered_bytes -= len(taken[-1].text)
            most_bytes -= len(taken[-1].text)
        return taken

    def _pump(self) -> None:
        try:
            self._split()
        except (OSError, LineTooLong) as error:
            self._failure = error
        with self._room:
            self._is_ended = True
        self._notify()

    def _split(self) -> None:
        number, pieces, piece_bytes = 0, list[bytes](), 0
        while chunk := self._read():
            first, *others = chunk.split(b"\n")
            pieces.append(first)
            piece_bytes += len(first)
            if others:
                *whole, begun = others
                texts = [b"".join(pieces), *whole]
                self._offer([StdinLine(number + at, text) for at, text in enumerate(texts, 1)])
                number += len(texts)
                pieces, piece_bytes = [begun], len(begun)
            if piece_bytes > LONGEST_LINE_BYTES:
                raise LineTooLong(number + 1)
        if piece_bytes:
            self._offer([StdinLine(number + 1, b"".join(pieces))])

    def _offer(self, lines: Sequence[StdinLine]) -> None:
        with self._room:
            while self._buffered_bytes > AHEAD_BYTES:
                self._room.wait()
            self._lines += lines
            self._buffered_bytes += sum(len(line.text) for line in lines)
        self._notify()

    def _notify(self) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._arrived.set)
