"""A reader inside this process: one stream, read through the hub, in as many visits as necessary.

Rules
1. A reader is a viewer of the stream's room: it shares the history and the live tail with all others here, and counts
   against ``max_viewers``. Its bytes are the native dialect's, decoded as in the client (``client.stream``).
2. It pulls only when its caller requests an event. A caller that takes an hour over one event is not cut and loses
   nothing: later entries are in the room, or in the log.
3. A visit that ends before the stream does (a bound, a lost tail, an unavailable log) is followed by another one, from
   the last entry returned. Without progress for ``give_up_after_s`` it raises GaveUp, with the cursor to resume from.
   A quiet stream whose log responds makes progress.
4. When this process ends (a drain, ``aclose``) reading cannot continue here: GaveUp at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from typing import Final

from broadcaster.client.errors import GaveUp
from broadcaster.client.resuming import ResumingReader
from broadcaster.client.stream import EntryReceived, GapReceived, Notice, StreamEvent, StreamTorn
from broadcaster.core.cursor import Cursor
from broadcaster.core.notices import StallReason
from broadcaster.core.sse import SseDecoder
from broadcaster.errors import Busy
from broadcaster.hub.replay.resolve import Finished
from broadcaster.hub.stop_reasons import Refused
from broadcaster.hub.viewer import Viewer
from broadcaster.log.redis.connect import refusals
from broadcaster.web.services import Services
from broadcaster.web.viewing.joining import find_stream, join_stream

# Decoded at once, before the caller gets the first event of it.
PULLED_AT_ONCE: Final = 64 * 2**10
# The first delay before another visit: short, because no connection and no other process is involved.
FIRST_DELAY_S: Final = 0.1
STALLED: Final = "hub.stalled"


class StreamReader(ResumingReader):
    """A reader through the hub; connections are visits. Beside GaveUp, ``run`` raises UnknownStream and SetupError."""

    _broken_by = (Busy, StreamTorn)
    _ended_early = "the visit ended before the stream did"

    def __init__(
        self,
        services: Services,
        stream_id: str,
        *,
        tenant: str,
        after: Cursor | None,
        wait_s: float,
        give_up_after_s: float,
    ) -> None:
        decoder = SseDecoder(max_event_bytes=max(services.hub.limits.hub_bytes, PULLED_AT_ONCE))
        super().__init__(after, decoder, give_up_after_s=give_up_after_s)
        self._services = services
        self._stream_id = stream_id
        self._tenant = tenant
        self._requested_s = FIRST_DELAY_S
        self._found_by = self._now() + wait_s
        self._away_since: float | None = None  # since when the room reports that its log is unavailable

    async def _connection(self) -> AsyncGenerator[StreamEvent, None]:
        """One visit to the stream's room, until it ends or the stream does."""
        wait_s = max(0.0, self._found_by - self._now())
        with refusals():
            meta = await find_stream(self._services, self._stream_id, tenant=self._tenant, wait_s=wait_s)
            viewer = await join_stream(self._services, meta, cursor=self._reading.cursor)
        self._pace.connected(self._now())
        self._away_since = None
        if isinstance(viewer, Finished):
            self._reading.is_over = True
        elif isinstance(viewer, Refused):
            for event in self._events_in(viewer.block):
                yield event
        else:
            async with aclosing(self._watch(viewer)) as watched:
                async for event in watched:
                    yield event

    async def _watch(self, viewer: Viewer) -> AsyncGenerator[StreamEvent, None]:
        try:
            while not self._reading.is_over:
                if chunk := viewer.pull(PULLED_AT_ONCE):
                    viewer.taken()
                    for event in self._events_in(chunk):
                        yield event
                elif viewer.is_over:
                    return
                else:
                    await self._wait(viewer)
        finally:
            viewer.leave()
            self._decoder.flush()

    async def _wait(self, viewer: Viewer) -> None:
        """Wait for more. Raises GaveUp when the log has been unavailable for too long."""
        if self._away_since is None:
            if not await viewer.wait(viewer.heartbeat_s):
                self._pace.progressed(self._now())
            return
        left_s = self._away_since + self._give_up_after_s - self._now()
        if left_s <= 0:
            raise self._gave_up("the log does not respond")
        await viewer.wait(min(left_s, viewer.heartbeat_s))

    def _note(self, event: StreamEvent) -> None:
        super()._note(event)
        if isinstance(event, EntryReceived | GapReceived):
            self._away_since = None
        elif isinstance(event, Notice) and event.name == STALLED:
            is_away = isinstance(event.data, dict) and event.data.get("reason") == StallReason.LOG_UNAVAILABLE
            self._away_since = (self._away_since or self._now()) if is_away else None
            if not is_away:
                self._pace.progressed(self._now())

    def _next_delay(self, reason: str) -> float:
        if self._services.hub.is_draining:
            raise GaveUp("this process is ending; resume elsewhere", cursor=self._reading.cursor)
        return super()._next_delay(reason)


async def wait_for_end(services: Services, generation_id: str, *, tenant: str, wait_s: float) -> None:
    """Return when the generation is over, or after ``wait_s``. It waits at the log's end, and reads nothing before."""
    (tail,) = await services.streams.tails([generation_id])
    reader = StreamReader(
        services, generation_id, tenant=tenant, after=tail.last, wait_s=0, give_up_after_s=max(wait_s, FIRST_DELAY_S)
    )
    with suppress(TimeoutError):
        async with asyncio.timeout(wait_s), aclosing(reader.run()) as events:
            async for _ in events:
                pass
