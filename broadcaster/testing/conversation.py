"""A conversation: one live request that the test answers by hand, step by step."""

from __future__ import annotations

import asyncio
import contextlib

from broadcaster.testing import wire
from broadcaster.testing.http1 import DEFAULT_TIMEOUT_S, ClientGone, Exchange, RecordedRequest
from broadcaster.testing.script import Step


class Conversation:
    """The next request for a model, in the hands of the test.

    Every call first waits for the request (TimeoutError after ``timeout_s``) and returns when its bytes are written.
    Raises ClientGone when the client has left. The request ends with exactly one of ``finish``, ``fail``,
    ``truncate``, ``cut`` and ``reset``; leaving it unended holds the request until the server closes.
    """

    def __init__(self, *, timeout_s: float = DEFAULT_TIMEOUT_S) -> None:
        self._timeout_s = timeout_s
        self._begun = asyncio.Event()
        self._ended = asyncio.Event()
        self._exchange: Exchange | None = None
        self._is_started = False
        self._blocks = 0
        self._is_text_open = False
        self._pieces = 0

    async def request(self) -> RecordedRequest:
        """The request being answered."""
        return (await self._live()).request

    async def send(self, *events: wire.WireEvent) -> None:
        """Send wire events as they are; the message and its blocks are then the caller's own care."""
        exchange = await self._live()
        for event in events:
            await exchange.send(wire.frame(event))

    async def send_raw(self, data: bytes) -> None:
        """Send bytes as they are."""
        await (await self._live()).send(data)

    async def send_text(self, piece: str) -> None:
        """Send a text delta, and before it whatever start is missing."""
        await self._start()
        if not self._is_text_open:
            self._is_text_open = True
            await self.send(wire.block_start(self._blocks, wire.text().start))
        self._pieces += 1
        await self.send(wire.text_delta(self._blocks, piece))

    async def send_block(self, block: wire.Block) -> None:
        """Send a whole block, after closing the open text."""
        await self._start()
        await self._close_text()
        await self.send(*wire.block_events(self._blocks, block))
        self._blocks += 1

    async def finish(self, stop_reason: str = "end_turn") -> None:
        """End the answer well: close the text, ``message_delta``, ``message_stop``, end of the body."""
        await self._start()
        await self._close_text()
        await self.send(wire.message_delta(stop_reason, output_tokens=self._pieces), wire.message_stop())
        with contextlib.suppress(ClientGone):  # with message_stop it has the whole answer, and may leave
            await (await self._live()).finish()
        self._ended.set()

    async def fail(self, type: str = "overloaded_error", message: str = "Overloaded") -> None:
        """End the answer with an ``error`` event."""
        await self.send(wire.error(type, message))
        await self.truncate()

    async def truncate(self) -> None:
        """End the body properly, whatever was sent in it."""
        await (await self._live()).finish()
        self._ended.set()

    async def cut(self) -> None:
        """Close in the middle of a chunk."""
        (await self._live()).cut()
        self._ended.set()

    async def reset(self) -> None:
        """Close with a TCP RST."""
        (await self._live()).reset()
        self._ended.set()

    def as_step(self) -> Step:
        """The step by which a script hands its request over to this conversation."""
        return _HandOver(self)

    async def hold(self, exchange: Exchange) -> None:
        """Take the request and keep it until the test has ended it."""
        self._exchange = exchange
        self._begun.set()
        await self._ended.wait()

    async def _live(self) -> Exchange:
        try:
            async with asyncio.timeout(self._timeout_s):
                await self._begun.wait()
        except TimeoutError:
            raise TimeoutError(f"no request came for this conversation in {self._timeout_s} s") from None
        assert self._exchange is not None
        return self._exchange

    async def _start(self) -> None:
        if not self._is_started:
            self._is_started = True
            await self.send(wire.message_start())

    async def _close_text(self) -> None:
        if self._is_text_open:
            self._is_text_open = False
            await self.send(wire.block_stop(self._blocks))
            self._blocks += 1


class _HandOver:
    def __init__(self, conversation: Conversation) -> None:
        self._conversation = conversation

    async def run(self, exchange: Exchange) -> None:
        await self._conversation.hold(exchange)
