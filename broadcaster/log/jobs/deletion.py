"""Deleting a stream that is over: what is removed, in which order, and what stays.

Order, of a generation: idempotency key → log, request and lease (one script, which leaves the tombstone) → job and open
index → recent ones. A deletion that breaks off is completed by its repetition; meanwhile a tombstone counts as gone.

The tombstone holds only how the generation ended (viewers whose push was lost read their terminal event from it) and an
epoch newer than any that was granted. The epoch keeps it deleted: the stream's worker may still have every event in its
re-send buffer, and is fenced as by any newer grant. A feed's tombstone keeps its id: a publisher that does not know of
the deletion learns that the feed is closed, and does not open a new one.

An unlisted call (core/requests/passed_calls.py) is deleted as soon as it is answered, so a tenant may leave many
tombstones a second. Each lives only as long as the call itself would be kept, or as a re-send buffer is. Of an error it
keeps the code only.

A full Redis deletes, too: the tombstone needs less than what it frees.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from broadcaster.core.requests.passed_calls import KEPT_S
from broadcaster.core.status import META_OUTLIVES_LOG_MS
from broadcaster.errors import LogUnavailable
from broadcaster.log.jobs.idempotency import IdempotencyKeys
from broadcaster.log.jobs.lists.recents import Recents
from broadcaster.log.jobs.queue import Queue
from broadcaster.log.redis.connect import LogConnection
from broadcaster.log.redis.scripts import SCRIPTS
from broadcaster.log.streams.reader import Meta

# Far longer than a re-send buffer lives (RESEND_KEEP_S is bounded by it), and than any pause after which a worker goes
# on. It costs less than the log would have, which by default is kept as long.
TOMBSTONE_MS: Final = META_OUTLIVES_LOG_MS
CALL_TOMBSTONE_MS: Final = int(KEPT_S * 1000)

_NOT_OVER: Final = -1


async def leave_tombstone(
    connection: LogConnection, keys: Sequence[str], *, call_tombstone_ms: int = CALL_TOMBSTONE_MS
) -> None:
    """``keys``: the meta and the log of a stream that is over, and its other keys. Raises LogUnavailable."""
    code = await SCRIPTS["delete"].run(connection.redis, keys, TOMBSTONE_MS, call_tombstone_ms)
    if code == _NOT_OVER:
        raise LogUnavailable("the log lost the stream's end a moment ago; try again")


class Deletion:
    """Raises LogUnavailable while Redis cannot answer; safe to repeat."""

    def __init__(
        self, connection: LogConnection, *, idempotency: IdempotencyKeys, queue: Queue, resend_ms: int
    ) -> None:
        self._connection = connection
        self._idempotency = idempotency
        self._queue = queue
        self._recents = Recents(connection)
        # Twice: a worker may be paused for a moment when its buffer expires.
        self._call_tombstone_ms = max(CALL_TOMBSTONE_MS, min(2 * resend_ms, TOMBSTONE_MS))

    async def forget(self, meta: Meta) -> None:
        """Leave a tombstone of a generation that is over, or complete an earlier deletion."""
        if meta.idempotency_key is not None:
            await self._idempotency.forget(meta.tenant, meta.idempotency_key, generation_id=meta.id)
        name = self._connection.keys
        keys = [name.meta(meta.id), name.log(meta.id), name.lease(meta.id), name.viewers(meta.id)]
        await leave_tombstone(self._connection, keys, call_tombstone_ms=self._call_tombstone_ms)
        await self._queue.remove(meta.id)
        await self._recents.drop(meta.tenant, [meta.id])
