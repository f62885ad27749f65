"""A conversation: one live request that the test answers step by step, in the wire of that request."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from typing import Any, Final

from broadcaster.process.thread_event import ThreadEvent
from broadcaster.testing.exchange import Exchange
from broadcaster.testing.http1 import ClientGone, RecordedRequest
from broadcaster.testing.script import Step
from broadcaster.testing.wire import WireEvent
from broadcaster.testing.wires import WireComposer

# The client may be a process that has just started on a busy machine: importing an SDK alone takes seconds.
REQUEST_TIMEOUT_S: Final = 20.0


class Conversation:
    """The next request for a model, which the test answers.

    Every call first waits for the request (TimeoutError after ``timeout_s``) and returns when its bytes are written;
    a request without ``stream`` gets them all at the end. Raises ClientGone when the client has left. The test may run
    on another event loop, in another thread, than the provider.

    The request ends with exactly one of ``finish``, ``fail``, ``truncate``, ``cut`` and ``reset``. Without one it stays
    open until the server closes.
    """

    def __init__(self, *, timeout_s: float = REQUEST_TIMEOUT_S) -> None:
        self._timeout_s = timeout_s
        self._begun = ThreadEvent()
        self._ended = ThreadEvent()
        self._exchange: Exchange | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._composer: WireComposer | None = None
        self._calls = 0

    async def request(self) -> RecordedRequest:
        """The request being answered."""
        return (await self._live()).request

    async def send(self, *events: WireEvent) -> None:
        """Send wire events as they are; the caller provides starts, ends and numbers."""
        await self._write(lambda exchange: exchange.send_events(*events))

    async def send_raw(self, data: bytes) -> None:
        """Send bytes as they are."""
        await self._write(lambda exchange: exchange.send(data))

    async def send_text(self, piece: str) -> None:
        """Send a text delta, and before it the missing starts."""
        await self.send(*(await self._composing()).text(piece))

    async def send_tool(self, name: str, *fragments: str, id: str | None = None) -> None:
        """Send a whole tool call; the fragments are pieces of its JSON arguments. Without an id, ``call_01`` and on."""
        self._calls += 1
        exchange = await self._live()
        await self.send_block(exchange.wire.tool_call(name, *fragments, id=id or f"call_{self._calls:02}"))

    async def send_reasoning(self, *pieces: str) -> None:
        """Send whole reasoning, a delta for each piece."""
        await self.send_block((await self._live()).wire.reasoning(*pieces))

    async def send_refusal(self, *pieces: str) -> None:
        """Send a whole refusal, a delta for each piece."""
        await self.send_block((await self._live()).wire.refusal(*pieces))

    async def send_block(self, block: Any) -> None:
        """Send a whole block (a part, on OpenAI's wires), after closing the open text.

        Raises TypeError when it was built for another wire than the request's.
        """
        await self.send(*(await self._composing()).part(block))

    async def finish(self, reason: str | None = None) -> None:
        """End the answer well: what is open closes, the terminal event, end of the body.

        ``reason`` is the wire's own name (``max_tokens``, ``length``, ``max_output_tokens``); without it, the one that
        fits the events.
        """
        await self.send(*(await self._composing()).finish(reason))
        with contextlib.suppress(ClientGone):  # with the terminal event it has the whole answer, and may leave
            await self._write(lambda exchange: exchange.finish())
        self._ended.set()

    async def fail(self, type: str | None = None, message: str = "Overloaded") -> None:
        """End the answer with the wire's error event; without a type, the one for an overload."""
        composer = await self._composing()
        await self.send(*composer.fail(type or (await self._live()).wire.overloaded, message))
        await self.truncate()

    async def truncate(self) -> None:
        """End the body properly, after any events."""
        await self._write(lambda exchange: exchange.finish())
        self._ended.set()

    async def cut(self) -> None:
        """Close in the middle of a chunk."""
        await self._write(_cut)
        self._ended.set()

    async def reset(self) -> None:
        """Close with a TCP RST."""
        await self._write(_reset)
        self._ended.set()

    def as_step(self) -> Step:
        """The step that hands the request of a script over to this conversation."""
        return self

    async def run(self, exchange: Exchange) -> None:
        """Take the request and keep it until the test has ended it."""
        self._exchange, self._loop = exchange, asyncio.get_running_loop()
        self._begun.set()
        await self._ended.wait()

    hold = run

    async def _live(self) -> Exchange:
        try:
            async with asyncio.timeout(self._timeout_s):
                await self._begun.wait()
        except TimeoutError:
            raise TimeoutError(f"no request came for this conversation in {self._timeout_s} s") from None
        assert self._exchange is not None
        return self._exchange

    async def _write(self, act: Callable[[Exchange], Coroutine[Any, Any, None]]) -> None:
        exchange = await self._live()
        if self._loop is None or self._loop is asyncio.get_running_loop():
            await act(exchange)
        else:
            await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(act(exchange), self._loop))

    async def _composing(self) -> WireComposer:
        if self._composer is None:
            exchange = await self._live()
            self._composer = exchange.wire.compose(exchange.model)
        return self._composer


async def _cut(exchange: Exchange) -> None:
    exchange.cut()


async def _reset(exchange: Exchange) -> None:
    exchange.reset()
