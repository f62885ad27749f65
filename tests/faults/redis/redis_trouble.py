"""Answers that run while Redis is in trouble: what their providers have sent, their viewers, and when all is repaired.

A provider here sends a delta every ``EVERY_S`` seconds, Redis or not, until ``finish`` is called. So what a viewer must
hold once Redis is back is known exactly: whatever the provider had sent by then. *Repaired* means that every viewer
holds it, or was notified (a gap, an error).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from broadcaster.client import AsyncClient
from broadcaster.testing import Exchange, Script
from tests.faults.figures import Figures
from tests.faults.front_ends.viewers import RecordedViewer
from tests.faults.history import GAP, Got, History, check, lost
from tests.faults.world import FaultWorld, Redis, open_world

REPAIR_S: Final = 5.0
"""The promise: from Redis being back to every viewer complete or notified."""
LEASE_S: Final = 1.5
EVERY_S: Final = 0.02
VIEWERS: Final = 3
_POLL_S: Final = 0.01
_NOTICES: Final = (GAP,)
_ATTEMPT: Final = b'{"type":"attempt"'


@dataclass(eq=False)
class Talk:
    """A script's step: deltas until it is stopped; the same deltas at every attempt."""

    every_s: float = EVERY_S
    sent: int = 0
    starts: int = 0
    is_silent: bool = False
    burst: int = 0  # deltas to be sent at once
    is_over: asyncio.Event = field(default_factory=asyncio.Event)  # all sent, or disconnected
    _ending: asyncio.Event = field(default_factory=asyncio.Event)

    async def run(self, exchange: Exchange) -> None:
        try:
            await self._talk(exchange)
        finally:
            self.is_over.set()

    async def _talk(self, exchange: Exchange) -> None:
        composer = exchange.wire.compose(exchange.model)
        self.starts += 1
        self.sent = 0
        while not self._ending.is_set():
            if not self.is_silent:
                burst, self.burst = max(1, self.burst), 0
                for _ in range(burst):
                    await exchange.send_events(*composer.text(text_of_number(self.sent + 1)))
                    self.sent += 1
            try:
                async with asyncio.timeout(self.every_s):
                    await self._ending.wait()
            except TimeoutError:
                continue
        await exchange.send_events(*composer.finish())

    @property
    def is_talking(self) -> bool:
        """Whether it sends more by itself."""
        return not self.is_silent and not self._ending.is_set()

    def finish(self) -> None:
        """Send no more, and end well."""
        self._ending.set()


def text_of_number(number: int) -> str:
    """The provider's n-th delta."""
    return f"w{number:05} "


@dataclass(eq=False)
class Answer:
    """One generation under way and its viewers."""

    stream: str
    talk: Talk
    viewers: list[RecordedViewer]

    @property
    def begins_with_attempt(self) -> bool:
        """Whether an `attempt` is the first entry that its viewers received."""
        return any(viewer.entries[0][1].startswith(_ATTEMPT) for viewer in self.viewers if viewer.entries)

    def is_notified(self, viewer: RecordedViewer, *, since: int) -> bool:
        """Whether the viewer was notified of a loss after its first ``since`` happenings, or has the end."""
        later = viewer.trace.happenings[since:]
        return viewer.is_over.is_set() or any(getattr(each, "name", "") in _NOTICES for each in later)


async def begin(world: FaultWorld, count: int, *, sent: int = 5, **options: Any) -> list[Answer]:
    """So many answers, each with so many deltas and watched by ``VIEWERS`` viewers over all front-ends."""
    answers = []
    for _ in range(count):
        talk, model = Talk(**options), f"claude-talk-{next(world._models)}"
        world.scripted.script(model, Script(talk))
        async with AsyncClient(world.urls[len(world.streams) % len(world.urls)]) as client:
            stream = (await client.start("hi", model=model)).id
        world.streams.append(stream)
        answers.append(Answer(stream, talk, world.view(stream, VIEWERS)))
    await until(lambda: all(text_of_number(sent) in viewer.text for each in answers for viewer in each.viewers), 20)
    return answers


async def repaired(answers: Sequence[Answer], *, since: Sequence[Sequence[int]] = ()) -> float:
    """Until every viewer holds what its provider has sent by now, or was notified since; how long it took.

    ``since`` is what ``mark`` gave before the fault.
    """
    began = time.monotonic()
    marks = since or mark(answers)
    due = [text_of_number(each.talk.sent) for each in answers]

    def is_well() -> bool:
        return all(
            due[at] in viewer.text or each.is_notified(viewer, since=marks[at][number])
            for at, each in enumerate(answers)
            for number, viewer in enumerate(each.viewers)
        )

    await until(is_well, 2 * REPAIR_S)
    took_s = time.monotonic() - began
    assert took_s <= REPAIR_S, f"repaired after {took_s:.1f} s"
    return took_s


async def send_more(answers: Sequence[Answer], deltas: int = 10) -> None:
    """Until all providers that send have sent so many more deltas."""
    goals = [(each.talk, each.talk.sent + deltas) for each in answers if each.talk.is_talking]
    await until(lambda: all(talk.sent >= goal for talk, goal in goals))


def mark(answers: Sequence[Answer]) -> list[list[int]]:
    """How many notices every viewer has received so far."""
    return [[len(viewer.trace.happenings) for viewer in each.viewers] for each in answers]


def tellings(answers: Sequence[Answer]) -> list[str]:
    """Every notice but the ordinary ones."""
    ordinary = ("hub.hello", "hub.live")
    return [name for each in answers for viewer in each.viewers for name in viewer.notices if name not in ordinary]


def gaps(answers: Sequence[Answer], *, is_log_lost: bool = False) -> list[str]:
    """What viewers with a gap received beside entries, in order: so a test that fails shows how the gap came about.

    ``is_log_lost``: a gap is right where the log began with an `attempt`. The claim wrote that entry, because Redis was
    silent between the request and the claim. No worker can write it again (rule 5 of log/streams/writer.py).
    """
    forgiven = [answer for answer in answers if is_log_lost and answer.begins_with_attempt]
    viewers = [
        viewer for answer in answers if answer not in forgiven for viewer in answer.viewers if GAP in viewer.notices
    ]
    return [
        f"{viewer.stream}: {at} happenings, then {each}"
        for viewer in viewers
        for at, each in enumerate(viewer.trace.happenings)
        if not isinstance(each, Got)
    ]


async def judge(world: FaultWorld, figures: Figures, answers: Sequence[Answer], *, is_lossy: bool = False) -> History:
    """End the answers, hold what happened to them to the promises, and forget them."""
    for each in answers:
        each.talk.finish()
    await world.settle(30)
    streams = set(world.streams)
    history = await world.history(is_lossy=is_lossy)
    history.acked = [each for each in history.acked if each.stream in streams]
    violations = check(history)
    assert not violations, "\n".join(map(str, violations[:10]))
    figures.add("entries lost (Redis)", len(lost(history)), "entries")
    world.streams.clear()
    world.viewers.clear()
    return history


async def until(is_so: Callable[[], bool], deadline_s: float = 60.0) -> None:
    """Until a condition of this process holds."""
    async with asyncio.timeout(deadline_s):
        while not is_so():
            await asyncio.sleep(_POLL_S)


async def until_so(is_so: Callable[[], Awaitable[bool]], deadline_s: float = 60.0) -> None:
    """The same, where a check takes a wait."""
    async with asyncio.timeout(deadline_s):
        while not await is_so():
            await asyncio.sleep(_POLL_S)


@asynccontextmanager
async def open_system(folder: Path, redis: Redis, *, workers: int = 2, **settings: object) -> AsyncIterator[FaultWorld]:
    """Two front-ends and some workers over one Redis, with short leases."""
    async with open_world(folder, redis=redis, **{"lease_ttl_s": LEASE_S, **settings}) as world:
        for _ in range(workers):
            await world.worker()
        await world.front_end()
        await world.front_end()
        yield world
