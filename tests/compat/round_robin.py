"""A TCP relay before front-ends: a connection goes to the front-end with the fewest busy ones. It knows no HTTP."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from typing import Final

from tests.support.servers.relay import Link, Relay, opened

DEADLINE_S: Final = 20.0


class RoundRobin(Relay):
    """The relay; ``url`` is the one address of all front-ends."""

    scheme = "http"

    def __init__(self, front_ends: Sequence[str]) -> None:
        super().__init__(None)
        self._turns = deque(front_ends)
        self._sent: list[tuple[str, bytearray]] = []  # of each connection: its front-end, what it sent since ``forget``
        self._changed = asyncio.Condition()

    def lines_with(self, text: bytes) -> list[str]:
        """The front-end of each connection that was sent this text."""
        return [front_end for front_end, sent in self._sent if text in sent]

    async def until_logged(self, text: bytes, *, times: int) -> None:
        """Until so many connections were sent this text."""
        async with asyncio.timeout(DEADLINE_S), self._changed:
            await self._changed.wait_for(lambda: len(self.lines_with(text)) >= times)

    def forget(self) -> None:
        """What was sent so far counts no longer; connections stay, and their clients may reuse them."""
        for _, sent in self._sent:
            sent.clear()

    def next_target(self, link: Link) -> str:
        self._turns.rotate(-1)
        busy = Counter(front_end for front_end, sent in self._sent if sent)
        chosen = min(self._turns, key=lambda url: busy[url])
        self._sent.append((chosen, bytearray()))
        return chosen

    async def on_response(self, link: Link, data: bytes) -> bytes:
        self._sent[link.number - 1][1].extend(data)
        async with self._changed:
            self._changed.notify_all()
        return data


def open_round_robin(front_ends: Sequence[str]) -> AbstractAsyncContextManager[RoundRobin]:
    """The relay on a free port of the loopback."""
    return opened(RoundRobin(front_ends))
