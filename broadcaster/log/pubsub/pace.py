"""How often a subscriber connection is read: at once while few messages come, every ``PACE_S`` while many do.

Thousands of small messages a second would wake the loop for one or two of them each time. A read of many costs hardly
more than a read of one (measured with 20 000 messages/s on 1000 channels: docs/benchmarks.md). An idle connection is
read at once. Only messages after the second of two close reads wait.
"""

from __future__ import annotations

import asyncio
from typing import Final

PACE_S: Final = 0.002
CLOSE_S: Final = 0.0005
"""Two reads within this time of each other mark the start of a busy period."""
MANY: Final = 8
"""A read after a pause that finds fewer messages than this ends the busy period."""


class ReadPace:
    """Pauses the reading of one transport. Call ``has_read`` after each read, ``close`` when the connection is gone."""

    __slots__ = ("_loop", "_read_at", "_timer", "_transport", "_was_paused")

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._read_at = 0.0
        self._was_paused = False

    def has_read(self, messages: int, *, now: float) -> None:
        """A read of the socket found this many messages."""
        is_many = messages >= MANY if self._was_paused else now - self._read_at <= CLOSE_S
        self._read_at = now
        self._was_paused = is_many
        if is_many and self._timer is None and not self._transport.is_closing():
            self._transport.pause_reading()
            self._timer = self._loop.call_later(PACE_S, self._resume_reading)

    def close(self) -> None:
        """Stop the timer. The transport is not resumed."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _resume_reading(self) -> None:
        self._timer = None
        if not self._transport.is_closing():
            self._transport.resume_reading()
