"""Stops: the wish is written down, the worker is told, and a generation without a worker is ended here.

A stop that was answered is kept for a while (kept_ends.py): a failover may lose both the wish and the end.
"""

from __future__ import annotations

import contextlib
from enum import IntEnum
from typing import Final

from broadcaster.errors import LogUnavailable
from broadcaster.log.claims import Outcome
from broadcaster.log.connect import LogConnection, log_errors
from broadcaster.log.endings import Endings
from broadcaster.log.kept_ends import KeptEnds
from broadcaster.log.queue import Queue
from broadcaster.log.scripts import STOP
from broadcaster.log.steadiness import Steadiness
from broadcaster.log.streams import Meta, Streams

STOPPED: Final = "stopped"
"""The reason of a stop that was asked for."""


class Stop(IntEnum):
    """What asking for the end came to; the numbers are the script's answers."""

    UNKNOWN = 0
    ASKED = 1
    OVER = 2
    NOT_WRITTEN = -1


class Stops:
    """Every method raises LogUnavailable while Redis cannot answer; each is safe to repeat."""

    def __init__(
        self,
        connection: LogConnection,
        *,
        queue: Queue,
        endings: Endings,
        streams: Streams,
        steadiness: Steadiness,
        ends: KeptEnds | None,
    ) -> None:
        self._redis = connection.redis
        self._keys = connection.keys
        self._queue = queue
        self._endings = endings
        self._streams = streams
        self._steadiness = steadiness
        self._ends = ends

    async def ask(self, meta: Meta) -> Stop:
        """Write the wish down, tell the worker, and end it here when no worker runs it."""
        keys = [self._keys.meta(meta.id), self._keys.control(meta.id)]
        with log_errors():
            code = Stop(await STOP.run(self._redis, keys, STOPPED))
        if code is not Stop.ASKED:
            return code
        (tail,) = await self._streams.tails([meta.id])
        steadiness = self._steadiness
        claim = await self._endings.end(
            meta.id,
            None,
            tail=tail,
            may_take_over=steadiness.is_steady,
            answered_s=steadiness.answered_s,
        )
        if self._ends is not None:
            self._ends.keep(meta, None, reason=STOPPED, is_written=claim.outcome is Outcome.ENDED)
        if claim.outcome is Outcome.ENDED:
            # No worker runs it: its place in the queue is free at once. The sweep closes it as well, but later.
            with contextlib.suppress(LogUnavailable):
                webhooks_of = [meta.id] if meta.webhook is not None else []
                await self._queue.close_open([meta.id], webhooks_of=webhooks_of)
        return Stop.OVER if claim.outcome in (Outcome.ENDED, Outcome.OVER) else Stop.ASKED
