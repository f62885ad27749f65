"""Kept ends: a generation that this process stopped, or ended without a worker, stays so when a failover loses that.

A worker keeps what it wrote, and writes a lost end again. An end that no worker wrote (a stop of a queued generation, a
time-out that the sweep found) is kept by the process that wrote it, and so is every stop that this process confirmed.

Rules
1. Each is kept for ``keep_s``, as a worker keeps its buffer; at most ``KEPT_AT_MOST``, beyond that the oldest is
   forgotten.
2. After every break of Redis each kept end is verified. A stop is requested again; a generation that is open without a
   lease is ended again, with the same terminal event. If a worker runs it by now, that worker reads the stop; any other
   end is then void, because its reason has gone.
3. A generation that Redis does not know is checked again until this process has seen Redis answer for one lease: the
   front-end that accepted it may be writing it again (accepted.py).
4. Its webhook is due once more, and it leaves the open index once more: the queue may have lost that, too.
5. A server that does not answer delays its own ends alone. One of them waits for it, and the rest for the next turn.
"""

from __future__ import annotations

import asyncio
from dataclasses import KW_ONLY, dataclass, field
from typing import Final

from broadcaster.core.status import OVER
from broadcaster.errors import LogUnavailable
from broadcaster.log.jobs.claims import Outcome
from broadcaster.log.jobs.endings import Endings
from broadcaster.log.jobs.queue import Queue
from broadcaster.log.redis.connect import LogConnection
from broadcaster.log.redis.scripts import SCRIPTS
from broadcaster.log.redis.steadiness import Steadiness
from broadcaster.log.streams.reader import Meta, Streams
from broadcaster.observability.logs import get_logger

_log = get_logger(__name__)

KEPT_AT_MOST: Final = 10_000
_TURN_S: Final = 0.25


@dataclass(frozen=True, slots=True)
class KeptEnd:
    """``terminal`` is None for a stop. ``is_written``: this process has written the end, so no worker had it then."""

    stream_id: str
    terminal: bytes | None
    reason: str
    is_written: bool
    has_webhook: bool
    until: float


@dataclass(slots=True, eq=False, repr=False)
class KeptEnds:
    """Runs while ``run`` runs."""

    connection: LogConnection
    _: KW_ONLY
    queue: Queue
    endings: Endings
    streams: Streams
    steadiness: Steadiness
    keep_s: float
    _kept: dict[str, KeptEnd] = field(default_factory=dict, init=False)
    _unverified: dict[str, KeptEnd] = field(default_factory=dict, init=False)
    _breaks_seen: int = field(default=0, init=False)

    def keep(self, meta: Meta, terminal: bytes | None, *, reason: str, is_written: bool) -> None:
        """Keep an end from now on; a repeated stop keeps ``is_written``."""
        before = self._kept.pop(meta.id, None)
        is_written = is_written or (before is not None and before.is_written)
        until = asyncio.get_running_loop().time() + self.keep_s
        has_webhook = meta.webhook is not None
        self._kept[meta.id] = KeptEnd(meta.id, terminal, reason, is_written, has_webhook, until)
        if len(self._kept) > KEPT_AT_MOST:
            del self._kept[next(iter(self._kept))]

    async def run(self) -> None:
        """Verify after every break, until cancelled."""
        while True:
            await asyncio.sleep(_TURN_S)
            await self.turn()

    async def turn(self) -> None:
        """Forget ends that are too old; after a break, verify the others."""
        now = asyncio.get_running_loop().time()
        self._kept = {each: end for each, end in self._kept.items() if now < end.until}
        if self.steadiness.breaks != self._breaks_seen and self.steadiness.answering.is_set():
            self._breaks_seen = self.steadiness.breaks
            self._unverified = dict(self._kept)
        is_last = self.steadiness.is_steady
        away: set[str] = set()
        for end in list(self._unverified.values()):
            server = self.connection.server_of(self.connection.keys.meta(end.stream_id))
            if server in away:
                continue
            try:
                is_certain = await self._verify(end)
            except LogUnavailable:
                away.add(server)
                continue
            if is_certain or is_last:
                del self._unverified[end.stream_id]
        if away:
            _log.warning("ends_later", count=len(self._unverified))

    async def _verify(self, end: KeptEnd) -> bool:
        """Whether its state is certain now (rule 3)."""
        if end.terminal is None:
            keys = [self.connection.keys.meta(end.stream_id), self.connection.keys.control(end.stream_id)]
            await SCRIPTS["stop"].run(self.connection.redis, keys, end.reason)
        (tail,) = await self.streams.tails([end.stream_id])
        if tail.status is None:
            return False
        if tail.status not in OVER:
            claim = await self.endings.end(
                end.stream_id,
                end.terminal,
                tail=tail,
                may_take_over=end.is_written or self.steadiness.is_steady,
                answered_s=self.steadiness.answered_s,
            )
            if claim.outcome is Outcome.ENDED:
                _log.warning("ended_again", stream=end.stream_id, reason=end.reason)
            elif claim.outcome is not Outcome.OVER:
                return tail.leased
        await self.queue.close_open([end.stream_id], webhooks_of=[end.stream_id] if end.has_webhook else [])
        return True
