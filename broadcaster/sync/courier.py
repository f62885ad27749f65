"""The loop's side of a feed: carries what was given into the log, in order, and ends the feed.

Rules
1. One batch is under way; what is given meanwhile is the next one.
2. While Redis is away nothing new is sent: the feed is opened again first, for as long as that takes. Only the batch
   that met the outage is in doubt; if that lasts longer than the log remembers an append, it counts as dropped.
3. Whatever was dropped or refused is told in the stream: one ``data-dropped`` before what follows.
4. A batch that does not fit is sent in halves: what fits is appended, the first that does not and all after it is
   refused, and the caller told.
5. A feed that lost events through an error nobody was told of, or that it could not tell, ends with ``error``, not
   with ``finish``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

from broadcaster.core.events import Error
from broadcaster.errors import BroadcasterError, EventTooLarge, LogUnavailable, StreamClosed, StreamFull
from broadcaster.library.delivery import UNKNOWN_S
from broadcaster.library.writer import FeedWriter, WriterLimits
from broadcaster.log.feeds import FeedConfig
from broadcaster.logs import get_logger
from broadcaster.sync.buffer import Batch, Buffer, Ending, Given

PUBLISHER_FAILED: Final = "publisher_failed"
EVENTS_LOST: Final = Error(error_text="events of this stream were refused", code=PUBLISHER_FAILED)
# Beyond it a call is given up by the delivery itself: nobody waits for one append.
LIMITS: Final = WriterLimits(timeout_s=UNKNOWN_S + 60)

_log = get_logger(__name__)


class Courier:
    """Of one feed, on the loop; ``check`` raises SetupError when Redis refuses us."""

    def __init__(
        self,
        buffer: Buffer,
        writer: FeedWriter,
        *,
        wake: asyncio.Event,
        config: FeedConfig,
        check: Callable[[], Awaitable[None]],
    ) -> None:
        self._wake = wake
        self._buffer = buffer
        self._writer = writer
        self._config = config
        self._check = check
        self._untold = 0  # events that are lost, and of which the stream knows nothing yet

    async def run(self) -> None:
        """Until the feed is left or refused, or this is cancelled."""
        try:
            await self._open()
            ending = await self._carry()
            if ending.end is not None:
                await self._end(ending.end)
        except Exception as error:
            self._buffer.fail(error, is_over=True)
            if not isinstance(error, BroadcasterError):
                _log.critical("feed_courier_failed", stream=self._writer.stream_id, exc_info=error)
        finally:
            await self._writer.aclose()
            self._buffer.ended()

    async def _open(self) -> None:
        while True:
            try:
                await self._writer.open(self._config)
                return
            except LogUnavailable:
                continue  # it has waited in there
            except BroadcasterError:
                raise
            except Exception:
                await self._check()
                raise

    async def _carry(self) -> Ending:
        while True:
            # Looked at before the take: what is given between the two is then taken by the next one.
            ending = self._buffer.ending
            # Room for what was lost before.
            batch = self._buffer.take(most_events=LIMITS.batch_events - 1, most_bytes=LIMITS.batch_bytes)
            if batch.given:
                await self._deliver(batch)
            elif ending is not None:
                return ending
            else:
                await self._wake.wait()
                self._wake.clear()

    async def _deliver(self, batch: Batch) -> None:
        given = batch.given
        if self._untold:
            given = [Given.dropped(self._untold), *given]
            self._untold = 0
        error, rest = await self._append(given)
        self._untold += self._buffer.lose(rest)
        if error is not None and not isinstance(error, LogUnavailable | StreamClosed):
            self._untold += self._buffer.fail(error)
        self._buffer.settle(batch)
        if isinstance(error, StreamClosed):
            raise error
        if isinstance(error, LogUnavailable):
            _log.warning("feed_events_in_doubt", stream=self._writer.stream_id, events=self._untold)
            await self._open()

    async def _append(self, given: Sequence[Given]) -> tuple[Exception | None, Sequence[Given]]:
        """What kept the rest out of the log, and the rest."""
        begin, step = 0, len(given)
        while begin < len(given):
            try:
                await self._writer.append_encoded([each.raw for each in given[begin : begin + step]])
                begin += step
            except (StreamFull, EventTooLarge) as error:
                if step == 1:
                    return error, given[begin:]
                step = (step + 1) // 2
            except Exception as error:
                return error, given[begin:]
        return None, ()

    async def _end(self, end: Any) -> None:
        while self._untold:
            error, _ = await self._append([Given.dropped(self._untold)])
            if isinstance(error, LogUnavailable):
                await self._open()
            elif isinstance(error, StreamFull):
                break
            elif error is not None:
                raise error
            else:
                self._untold = 0
        if end.get("type", "finish") == "finish" and (self._untold or self._buffer.has_error):
            end = EVENTS_LOST
        while True:
            try:
                await self._writer.close(end)
                return
            except LogUnavailable:
                continue  # it has waited in there
