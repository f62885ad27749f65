"""The provider: each delta names its answer, the call that it belongs to, and its position in that call.

``<7.2.5/40>`` is the delta 5 of 40 of the second call for answer 7. So a judge sees in a text alone whether a delta is
doubled, missing, or of another call or answer. What a provider does for an answer is drawn beforehand (``Plan``).
"""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import dataclass, field
from enum import Enum
from typing import Final

from tests.hunt.system.provider_wires import Wire, wire_of
from tests.hunt.system.wire import read_request

TOOL_STEP: Final = "tool"
TEXT_STEP: Final = "text"


class Trouble(Enum):
    """What becomes of one call before the ones that go well."""

    RATE_LIMITED = 429
    OVERLOADED = 529
    FAILED = 500
    CUT_EMPTY = "the connection is closed before any content"
    CUT_MIDDLE = "the connection is cut after half of the content"
    ERROR_TEXT = "an error event after half of the content"
    END_MISSING = "the body ends after half of the content"


AFTER_CONTENT: Final = frozenset({Trouble.CUT_MIDDLE, Trouble.ERROR_TEXT, Trouble.END_MISSING})


@dataclass(frozen=True)
class Plan:
    """How an answer is given. ``burst``: deltas of one write. ``tool``: the tool that the first step calls."""

    deltas: int
    every_s: float
    burst: int = 1
    padding: int = 0
    tool: str | None = None
    troubles: tuple[Trouble, ...] = ()
    thinks: bool = False


@dataclass
class Call:
    """One request of a worker. ``sent`` counts the deltas that were written."""

    answer: str
    number: int
    step: str
    total: int
    began: float
    outcome: str = "running"
    sent: int = 0
    ended: float = 0.0


@dataclass
class Provider:
    """All answers and their calls."""

    plans: dict[str, Plan] = field(default_factory=dict)
    calls: dict[str, list[Call]] = field(default_factory=dict)

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One request."""
        path, _, raw = await read_request(reader)
        if not raw:
            await self._refuse_look_up(writer)
            return
        body = json.loads(raw)
        model = str(body["model"])
        plan = self.plans[model]
        wire = wire_of(path, model)
        step = TEXT_STEP if plan.tool is None or wire.has_result(body) else TOOL_STEP
        calls = self.calls.setdefault(model, [])
        total = plan.deltas if step == TEXT_STEP else max(2, plan.deltas // 4)
        call = Call(model, len(calls) + 1, step, total, time.monotonic())
        calls.append(call)
        trouble = plan.troubles[call.number - 1] if call.number <= len(plan.troubles) else None
        try:
            await _Turn(plan, call, wire, writer).run(trouble)
        except OSError:
            call.outcome = "closed by the worker"
            raise
        except asyncio.CancelledError:
            call.outcome = "cancelled"
            raise
        finally:
            call.ended = time.monotonic()

    async def _refuse_look_up(self, writer: asyncio.StreamWriter) -> None:
        """A look-up of a model: this provider describes none."""
        body = json.dumps({"type": "error", "error": {"type": "not_found_error", "message": "no models here"}}).encode()
        head = "HTTP/1.1 404 Not Found\r\ncontent-type: application/json\r\nconnection: close\r\n"
        writer.write(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)
        await writer.drain()


class _Turn:
    """One call that is being answered."""

    def __init__(self, plan: Plan, call: Call, wire: Wire, writer: asyncio.StreamWriter) -> None:
        self._plan, self._call, self._wire, self._writer = plan, call, wire, writer

    async def run(self, trouble: Trouble | None) -> None:
        """Answer it, well or badly."""
        if trouble is not None and isinstance(trouble.value, int):
            await self._refuse(trouble.value)
            return
        self._writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
        await self._send(self._wire.start(thinks=self._plan.thinks))
        if trouble is Trouble.CUT_EMPTY:
            self._call.outcome = trouble.name
            return
        upto = self._call.total if trouble is None else self._call.total // 2
        await self._deltas(upto)
        if trouble is not None:
            self._call.outcome = trouble.name
            if trouble is Trouble.ERROR_TEXT:
                await self._send(self._wire.fault())
            if trouble is not Trouble.CUT_MIDDLE:
                self._writer.write(b"0\r\n\r\n")
                await self._writer.drain()
            return
        self._call.outcome = "whole"
        tool = self._plan.tool if self._call.step == TOOL_STEP else None
        await self._send(self._wire.end(number=self._call.number, total=self._call.total, tool=tool))
        self._writer.write(b"0\r\n\r\n")
        await self._writer.drain()

    async def _refuse(self, status: int) -> None:
        self._call.outcome = str(status)
        body = json.dumps({"type": "error", "error": {"type": "overloaded_error", "message": "later"}}).encode()
        head = f"HTTP/1.1 {status} No\r\ncontent-type: application/json\r\nretry-after: 0.2\r\n"
        self._writer.write(f"{head}content-length: {len(body)}\r\nconnection: close\r\n\r\n".encode() + body)
        await self._writer.drain()

    async def _deltas(self, upto: int) -> None:
        call, plan = self._call, self._plan
        while call.sent < upto:
            until = min(call.sent + plan.burst, upto)
            texts = [token(call, at, plan.padding) for at in range(call.sent, until)]
            call.sent = until
            await self._send([event for text in texts for event in self._wire.text(text)])
            await asyncio.sleep(plan.every_s)

    async def _send(self, events: list[bytes]) -> None:
        if self._writer.transport.is_closing():
            raise ConnectionResetError("the worker closed the connection")
        raw = b"".join(events)
        if raw:
            self._writer.write(b"%x\r\n%s\r\n" % (len(raw), raw))
            await self._writer.drain()


def token(call: Call, at: int, padding: int) -> str:
    """The delta at this position."""
    return f"<{call.answer}.{call.number}.{at}/{call.total}>" + "x" * padding
