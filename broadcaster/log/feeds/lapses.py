"""Lapsed feeds: a process that reads a feed whose writers are gone ends it, so that it does not look alive.

Rules
1. A feed without a lease is never ended here, and neither is a generation.
2. A process ends no feed before it has seen Redis answer for the feed's lease (see steadiness.py): after a pause or a
   restart of Redis, or a step of its clock, every lease looks lapsed although its writers live. So the lease was seen
   missing, and a probe after that has found no break.
3. The script decides: the lease is missing in the very step that writes ``error writer_lost``, once.
4. A feed that is ended here makes its webhook due, as any end does.
5. A lease with more left than its length is cut to that length: Redis's clock has stepped back. That needs no steady
   Redis, because a living writer renews its lease several times before it ends.
"""

from __future__ import annotations

from typing import Final, Protocol

from broadcaster.core.events import FORMAT_VERSION
from broadcaster.errors import LogUnavailable
from broadcaster.log.jobs.webhooks import due_call
from broadcaster.log.redis.connect import LogConnection
from broadcaster.log.redis.scripts import SCRIPTS
from broadcaster.log.streams import terminals
from broadcaster.log.streams.presence import RedisUptime
from broadcaster.observability.logs import get_logger

_log = get_logger(__name__)

_ENDED: Final = (1, 2)
_HAS_WEBHOOK: Final = 2
_FULL: Final = -1


class ProbedUptime(RedisUptime, Protocol):
    """Whether Redis has answered (``Steadiness`` is one)."""

    async def confirm(self) -> None:
        """Probe now: a break of the last moment is known after it."""


class Lapses:
    """Ends feeds on behalf of one process."""

    def __init__(self, connection: LogConnection, *, steadiness: ProbedUptime) -> None:
        self._redis = connection.impatient
        self._keys = connection.keys
        self._steadiness = steadiness

    async def end(self, stream_id: str, *, lease_ms: int, is_overlong: bool = False) -> bool:
        """End an open feed if its lease has lapsed; whether it was ended by this call. Raises LogUnavailable.

        ``is_overlong``: more was seen left of the lease than it is long.
        """
        await self._steadiness.confirm()
        may_end = self._steadiness.has_answered_for(lease_ms / 1000)
        if not may_end and not is_overlong:
            return False
        name = self._keys
        keys = [name.log(stream_id), name.meta(stream_id), name.live(stream_id), name.lease(stream_id)]
        code = await SCRIPTS["feed_lapse"].run(self._redis, keys, terminals.WRITER_LOST, FORMAT_VERSION, int(may_end))
        if code == _FULL:
            raise LogUnavailable("Redis is full: the end of a feed could not be written; try again")
        if code == _HAS_WEBHOOK:
            call = due_call(name, [stream_id], is_new=True)
            await call.script.run(self._redis, call.keys, *call.args)
        if code in _ENDED:
            _log.warning("feed_ended", stream=stream_id, why="writer_lost", lease_ms=lease_ms)
        return bool(code)
