"""A relay before Redis: it breaks, delays or loses exactly what a test names.

Rules. A command or push is named by bytes that it has; each order holds for the next one alone.
1. ``cut_at`` breaks the connection before the server sees the command, or in the place of its reply.
2. ``hold_at`` lets the command wait for ``resume``: nothing more of this connection passes. So a fault is put exactly
   between two commands. ``close`` and ``reopen`` do so with everything that clients send: it arrives later even if the
   client has given its connection up, as from a slow network or a process that stood still.
3. ``hang`` carries nothing more on the connections of now, as a NAT does that has forgotten them; new ones are well.
   ``hang_at`` does so when the command arrives, which is not carried either.
4. ``stop_after`` carries nothing more on any connection once the command is done: its reply is the first that is lost.
5. ``lose_pushes`` swallows pushes, as a subscriber's full socket would, and ``is_deaf`` everything from the server.
"""

from __future__ import annotations

import asyncio
import ssl
from contextlib import AbstractAsyncContextManager
from enum import Enum

from tests.support.servers.relay import Cut, Link, Relay, opened


class Moment(Enum):
    """When the connection breaks."""

    BEFORE = "the server never sees the command"
    AFTER = "the server does it, and its reply is lost"


class RedisRelay(Relay):
    """See the module's rules. Made by ``open_redis_relay``."""

    def __init__(self, target: str) -> None:
        super().__init__(target)
        self.writes: list[bytes] = []  # what came from clients, read by read
        self.is_deaf = False
        self.held = asyncio.Event()  # a command waits
        self.stopped = asyncio.Event()  # nothing passes any more
        self.hangs_left = 0
        self.pushes_lost = 0
        self._cut: tuple[bytes, Moment] | None = None
        self._hold: bytes | None = None
        self._hang: bytes | None = None
        self._stop: bytes | None = None
        self._last: Link | None = None  # after its next reply nothing passes
        self._lost_push: bytes | None = None
        self._resumed = asyncio.Event()
        self._open = asyncio.Event()
        self._open.set()

    @property
    def is_open(self) -> bool:
        """Whether what clients send passes."""
        return self._open.is_set()

    def close(self) -> None:
        """Let nothing of what clients send pass until ``reopen``."""
        self._open.clear()

    def reopen(self) -> None:
        """Let everything pass, first what waits."""
        self._open.set()

    def cut_at(self, named: bytes, moment: Moment) -> None:
        """Break the connection of the next command that has these bytes."""
        self._cut = named, moment

    def hold_at(self, named: bytes) -> None:
        """Let the next command that has these bytes wait for ``resume``."""
        self._hold = named
        self.held.clear()
        self._resumed.clear()

    def resume(self) -> None:
        """Let the command that waits pass."""
        self._resumed.set()

    def hang(self) -> None:
        """Carry nothing more on the connections of now."""
        for link in self.links:
            link.gate.clear()

    def hang_at(self, named: bytes, *, times: int) -> None:
        """Hang, so many times, when a command that has these bytes arrives."""
        self._hang, self.hangs_left = named, times

    def stop_after(self, named: bytes) -> None:
        """Carry nothing more once the next command that has these bytes is done."""
        self._stop = named

    def lose_pushes(self, named: bytes | None) -> None:
        """Swallow pushes that have these bytes; None: no more."""
        self._lost_push = named

    def inject(self, reply: bytes) -> None:
        """Put bytes among those that every client receives."""
        for link in self.links:
            link.client.write(reply)

    async def on_request(self, link: Link, data: bytes) -> bytes:
        """See the module's rules."""
        self.writes.append(data)
        if self.hangs_left and self._hang is not None and self._hang in data:
            self.hangs_left -= 1
            self.hang()
        await link.gate.wait()
        await self._open.wait()
        if self._hold is not None and self._hold in data:
            self._hold = None
            self.held.set()
            await self._resumed.wait()
        if self._cut is not None and self._cut[0] in data:
            (_, moment), self._cut = self._cut, None
            if moment is Moment.BEFORE:
                raise Cut
            link.loses_response = True
        if self.stopped.is_set():
            return b""
        if self._stop is not None and self._stop in data:
            self._stop, self._last = None, link
        return data

    async def on_response(self, link: Link, data: bytes) -> bytes:
        """See the module's rules."""
        await link.gate.wait()
        if self._last is link:
            self.stopped.set()
        if self.is_deaf or self.stopped.is_set():
            return b""
        if self._lost_push is not None and b"smessage" in data and self._lost_push in data:
            self.pushes_lost += 1
            return b""
        return await super().on_response(link, data)


def open_redis_relay(server_url: str, *, tls: ssl.SSLContext | None = None) -> AbstractAsyncContextManager[RedisRelay]:
    """A relay on a free port of the loopback before the server at a ``redis://`` or ``unix://`` URL."""
    return opened(RedisRelay(server_url), tls=tls)
