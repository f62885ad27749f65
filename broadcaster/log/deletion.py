"""Deleting a stream that is over: what is removed, in which order, and what stays.

Order, of a generation: idempotency key → log, request and lease (one script, which leaves the tombstone) → job and open
index → recent ones. A deletion that breaks off is completed by its repetition; what refers to a tombstone meanwhile
treats it as gone.

The tombstone is as small as honesty allows: how the generation ended (viewers whose push was lost read their terminal
event from it), and an epoch newer than any that was granted. The epoch is what keeps it deleted: a worker that held the
stream may still have every event in its re-send buffer, and is fenced by it as by any newer grant. A feed's tombstone
keeps its id: a publisher that knows of no deletion is told that the feed is closed, not given a new one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from broadcaster.errors import LogUnavailable
from broadcaster.log.connect import LogConnection, log_errors
from broadcaster.log.idempotency import IdempotencyKeys
from broadcaster.log.queue import Queue
from broadcaster.log.recents import Recents
from broadcaster.log.scripts import DELETE
from broadcaster.log.streams import Meta

# Far beyond a re-send buffer's life (RESEND_KEEP_S is bounded by it) and beyond any pause of a worker that still ends
# with its waking up. It costs less than the log would have, which by default is kept as long.
TOMBSTONE_MS: Final = 3_600_000

_FULL: Final = -2
_NOT_OVER: Final = -1


async def leave_tombstone(connection: LogConnection, keys: Sequence[str]) -> None:
    """``keys``: the meta and the log of a stream that is over, and what else goes with it. Raises LogUnavailable."""
    with log_errors():
        code = await DELETE.run(connection.redis, keys, TOMBSTONE_MS)
    if code == _FULL:
        raise LogUnavailable("Redis is full: nothing was deleted; try again")
    if code == _NOT_OVER:
        raise LogUnavailable("the log lost the stream's end a moment ago; try again")


class Deletion:
    """Raises LogUnavailable while Redis cannot answer; safe to repeat."""

    def __init__(
        self, connection: LogConnection, *, idempotency: IdempotencyKeys, queue: Queue, recents: Recents
    ) -> None:
        self._connection = connection
        self._idempotency = idempotency
        self._queue = queue
        self._recents = recents

    async def forget(self, meta: Meta) -> None:
        """Leave a tombstone of a generation that is over (of one that was deleted: complete that)."""
        if meta.idempotency_key is not None:
            await self._idempotency.forget(meta.tenant, meta.idempotency_key, generation_id=meta.id)
        name = self._connection.keys
        keys = [name.meta(meta.id), name.log(meta.id), name.lease(meta.id), name.viewers(meta.id)]
        await leave_tombstone(self._connection, keys)
        await self._queue.remove(meta.id)
        await self._recents.drop(meta.tenant, [meta.id])
