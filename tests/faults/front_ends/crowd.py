"""Many viewers of several live generations, and how long a fault keeps each of them waiting.

    async with open_crowd(world, streams=4, viewers=120) as crowd:
        cut = await crowd.cause(front_end.kill())
        print(cut.back_s)

The provider sends a delta to every generation each ``SEND_EVERY_S``, for as long as the block runs; at its end the
generations end well.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import count
from typing import Final

from broadcaster.testing import Conversation
from tests.faults.front_ends.viewers import RecordedViewer
from tests.faults.history import Closed, Got
from tests.faults.world import FaultWorld

SEND_EVERY_S: Final = 0.04
DEADLINE_S: Final = 20.0


@dataclass
class Aftermath:
    """What a fault did. ``back_s``: of every viewer whose connection ended, the seconds from the fault to its next
    entry. ``closings``: how those connections ended."""

    back_s: list[float] = field(default_factory=list)
    closings: Sequence[str] = ()


@dataclass
class Crowd:
    """See the module's text. Open it with ``open_crowd``."""

    conversations: list[Conversation]
    viewers: list[RecordedViewer]
    sent: int = 0
    sending: list[asyncio.Task[None]] = field(default_factory=list)

    async def cause(self, fault: Awaitable[object]) -> Aftermath:
        """Let it happen, and wait until every viewer has a delta that was sent after it."""
        marks = [len(viewer.trace.happenings) for viewer in self.viewers]
        began = time.monotonic()
        watches = [
            asyncio.create_task(_until_back(viewer, mark)) for viewer, mark in zip(self.viewers, marks, strict=True)
        ]
        try:
            await fault
            await self.until_number(self.sent + 2)
            # A watch may see its viewer's last delta in a later turn of the loop than we do.
            was_cut = [
                watch
                for viewer, mark, watch in zip(self.viewers, marks, watches, strict=True)
                if _closings(viewer, mark)
            ]
            if was_cut:
                await asyncio.wait(was_cut, timeout=DEADLINE_S)
        finally:
            for watch in watches:
                watch.cancel()
            back = await asyncio.gather(*watches, return_exceptions=True)
        closings = [how for viewer, mark in zip(self.viewers, marks, strict=True) for how in _closings(viewer, mark)]
        return Aftermath([at - began for at in back if isinstance(at, float)], closings)

    async def until_number(self, number: int, deadline_s: float = DEADLINE_S) -> None:
        """Until every viewer has the delta of this number, or a later one."""
        async with asyncio.timeout(deadline_s):
            for viewer in self.viewers:
                while _newest_number(viewer) < number:
                    self._raise_failures()
                    await asyncio.sleep(0.01)

    def _raise_failures(self) -> None:
        for task in self.sending:
            if task.done():
                task.result()

    async def send(self, conversation: Conversation, *, over: asyncio.Event) -> None:
        """Delta after delta, until it is over."""
        for number in count():
            await conversation.send_text(f"<{number}> ")
            self.sent = max(self.sent, number)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(SEND_EVERY_S):
                    await over.wait()
            if over.is_set():
                await conversation.finish()
                return


@asynccontextmanager
async def open_crowd(world: FaultWorld, *, streams: int, viewers: int) -> AsyncIterator[Crowd]:
    """Generations that run and viewers that all have a delta of them; over, all of them, when the block ends well."""
    started = [await world.converse() for _ in range(streams)]
    watching = [viewer for stream, _ in started for viewer in world.view(stream, viewers // streams)]
    crowd = Crowd([conversation for _, conversation in started], watching)
    over = asyncio.Event()
    crowd.sending += [asyncio.create_task(crowd.send(each, over=over)) for each in crowd.conversations]
    try:
        await crowd.until_number(0)
        yield crowd
        over.set()
        await asyncio.gather(*crowd.sending)
        await world.settle(DEADLINE_S)
    finally:
        for task in crowd.sending:
            task.cancel()
        await asyncio.gather(*crowd.sending, return_exceptions=True)


def _closings(viewer: RecordedViewer, mark: int) -> list[str]:
    """How its connections have ended since then."""
    return [each.how for each in viewer.trace.happenings[mark:] if isinstance(each, Closed)]


def _newest_number(viewer: RecordedViewer) -> int:
    for happening in reversed(viewer.trace.happenings):
        if isinstance(happening, Got) and b"<" in happening.data:
            return int(happening.data.rpartition(b"<")[2].partition(b">")[0])
    return -1


async def _until_back(viewer: RecordedViewer, mark: int) -> float:
    """When the viewer had its first entry after the first end of a connection."""
    is_cut = False
    while True:
        viewer.changed.clear()
        for happening in viewer.trace.happenings[mark:]:
            is_cut = is_cut or isinstance(happening, Closed)
            if is_cut and isinstance(happening, Got):
                return time.monotonic()
        mark = len(viewer.trace.happenings)
        await viewer.changed.wait()
