"""Scripts: what the scripted provider does with a request, step by step, without a clock.

    Script.of_text("Hello ", "world")                           a good answer on any wire
    Script(Send(*wire.message(wire.text("Hello"))))             the same in events of the Messages wire
    Script(Send(wire.message_start()), Wait(gate), Cut())       a cut when the test opens the gate
    Script(Answer(429, headers={"retry-after": "2"}))           a refusal
    Script(Hang())                                              no headers, ever

Only the events in ``Send`` belong to one wire (``wire``, ``chat_wire``, ``responses_wire``); every other step speaks
the wire of the request. A script that runs out of steps ends the body properly: without the wire's terminal event that
is a clean truncation.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Protocol

from broadcaster.process.thread_event import ThreadEvent
from broadcaster.testing.exchange import Exchange
from broadcaster.testing.http1 import DEFAULT_TIMEOUT_S
from broadcaster.testing.wire import WireEvent


class Step(Protocol):
    """One thing that a script does."""

    async def run(self, exchange: Exchange) -> None:
        """Do it; returns when the next step may begin."""


class Script:
    """Steps in their order; may serve any number of requests."""

    def __init__(self, *steps: Step) -> None:
        self.steps = steps

    @classmethod
    def of_text(cls, *pieces: str) -> Script:
        """A whole answer with one text, a delta for each piece, on any wire."""
        return cls(_WholeText(pieces))

    async def play(self, exchange: Exchange) -> None:
        """Run every step, and end the body unless a step has ended the answer."""
        for step in self.steps:
            await step.run(exchange)
        if not exchange.is_over:
            await exchange.finish()


class Gate:
    """Where scripts wait until the test opens the gate: order without sleeps."""

    def __init__(self) -> None:
        self._opened = ThreadEvent()
        self._reached = ThreadEvent()

    def open(self) -> None:
        """Let all scripts pass, now and later."""
        self._opened.set()

    async def wait_reached(self, timeout_s: float = DEFAULT_TIMEOUT_S) -> None:
        """Wait until a script waits here: everything before the gate has been written. Raises TimeoutError."""
        async with asyncio.timeout(timeout_s):
            await self._reached.wait()

    async def wait_opened(self) -> None:
        """Wait here until the test opens the gate."""
        self._reached.set()
        await self._opened.wait()


# ----------------------------------------------------------------------------------------------------------- good steps


@dataclass(frozen=True)
class Headers:
    """Send status and headers before the first event. Without this step they go with the first bytes."""

    extra: Mapping[str, str] | None = None

    async def run(self, exchange: Exchange) -> None:
        await exchange.send_head(self.extra)


class Send:
    """Send events of the request's wire, each in its own chunk."""

    def __init__(self, *events: WireEvent) -> None:
        self.events = events

    async def run(self, exchange: Exchange) -> None:
        await exchange.send_events(*self.events)


@dataclass(frozen=True)
class SendRaw:
    """Send bytes as they are: comments, CRLF, bad JSON."""

    data: bytes

    async def run(self, exchange: Exchange) -> None:
        await exchange.send(self.data)


@dataclass(frozen=True)
class SendCut:
    """Send bytes in pieces that end at the given offsets, each in its own chunk and write.

    The client may still read several at once: TCP does not preserve them.
    """

    data: bytes
    at: Sequence[int]

    async def run(self, exchange: Exchange) -> None:
        borders = [0, *self.at, len(self.data)]
        for begin, end in pairwise(borders):
            await exchange.send(self.data[begin:end])
            # One loop turn, so that a client in this loop can read between two pieces.
            await asyncio.sleep(0)


@dataclass(frozen=True)
class Wait:
    """Wait for a gate that the test opens."""

    gate: Gate

    async def run(self, exchange: Exchange) -> None:
        await self.gate.wait_opened()


@dataclass(frozen=True)
class PacedText:
    """A whole answer of ``word0 word1 …`` at ``rate`` events per second: for demonstrations and load, not for tests.

    Every word has its own due time, so the rate holds over the whole answer after a busy moment.
    """

    tokens: int = 200
    rate: float = 50.0

    async def run(self, exchange: Exchange) -> None:
        composer = exchange.wire.compose(exchange.model)
        await exchange.send_events(*composer.start())
        loop = asyncio.get_running_loop()
        began = loop.time()
        for number in range(self.tokens):
            await asyncio.sleep(max(0.0, began + (number + 1) / self.rate - loop.time()))
            await exchange.send_events(*composer.text(f"word{number} "))
        await exchange.send_events(*composer.finish())


@dataclass(frozen=True)
class _WholeText:
    pieces: Sequence[str]

    async def run(self, exchange: Exchange) -> None:
        composer = exchange.wire.compose(exchange.model)
        for piece in self.pieces:
            await exchange.send_events(*composer.text(piece))
        await exchange.send_events(*composer.finish())


# --------------------------------------------------------------------------------------------------------------- faults


@dataclass(frozen=True)
class Answer:
    """A status answer in place of a stream; without a body, the wire's own error body for that status."""

    status: int
    headers: Mapping[str, str] | None = None
    body: Any = None
    message: str = "scripted"

    async def run(self, exchange: Exchange) -> None:
        body = exchange.wire.error_body(self.status, self.message) if self.body is None else self.body
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        await exchange.answer(self.status, raw, self.headers)


@dataclass(frozen=True)
class Hang:
    """Send nothing more until the client leaves. As the first step: no headers, ever."""

    async def run(self, exchange: Exchange) -> None:
        await exchange.wait_gone()


@dataclass(frozen=True)
class Cut:
    """Close in the middle of a chunk; as the first step, close without any answer."""

    async def run(self, exchange: Exchange) -> None:
        exchange.cut()


@dataclass(frozen=True)
class Reset:
    """Close with a TCP RST."""

    async def run(self, exchange: Exchange) -> None:
        exchange.reset()


@dataclass(frozen=True)
class BadJson:
    """Send an event whose data is not JSON."""

    async def run(self, exchange: Exchange) -> None:
        await exchange.send(exchange.wire.bad_json)
