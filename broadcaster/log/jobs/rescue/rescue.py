"""Rescue: how a front-end keeps its promises when Redis loses a part of its data."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from broadcaster.log.jobs.rescue.accepted import AcceptedGenerations
from broadcaster.log.jobs.rescue.announcer import Announcer
from broadcaster.log.jobs.rescue.kept_ends import KeptEnds


@dataclass(frozen=True, slots=True)
class Rescue:
    """For open generations that the queue has lost, accepted ones that wait for a worker, and stops and ends.

    The sweeper runs ``ends``, because it writes some of them.
    """

    announcer: Announcer
    accepted: AcceptedGenerations
    ends: KeptEnds

    async def run(self) -> None:
        """The other two, until cancelled."""
        await asyncio.gather(self.announcer.run(), self.accepted.run())
