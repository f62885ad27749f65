"""Presence: how many viewers a stream has on all front-ends, as leases; and the end of generations without viewers.

Rules (docs/protocol.md §7)
1. A front-end's report counts until its next one, and for ``ttl_s`` at most: then the front-end is gone (killed,
   frozen, cut off), and its viewers with it. That is longer than a loop may block, because a front-end that cannot
   report still has its viewers. (A thread would not help: it stands still, too, while C code holds the GIL.) Reports
   are repeated far more often, because Redis may lose them. A stream's first viewer here and its last are reported at
   once, and a front-end that ends in order reports that it has none.
2. A report shows that the stream had viewers: from then on a generation with the policy ``cancel`` has been watched,
   and zero can be observed. The report or the check that finds zero stores its time in the same step.
3. A generation with the policy ``cancel`` is abandoned when it has had zero viewers for the grace, and the checking
   process has seen Redis answer for all of it: after a pause or a restart every report looks lapsed although its
   viewers watch.
4. A report that counts for longer than ``ttl_s`` was written before Redis's clock stepped back. The next report or
   check cuts it to ``ttl_s``: a dead front-end is gone by then, and a living one reports again.
5. A missing key is no zero: Redis was emptied, or there never was a viewer. Nothing is abandoned before a report.
6. A creator that stays to watch counts from the creation on (``expect``). If it never becomes a viewer, because the
   caller or the request was gone meanwhile, the next report corrects the count.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Final, NamedTuple, Protocol, TypeAlias

from broadcaster.errors import LogUnavailable
from broadcaster.log.redis.connect import LogConnection, later, log_errors, reply_to
from broadcaster.log.redis.scripts import SCRIPTS, ScriptCall, run_all
from broadcaster.observability.logs import get_logger

_log = get_logger(__name__)

KEEP_MS: Final = 3_600_000
"""How long viewers are remembered after the last report or check: far longer than a round of checks takes."""
ViewerReport: TypeAlias = tuple[str, int, int]
"""A front-end's report of one viewer: the front-end, how long it counts, and how long it is kept, in milliseconds."""
NO_VIEWERS: Final[ViewerReport] = ("", 0, 0)
"""The first report on a generation whose creator does not watch it."""
REPORTED_AT_ONCE: Final = 500
"""Streams in one pipelined write: some milliseconds of the loop."""
DEPARTED_AT_MOST: Final = 10_000
"""Disconnected clients that one front-end remembers."""
RECHECK_S: Final = 0.25
CHECKED_FOR_S: Final = 5.0
"""Zero viewers are stored a moment after the disconnect, later while Redis is slow: checks go on for so long."""
_ABANDONED: Final = 3


class Presence:
    """One front-end's reports of its viewers."""

    def __init__(self, connection: LogConnection, *, front_end: str, ttl_s: float) -> None:
        self._connection = connection
        self._redis = connection.redis
        self._keys = connection.keys
        self._front_end = front_end
        self._ttl_ms = int(ttl_s * 1000)
        self._reported: set[str] = set()

    @property
    def first_report(self) -> ViewerReport:
        """The report of one viewer that a creation writes."""
        return self._front_end, self._ttl_ms, KEEP_MS

    def expect(self, stream_id: str) -> None:
        """A creation writes this front-end's ``first_report``. If no viewer comes, that is reported (rule 6)."""
        self._reported.add(stream_id)

    async def report(self, counts: Mapping[str, int]) -> None:
        """Report the counts of all watched streams; streams reported before and missing now have none any more.

        Raises LogUnavailable.
        """
        await self.report_some({**dict.fromkeys(self._reported - counts.keys(), 0), **counts})

    async def report_some(self, counts: Mapping[str, int]) -> None:
        """Report the counts of these streams, also zeros. Raises LogUnavailable.

        A failure for one stream (a slot that is being migrated) does not keep the others from being reported.
        """
        reports = list(counts.items())
        failures: list[Exception] = []
        for first in range(0, len(reports), REPORTED_AT_ONCE):
            batch = reports[first : first + REPORTED_AT_ONCE]
            replies = await reply_to(run_all(self._redis, [self._call(each, count) for each, count in batch]))
            for (each, count), reply in zip(batch, replies, strict=True):
                if count:
                    self._reported.add(each)  # also where it failed: it may have been written
                elif not isinstance(reply, Exception):
                    self._reported.discard(each)
            failures += [reply for reply in replies if isinstance(reply, Exception)]
        if failures:
            with log_errors():
                raise min(failures, key=later)

    async def count(self, stream_ids: Sequence[str]) -> list[int]:
        """Viewers of each stream over all living front-ends; without the reports of before a step back of the clock.

        Raises LogUnavailable.
        """
        pipeline = self._connection.pipeline()
        for stream_id in stream_ids:
            pipeline.clock(self._keys.viewers(stream_id))
            pipeline.zrange(self._keys.viewers(stream_id), 0, -1, withscores=True)
        with log_errors():
            rows = await pipeline.execute()
            clocks_ms = [pipeline.now_ms(self._keys.viewers(each)) for each in stream_ids]
        return [
            sum(
                int(member.rpartition(b":")[2])
                for member, expiry_ms in members
                if now_ms < expiry_ms <= now_ms + self._ttl_ms
            )
            for members, now_ms in zip(rows, clocks_ms, strict=True)
        ]

    def _call(self, stream_id: str, count: int) -> ScriptCall:
        keys = (self._keys.viewers(stream_id), self._keys.meta(stream_id))
        return ScriptCall(SCRIPTS["presence"], keys, (self._front_end, count, self._ttl_ms, KEEP_MS))


class RedisUptime(Protocol):
    """Whether Redis has answered (``Steadiness`` is one)."""

    def has_answered_for(self, lease_s: float) -> bool:
        """Whether it has, without a break, for so long."""


@dataclass(frozen=True, slots=True)
class Abandonment:
    """Finds generations without viewers, on behalf of one process."""

    connection: LogConnection
    _: KW_ONLY
    grace_s: float
    presence_ttl_s: float
    steadiness: RedisUptime

    async def check(self, generation_ids: Sequence[str]) -> list[str]:
        """Those of these that are abandoned now: their stop is stored, and their worker notified.

        Raises LogUnavailable when Redis does not answer at all.
        """
        if not generation_ids:
            return []
        may_fire = self.steadiness.has_answered_for(self.grace_s)
        calls = [self._call(each, may_fire=may_fire) for each in generation_ids]
        replies = await reply_to(run_all(self.connection.impatient, calls))
        for reply in replies:
            if isinstance(reply, Exception) and not later(reply):
                raise reply
        abandoned = [each for each, reply in zip(generation_ids, replies, strict=True) if reply == _ABANDONED]
        for each in abandoned:
            _log.info("generation_abandoned", stream=each, grace_s=self.grace_s)
        return abandoned

    def _call(self, stream_id: str, *, may_fire: bool) -> ScriptCall:
        name = self.connection.keys
        keys = (name.viewers(stream_id), name.meta(stream_id), name.control(stream_id))
        args = (int(self.grace_s * 1000), KEEP_MS, int(may_fire), int(self.presence_ttl_s * 1000))
        return ScriptCall(SCRIPTS["abandon"], keys, args)


class _Departure(NamedTuple):
    """When a generation is checked next, and until when."""

    due: float
    until: float


class Departures:
    """Clients that have disconnected from an API through which they cannot come back, as one front-end sees them.

    Their generations are abandoned after the grace of ``abandonment``, which is shorter than the usual one. Another
    viewer anywhere prevents that. Nothing is stored before: if this front-end dies, the usual grace holds.
    """

    def __init__(self, abandonment: Abandonment, *, grace_s: float) -> None:
        self._abandonment = abandonment
        self._grace_s = grace_s
        self._departed: dict[str, _Departure] = {}
        self._has_any = asyncio.Event()

    def note(self, generation_id: str) -> None:
        """The client of this generation has disconnected. Beyond ``DEPARTED_AT_MOST`` the usual grace holds."""
        if len(self._departed) < DEPARTED_AT_MOST:
            due = asyncio.get_running_loop().time() + self._grace_s
            self._departed[generation_id] = _Departure(due, due + CHECKED_FOR_S)
            self._has_any.set()

    async def run(self) -> None:
        """Check each when its grace is over, until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            await self._has_any.wait()
            await asyncio.sleep(max(0.0, min(each.due for each in self._departed.values()) - loop.time()))
            now = loop.time()
            due = {id: each for id, each in self._departed.items() if each.due <= now}
            try:
                abandoned = await self._abandonment.check(list(due))
            except LogUnavailable:
                abandoned = []
            for id, seen in due.items():
                if self._departed.get(id) is not seen:
                    continue  # noted again meanwhile
                if id in abandoned or now >= seen.until:
                    del self._departed[id]
                else:
                    self._departed[id] = seen._replace(due=now + RECHECK_S)
            if not self._departed:
                self._has_any.clear()
