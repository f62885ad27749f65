"""A relay before Redis. It cuts connections, lets a direction hang or lag, forgets connections, or loses pushes.

1. While a direction hangs, connections stay open and new ones are accepted, and nothing passes: what a lost packet
   filter entry or a frozen host appears from the other side.
2. A forgotten connection is half open: Redis has lost it, the process has not, and new connections work.
3. A lost push is one message of a stream's live channel, left out whole. Everything else on that connection passes.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final
from weakref import WeakKeyDictionary

from tests.support.servers.relay import Link, Relay, opened

UP: Final = "up"
DOWN: Final = "down"
_PUSH: Final = b"*3\r\n$8\r\nsmessage\r\n"
_LIVE: Final = b":live\r\n"
_CHANNEL_BYTES: Final = 300


@dataclass
class _State:
    """What is known of one connection."""

    is_forgotten: bool = False
    subscribes: bool = False
    held: bytes = b""


class HuntRelay(Relay):
    """Made by ``open_relay``. ``up`` is towards Redis, ``down`` towards the process."""

    def __init__(self, target: int) -> None:
        super().__init__(f"redis://127.0.0.1:{target}")
        self._passes = {UP: asyncio.Event(), DOWN: asyncio.Event()}
        self._lag_s = {UP: 0.0, DOWN: 0.0}
        self._lost_share = 0.0
        self._rng = random.Random(target)
        self._states: WeakKeyDictionary[Link, _State] = WeakKeyDictionary()
        self.heal()

    def hang(self, *directions: str) -> None:
        """Nothing passes in these directions until ``heal``."""
        for direction in directions:
            self._passes[direction].clear()

    def lag(self, direction: str, seconds: float) -> None:
        """Each read of this direction passes so much later."""
        self._lag_s[direction] = seconds

    def lose(self, share: float, seed: int) -> None:
        """This share of the pushes is lost from now on."""
        self._lost_share, self._rng = share, random.Random(seed)

    def forget(self, share: float, seed: int) -> None:
        """This share of the connections is half open until ``heal``, which cuts them."""
        rng = random.Random(seed)
        for link in list(self.links):
            if rng.random() < share and link.server is not None:
                self._state(link).is_forgotten = True
                link.server.transport.abort()

    def heal(self) -> None:
        """Everything passes at once."""
        for direction in (UP, DOWN):
            self._passes[direction].set()
            self._lag_s[direction] = 0.0
        for link, task in list(self.links.items()):
            if self._state(link).is_forgotten:
                task.cancel()

    async def on_request(self, link: Link, data: bytes) -> bytes:
        await self._pass(UP)
        state = self._state(link)
        state.subscribes |= b"SSUBSCRIBE" in data
        return b"" if state.is_forgotten else data

    async def on_response(self, link: Link, data: bytes) -> bytes:
        await self._pass(DOWN)
        state = self._state(link)
        if state.is_forgotten:
            return b""
        return self._without_lost(state, data) if state.subscribes else data

    async def on_server_gone(self, link: Link, requests: asyncio.Task[None]) -> None:
        if self._state(link).is_forgotten:
            await asyncio.wait({requests})  # until the process itself gives the connection up

    async def _pass(self, direction: str) -> None:
        await self._passes[direction].wait()
        if self._lag_s[direction]:
            await asyncio.sleep(self._lag_s[direction])

    def _state(self, link: Link) -> _State:
        return self._states.setdefault(link, _State())

    def _without_lost(self, state: _State, data: bytes) -> bytes:
        """What passes of this, and of what was kept back because its message was not whole."""
        held, at, passing = state.held + data, 0, []
        while (end := reply_end(held, at)) is not None:
            is_push = held.startswith(_PUSH, at) and _LIVE in held[at : min(end, at + _CHANNEL_BYTES)]
            if not (is_push and self._rng.random() < self._lost_share):
                passing.append(held[at:end])
            at = end
        state.held = held[at:]
        return b"".join(passing)


def reply_end(raw: bytes, at: int) -> int | None:
    """Where the RESP2 reply that begins at ``at`` ends; None: it is not whole."""
    line_end = raw.find(b"\r\n", at)
    if line_end < 0:
        return None
    end = line_end + 2
    if raw[at : at + 1] == b"$":
        length = int(raw[at + 1 : line_end])
        end += length + 2 if length >= 0 else 0
        return end if end <= len(raw) else None
    if raw[at : at + 1] == b"*":
        for _ in range(int(raw[at + 1 : line_end])):
            after = reply_end(raw, end)
            if after is None:
                return None
            end = after
    return end


@asynccontextmanager
async def open_relay(target: int) -> AsyncIterator[HuntRelay]:
    """A relay on a free port of the loopback before the server at this one."""
    async with opened(HuntRelay(target)) as relay:
        try:
            yield relay
        finally:
            relay.heal()
