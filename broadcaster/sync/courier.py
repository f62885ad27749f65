"""The loop's side of a feed: appends its events to the log, in order, and ends the feed.

Rules
1. One batch is under way; events put meanwhile form the next one.
2. While Redis is unavailable nothing new is sent: the feed is reopened first, however long that takes. Only the batch
   under way is in doubt; if the outage lasts longer than the log remembers an append, it counts as dropped.
3. Dropped and refused events are reported in the stream: one ``data-dropped`` before the next event.
4. A batch that does not fit is sent in halves: the events that fit are appended; the first one that does not and all
   after it are refused, and the caller gets the error.
5. A feed ends with ``error``, not with ``finish``, if an error that lost events was never raised, or if the stream
   could not report lost events.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

from broadcaster.core.events import Error
from broadcaster.errors import BroadcasterError, EventTooLarge, LogUnavailable, StreamClosed, StreamFull
from broadcaster.library.delivery import UNKNOWN_S
from broadcaster.library.writer import FeedWriter, WriterLimits
from broadcaster.log.feeds.feeds import FeedConfig
from broadcaster.observability.logs import get_logger
from broadcaster.sync.buffer import Buffer, BufferedBatch, Ending, Given

PUBLISHER_FAILED: Final = "publisher_failed"
EVENTS_LOST: Final = Error(error_text="events of this stream were refused", code=PUBLISHER_FAILED)
# Longer than the delivery repeats an append: the delivery gives up first.
LIMITS: Final = WriterLimits(timeout_s=UNKNOWN_S + 60)

_log = get_logger(__name__)


class Courier:
    """For one feed, on the loop; ``check`` raises SetupError when Redis refuses us."""

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
        self._unreported = 0  # lost events that are not yet reported in the stream

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
            # Read before the take: events put between the two are taken by the next one.
            ending = self._buffer.ending
            # One less: room for the ``data-dropped`` of earlier events.
            batch = self._buffer.take(most_events=LIMITS.batch_events - 1, most_bytes=LIMITS.batch_bytes)
            if batch.given:
                await self._deliver(batch)
            elif ending is not None:
                return ending
            else:
                await self._wake.wait()
                self._wake.clear()

    async def _deliver(self, batch: BufferedBatch) -> None:
        given = batch.given
        if self._unreported:
            given = [Given.dropped(self._unreported), *given]
            self._unreported = 0
        error, rest = await self._append(given)
        self._unreported += self._buffer.lose(rest)
        if error is not None and not isinstance(error, LogUnavailable | StreamClosed):
            self._unreported += self._buffer.fail(error)
        self._buffer.settle(batch)
        if isinstance(error, StreamClosed):
            raise error
        if isinstance(error, LogUnavailable):
            _log.warning("feed_events_in_doubt", stream=self._writer.stream_id, events=self._unreported)
            await self._open()

    async def _append(self, given: Sequence[Given]) -> tuple[Exception | None, Sequence[Given]]:
        """The error that stopped the append, and the events not appended."""
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
        while self._unreported:
            error, _ = await self._append([Given.dropped(self._unreported)])
            if isinstance(error, LogUnavailable):
                await self._open()
            elif isinstance(error, StreamFull):
                break
            elif error is not None:
                raise error
            else:
                self._unreported = 0
        if end.get("type", "finish") == "finish" and (self._unreported or self._buffer.has_error):
            end = EVENTS_LOST
        while True:
            try:
                await self._writer.close(end)
                return
            except LogUnavailable:
                continue  # it has waited in there
