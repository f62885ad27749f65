"""Stops: the request is stored, the worker is notified, and a generation without a worker is ended here.

A confirmed stop is kept for a while (kept_ends.py): a failover may lose both the request and the end.
"""

from __future__ import annotations

import contextlib
from dataclasses import KW_ONLY, dataclass
from enum import IntEnum
from typing import Final

from broadcaster.errors import LogUnavailable
from broadcaster.log.jobs.claims import Outcome
from broadcaster.log.jobs.endings import Endings
from broadcaster.log.jobs.queue import Queue
from broadcaster.log.jobs.rescue.kept_ends import KeptEnds
from broadcaster.log.redis.connect import LogConnection
from broadcaster.log.redis.scripts import SCRIPTS
from broadcaster.log.redis.steadiness import Steadiness
from broadcaster.log.streams.reader import Meta, Streams

STOPPED: Final = "stopped"
"""The reason of a stop that a caller requested."""


class Stop(IntEnum):
    """The result of a stop request; the numbers are the script's replies."""

    UNKNOWN = 0
    REQUESTED = 1
    OVER = 2
    NOT_WRITTEN = -1


@dataclass(frozen=True, slots=True)
class Stops:
    """Every method raises LogUnavailable while Redis cannot answer; each is safe to repeat."""

    connection: LogConnection
    _: KW_ONLY
    queue: Queue
    endings: Endings
    streams: Streams
    steadiness: Steadiness
    ends: KeptEnds | None

    async def request(self, meta: Meta) -> Stop:
        """Store the request, notify the worker, and end the generation here if it has no worker."""
        keys = [self.connection.keys.meta(meta.id), self.connection.keys.control(meta.id)]
        code = Stop(await SCRIPTS["stop"].run(self.connection.redis, keys, STOPPED))
        if code is not Stop.REQUESTED:
            return code
        (tail,) = await self.streams.tails([meta.id])
        steadiness = self.steadiness
        claim = await self.endings.end(
            meta.id,
            None,
            tail=tail,
            may_take_over=steadiness.is_steady,
            answered_s=steadiness.answered_s,
        )
        if self.ends is not None:
            self.ends.keep(meta, None, reason=STOPPED, is_written=claim.outcome is Outcome.ENDED)
        if claim.outcome is Outcome.ENDED:
            # It has no worker: its place in the queue is free at once. The sweep closes it as well, but later.
            with contextlib.suppress(LogUnavailable):
                webhooks_of = [meta.id] if meta.webhook is not None else []
                await self.queue.close_open([meta.id], webhooks_of=webhooks_of)
        return Stop.OVER if claim.outcome in (Outcome.ENDED, Outcome.OVER) else Stop.REQUESTED
