"""The announcer: puts generations back into the open index that Redis has lost from it.

On a cluster the queue and a generation lie on different servers. If the queue's server fails over without its newest
entries, an accepted generation is whole but has no job and no place in the open index, where every repair starts. A
front-end that watches such a generation, or gets a request for it, announces it; the sweep then gives it a job, or ends
it.

Rules
1. ``notice`` only remembers an id; the check of the open index follows within ``CHECK_EVERY_S``, one for all ids. So no
   request waits for the queue's server.
2. A generation that is missing there is read before it is announced: most have ended meanwhile, or their worker writes
   the job again. Announcing those would do no harm, because the sweep decides.
3. At most ``NOTICED_AT_MOST`` ids are remembered. A watched generation beyond them is noticed again at its next check.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

from broadcaster.errors import LogUnavailable
from broadcaster.log.jobs.queue import Queue
from broadcaster.log.streams.reader import Streams
from broadcaster.observability.logs import get_logger

_log = get_logger(__name__)

CHECK_EVERY_S: Final = 0.5
CHECKED_AT_ONCE: Final = 500
NOTICED_AT_MOST: Final = 10_000


class Announcer:
    """Runs while ``run`` runs."""

    def __init__(self, queue: Queue, streams: Streams) -> None:
        self._queue = queue
        self._streams = streams
        self._noticed: set[str] = set()
        self._is_noticed = asyncio.Event()

    def notice(self, generation_id: str) -> None:
        """This generation is open, and may have no worker."""
        if len(self._noticed) < NOTICED_AT_MOST:
            self._noticed.add(generation_id)
            self._is_noticed.set()

    async def run(self) -> None:
        """Check noticed generations, until cancelled."""
        while True:
            await self._is_noticed.wait()
            await asyncio.sleep(CHECK_EVERY_S)
            await self.check()

    async def check(self) -> None:
        """Announce noticed generations that the open index misses; while Redis cannot answer they stay noticed."""
        noticed, self._noticed = [*self._noticed], set()
        self._is_noticed.clear()
        for begin in range(0, len(noticed), CHECKED_AT_ONCE):
            some = noticed[begin : begin + CHECKED_AT_ONCE]
            try:
                await self._announce(some)
            except LogUnavailable:
                for each in some:
                    self.notice(each)

    async def _announce(self, noticed: Sequence[str]) -> None:
        unlisted = await self._queue.unlisted(noticed)
        tails = await self._streams.tails(unlisted) if unlisted else []
        lost = [each for each, tail in zip(unlisted, tails, strict=True) if tail.is_open and not tail.leased]
        for each in lost:
            await self._queue.announce(each)
        if lost:
            _log.warning("generations_announced", count=len(lost), first=lost[0])
