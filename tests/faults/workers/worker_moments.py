"""What tests of workers wait for: moments at a viewer, the worker of an attempt, and texts of an answer."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Iterable
from itertools import count
from typing import Any, Final

from broadcaster.log.streams.reader import Streams
from broadcaster.testing import Conversation, Script
from tests.faults.front_ends.viewers import RecordedViewer
from tests.faults.world import FaultWorld, PacedPieces
from tests.support.servers.processes import Running

LEASE_S: Final = 5.0
"""The default of LEASE_TTL_S."""
TAKE_OVER_S: Final = 3.0
"""The contract: a killed worker's generation is taken over within its lease and this."""
WHOLE: Final = ("the ", "whole ", "answer")

_POLL_S: Final = 0.02
_numbers = count()


def events(viewer: RecordedViewer) -> list[dict[str, Any]]:
    """What it was given, in order."""
    return [json.loads(data) for _, data in viewer.entries]


def attempts(viewer: RecordedViewer) -> int:
    """How many new attempts it was notified of."""
    return len(attempt_numbers(viewer))


def attempt_numbers(viewer: RecordedViewer) -> list[int]:
    """The numbers of the new attempts it was notified of."""
    return [each["attempt"] for each in events(viewer) if each["type"] == "attempt"]


def answer(viewer: RecordedViewer) -> str:
    """The text of the last attempt it was notified of."""
    text = ""
    for event in events(viewer):
        if event["type"] == "attempt":
            text = ""
        elif event["type"] == "text-delta":
            text += event["delta"]
    return text


async def when(viewer: RecordedViewer, has_happened: Callable[[RecordedViewer], bool], *, deadline_s: float) -> float:
    """The moment (``time.monotonic``) at which the viewer had it. Raises TimeoutError."""
    async with asyncio.timeout(deadline_s):
        while not has_happened(viewer):
            viewer.changed.clear()
            await viewer.changed.wait()
    return time.monotonic()


async def torn_then_whole(world: FaultWorld, *, first_text: str = "torn ", **options: Any) -> tuple[str, Conversation]:
    """A generation in the middle of its first attempt, which sends no more; every later attempt is whole at once."""
    model = f"claude-torn-{next(_numbers)}"
    world.scripted.script(model, Script(PacedPieces(WHOLE, 0.0)))
    stream, conversation = await world.converse(model=model, **options)
    await conversation.request()
    if first_text:
        await conversation.send_text(first_text)
        await world.until_text(stream, first_text)
    return stream, conversation


async def pid_of_attempt(world: FaultWorld, stream: str) -> int:
    """The process that runs it."""
    while True:
        meta = await Streams(world.connection).meta(stream)
        if meta is not None and meta.worker is not None:
            return int(meta.worker.rsplit(".", 2)[1])
        await asyncio.sleep(_POLL_S)


async def worker_of(world: FaultWorld, stream: str) -> Running:
    """The worker that runs it."""
    pid = await pid_of_attempt(world, stream)
    return next(worker for worker in world.workers if worker.pid == pid)


def logged(workers: Iterable[Running], needle: str) -> list[str]:
    """Lines of their logs that contain this text."""
    return [line for worker in workers for line in worker.log.read_text().split("\n") if needle in line]
