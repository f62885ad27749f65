"""A few questions to one server over a connection of their own: to a sentinel, to any node of a cluster.

redis-py is not asked: its clients follow a topology, and this is what finds one. RESP2, one answer a command, in order;
after SUBSCRIBE the pushes come as answers, too. Every wait has a deadline, and memory is bounded.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final, TypeAlias, cast

import hiredis

from broadcaster.log.feed_address import Dialer

NODE_ERRORS: Final = (OSError, TimeoutError, hiredis.HiredisError)
"""What a question may fail with: no connection, no answer in time, or a refusal."""

_INCOMPLETE: Final = object()
_REPLY_BYTES: Final = 8 * 2**20
_UNREAD: Final = 1000


Address: TypeAlias = tuple[str, int]


def name_of(address: Address) -> str:
    """A server's name: ``host:port``, IPv6 without brackets."""
    return f"{address[0]}:{address[1]}"


def address_of(name: str) -> Address:
    """Where the server of that name is."""
    host, _, port = name.rpartition(":")
    return host, int(port)


def told_fault(address: Address, error: BaseException) -> str:
    """What an operator reads of a server that did not answer."""
    return f"{name_of(address)}: {str(error) or 'no answer in time'}"


class NodeTalk(asyncio.Protocol):
    """One connection to one server. Made by ``open_talk``."""

    def __init__(self) -> None:
        self._reader = hiredis.Reader(notEnoughData=_INCOMPLETE)
        self._replies: asyncio.Queue[Any] = asyncio.Queue()
        self._transport: asyncio.Transport | None = None

    async def ask(self, *words: str, within_s: float) -> Any:
        """The answer to one command. Raises one of NODE_ERRORS."""
        self.send(*words)
        return await self.hear(within_s=within_s)

    def send(self, *words: str) -> None:
        """One command; its answer is heard later."""
        if self._transport is not None:
            self._transport.write(cast(bytes, hiredis.pack_command(cast(Any, words))))

    async def hear(self, *, within_s: float) -> Any:
        """The next answer or push. Raises one of NODE_ERRORS."""
        async with asyncio.timeout(within_s):
            reply = await self._replies.get()
        if isinstance(reply, Exception):
            raise reply
        return reply

    def close(self) -> None:
        """Hang up."""
        if self._transport is not None:
            self._transport.abort()

    # -- asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, error: Exception | None) -> None:
        self._replies.put_nowait(ConnectionResetError("the server closed the connection"))

    def data_received(self, data: bytes) -> None:
        try:
            self._reader.feed(data)
            while (reply := self._reader.gets()) is not _INCOMPLETE:
                self._replies.put_nowait(reply)
        except hiredis.ProtocolError as error:
            self._replies.put_nowait(error)
            self.close()
        if self._reader.len() > _REPLY_BYTES or self._replies.qsize() > _UNREAD:
            self._replies.put_nowait(ConnectionAbortedError("more than anybody asked for"))
            self.close()


@asynccontextmanager
async def open_talk(dialer: Dialer, *, within_s: float) -> AsyncIterator[NodeTalk]:
    """A connection, greeted. Raises one of NODE_ERRORS."""
    async with asyncio.timeout(within_s):
        talk = await dialer.dial(NodeTalk)
    try:
        if greeting := dialer.greeting():
            await talk.ask(*greeting, within_s=within_s)
        yield talk
    finally:
        talk.close()
