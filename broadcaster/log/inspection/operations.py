"""What an operator sees and does, over all tenants. The admin routes (web/routes/admin.py) are its only caller.

Every read is bounded, and costs one or two round trips. Every method raises LogUnavailable while Redis cannot answer.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from broadcaster.errors import UnknownStream
from broadcaster.log.inspection.queue_state import QueueState, read_queue_state
from broadcaster.log.inspection.server_state import ServerStates, read_server_states
from broadcaster.log.inspection.worker_reports import WorkerPage, WorkerReports
from broadcaster.log.jobs.dead_letters import DeadLetter, DeadLetterPage, DeadLetters
from broadcaster.log.jobs.generations import Created
from broadcaster.log.redis.connect import LogConnection
from broadcaster.log.redis.steadiness import Steadiness
from broadcaster.log.streams.reader import Meta, Streams

_UNKNOWN = "no generation has this id (or it has expired)"


class SteadyState(NamedTuple):
    """How this process has seen Redis answer. ``answered_s`` None: it has seen no break yet."""

    is_steady: bool
    breaks: int
    answered_s: float | None


class Operations:
    """The operator's view of one Redis, from one process."""

    def __init__(
        self, connection: LogConnection, *, streams: Streams, dead_letters: DeadLetters, steadiness: Steadiness
    ) -> None:
        self._connection = connection
        self._streams = streams
        self._dead_letters = dead_letters
        self._steadiness = steadiness
        self._reports = WorkerReports(connection)

    async def workers(self, *, limit: int, after: str) -> WorkerPage:
        """Workers by name, with what they run."""
        return await self._reports.page(limit=limit, after=after)

    async def queue(self, *, limit: int, after: str | None) -> QueueState:
        """What waits, tenant by tenant."""
        return await read_queue_state(self._connection, limit=limit, after=after)

    async def servers(self) -> ServerStates:
        """The Redis servers."""
        return await read_server_states(self._connection)

    def steadiness(self) -> SteadyState:
        """How this process has seen Redis answer."""
        answered_s = self._steadiness.answered_s
        return SteadyState(
            self._steadiness.is_steady, self._steadiness.breaks, None if math.isinf(answered_s) else answered_s
        )

    async def dead_letters(self, *, limit: int, before: str | None) -> DeadLetterPage:
        """Dead letters, the newest first."""
        return await self._dead_letters.page(limit=limit, before=before)

    async def requeue(self, letter_id: str) -> tuple[DeadLetter, Created]:
        """Start its generation as a new one; see DeadLetters. Raises UnknownStream, QueueFull, IdempotencyMismatch."""
        letter = await self._dead_letters.letter(letter_id)
        return letter, await self._dead_letters.requeue(letter)

    async def generation(self, generation_id: str) -> Meta:
        """The meta of any tenant's generation, without its request. Raises UnknownStream."""
        (meta,) = await self._streams.metas([generation_id])
        if meta is None or meta.is_deleted or meta.kind != "generation":
            raise UnknownStream(_UNKNOWN)
        return meta
