"""How often a subscriber connection is looked at: at once while little comes, once in ``PACE_S`` while much does.

Thousands of small messages a second wake the loop for one or two of them each time; a look for many costs hardly more
than a look for one (measured, 20 000 messages/s on 1000 channels: docs/benchmarks.md). What comes to an idle connection
is read at once: only what follows the second of two looks close to each other waits.
"""

from __future__ import annotations

import asyncio
from typing import Final

PACE_S: Final = 0.002
CLOSE_S: Final = 0.0005
"""Two looks that are no further apart are the beginning of many."""
MANY: Final = 8
"""A look after a pause that found fewer messages is the last one that was waited for."""


class ReadPace:
    """Pauses one transport's reading; ``has_read`` is called after each look, ``close`` when the connection is gone."""

    __slots__ = ("_loop", "_resume", "_seen_at", "_transport", "_was_paused")

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._loop = asyncio.get_running_loop()
        self._resume: asyncio.TimerHandle | None = None
        self._seen_at = 0.0
        self._was_paused = False

    def has_read(self, messages: int, *, now: float) -> None:
        """A look at the socket found so many messages."""
        is_many = messages >= MANY if self._was_paused else now - self._seen_at <= CLOSE_S
        self._seen_at = now
        self._was_paused = is_many
        if is_many and self._resume is None and not self._transport.is_closing():
            self._transport.pause_reading()
            self._resume = self._loop.call_later(PACE_S, self._look_again)

    def close(self) -> None:
        """Look at nothing more."""
        if self._resume is not None:
            self._resume.cancel()
            self._resume = None

    def _look_again(self) -> None:
        self._resume = None
        if not self._transport.is_closing():
            self._transport.resume_reading()
