"""Lost generations: when Redis has come back without a watched generation, the front-ends that watch it end it.

A running generation is restored by its worker, and a queued one by the front-end that created it a moment ago
(accepted.py). If it is still missing then, no process is left that could restore it, and its viewers would wait for
ever.

Rules
1. A front-end ends a generation when it has seen it missing for one lease, and has seen Redis answer for so long: a
   worker renews several times in that time. If Redis does not answer steadily, the front-end ends the generation after
   the stall time-out all the same.
2. The script decides: it finds neither meta nor lease in the very step that writes ``error log_lost``. The end is in
   the log, so every viewer at every front-end reads the same one.
"""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass, field
from typing import Final

from broadcaster.core.cursor import Cursor
from broadcaster.core.events import FORMAT_VERSION
from broadcaster.log.redis.connect import LogConnection
from broadcaster.log.redis.scripts import SCRIPTS
from broadcaster.log.redis.steadiness import Steadiness
from broadcaster.log.streams import terminals
from broadcaster.log.streams.reader import KnownGeneration, Meta
from broadcaster.observability.logs import get_logger

_log = get_logger(__name__)

REMEMBERED_AT_MOST: Final = 10_000
"""A watch needs it until its first tail check, for some seconds."""


@dataclass(slots=True, eq=False, repr=False)
class Losses:
    """Ends lost generations on behalf of one process."""

    connection: LogConnection
    _: KW_ONLY
    steadiness: Steadiness
    lease_ttl_s: float
    stall_timeout_s: float
    retention_ms: int
    _remembered: dict[str, KnownGeneration] = field(default_factory=dict, init=False)

    def remember(self, meta: Meta) -> None:
        """A viewer is about to watch this stream; Redis may lose it before the watch has seen its meta."""
        if meta.kind == "generation":
            self._remembered.pop(meta.id, None)
            self._remembered[meta.id] = KnownGeneration(meta.tenant, meta.model)
            if len(self._remembered) > REMEMBERED_AT_MOST:
                del self._remembered[next(iter(self._remembered))]

    def recall(self, stream_id: str) -> KnownGeneration | None:
        """What ``remember`` stored of a generation."""
        return self._remembered.get(stream_id)

    async def end(self, stream_id: str, known: KnownGeneration, *, last: Cursor, missing_s: float) -> bool:
        """End a generation that has been missing for so long, if this process may; whether this call has ended it.

        ``last`` is the newest entry that was delivered. Raises LogUnavailable.
        """
        is_lost = self.steadiness.is_steady and missing_s >= self.lease_ttl_s
        if not is_lost and missing_s < self.stall_timeout_s:
            return False
        name = self.connection.keys
        keys = [name.log(stream_id), name.meta(stream_id), name.lease(stream_id), name.live(stream_id)]
        fields = ("v", FORMAT_VERSION, "tenant", known.tenant, "model", known.model)
        end = (terminals.GENERATION_LOST, FORMAT_VERSION, self.retention_ms, last.epoch)
        ended = bool(await SCRIPTS["lose"].run(self.connection.impatient, keys, *end, *fields))
        if ended:
            _log.warning("generation_lost", stream=stream_id, missing_s=round(missing_s, 1))
        return ended
