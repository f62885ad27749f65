"""The line between `serve` and each of its front-end processes: the two ends of a socket pair.

1. The child says ``serving`` once, ``alive`` at every beat of its event loop, and ``failed``, with an exit code and
   words, when it ends for a reason that somebody can remedy: so it is told once, however many processes met it.
2. The parent says ``drain`` once, and perhaps ``end``. When it is gone, killed included, the line is closed, and that
   means ``drain`` too: no child outlives its parent, on any system.
3. These are no signals, of which the second would end a child without its drain: whoever signals parent and children
   alike (systemd, unless told otherwise) still gets one.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator
from typing import Final

from broadcaster.cli.failures import CommandFailed, ExitCode

SERVING: Final = "serving"
ALIVE: Final = "alive"
FAILED: Final = "failed"
DRAIN: Final = "drain"
END: Final = "end"


class ChildEnd:
    """What a front-end process has of it."""

    def __init__(self, descriptor: int) -> None:
        os.set_inheritable(descriptor, False)
        self._socket = socket.socket(fileno=descriptor)
        self._socket.setblocking(False)

    @property
    def is_wanted(self) -> bool:
        """Whether the parent is there, and has not said anything yet."""
        try:
            self._socket.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return True
        return False

    async def heard(self) -> AsyncIterator[str]:
        """What the parent says, until it is gone."""
        reader, writer = await asyncio.open_unix_connection(sock=self._socket.dup())
        try:
            with contextlib.suppress(ConnectionError):  # gone without having read what it was told
                async for line in reader:
                    yield line.decode().rstrip("\n")
        finally:
            writer.transport.abort()

    def close(self) -> None:
        """Say and hear nothing more."""
        self._socket.close()

    def say(self, word: str) -> None:
        """Say it. A parent that is gone hears nothing, and one that is stuck misses a beat."""
        with contextlib.suppress(BlockingIOError, ConnectionError):
            self._socket.send(f"{word}\n".encode())

    def say_failed(self, failure: CommandFailed) -> None:
        """The last that it says."""
        self.say(f"{FAILED} {failure.code.value} {' '.join(str(failure).split())}")


def read_failure(line: str) -> CommandFailed | None:
    """The failure that a line of a child tells, if it does."""
    word, _, rest = line.partition(" ")
    code, _, text = rest.partition(" ")
    return CommandFailed(text, ExitCode(int(code))) if word == FAILED else None
