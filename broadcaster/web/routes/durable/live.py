"""Live reads: long polls, and server-sent events over a viewer of the stream's room.

A viewer pulls native frames, which the room encodes once for all; here they become the frames of the protocol, for each
response of its own, because each says whether its client is up to date.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import ExitStack
from typing import Final

from fastapi import Request
from starlette.types import Message, Receive, Scope, Send

from broadcaster.core.cursor import START, Cursor
from broadcaster.core.events import TERMINAL_PREFIXES
from broadcaster.core.sse import SseDecoder
from broadcaster.dialects.durable.frames import HEARTBEAT, DurableFrames
from broadcaster.hub.stop_reasons import StopReason
from broadcaster.hub.viewer import Viewer
from broadcaster.log.streams.reader import Meta
from broadcaster.web.routes.durable.reading import DurablePiece, read_piece
from broadcaster.web.services import Services
from broadcaster.web.viewing.joining import join_stream
from broadcaster.web.viewing.sse import EventStreamResponse, SendDriver
from broadcaster.web.viewing.waiting import DISCARDED_AT_ONCE, DISCONNECT_CHECK_S, has_left, leaving

LONG_POLL_S: Final = 20.0
"""How long a long poll waits: shorter than what proxies allow, and than LONG_POLL_TIMEOUT_S by default."""
CONNECTION_S: Final = 60.0
"""How long a response of server-sent events lasts, as the protocol recommends: then its client reconnects."""

_LIVE: Final = "hub.live"
_GAP: Final = "hub.gap"
_BYE: Final = "hub.bye"


async def wait_for_content(services: Services, request: Request, meta: Meta, *, after: DurablePiece) -> DurablePiece:
    """What follows an empty piece, once there is some, or the stream is closed; the empty piece when the time is over.

    Raises what `Hub.reserve`, `join_stream` and `read_piece` raise, and UnknownStream if the stream is gone by then.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + min(LONG_POLL_S, services.long_poll_timeout_s)
    with services.reserve(meta.tenant, waits=True) as place:
        viewer = await join_stream(services, meta, cursor=None if after.seen == START else after.seen, place=place)
    if not isinstance(viewer, Viewer):
        return await read_piece(services, meta, after.next)
    seen = after.seen
    with ExitStack() as stack:
        stack.callback(viewer.leave)
        stack.enter_context(leaving(request, viewer.leave))
        while (left_s := deadline - loop.time()) > 0:
            if viewer.pull(DISCARDED_AT_ONCE) or viewer.is_over:
                if viewer.seq > seen.seq or viewer.is_over:
                    found = await read_piece(services, meta, after.next)
                    if found.pieces or found.is_closed:
                        return found
                    if viewer.is_over:
                        break
                    seen = found.seen
                continue
            if not await viewer.wait(min(left_s, DISCONNECT_CHECK_S)) and await has_left(request):
                break
    await services.feeds.get(meta.public_id, tenant=meta.tenant)  # it may have expired meanwhile, unseen by its viewers
    return after


class DurableViewer:
    """A viewer whose native frames leave as those of the protocol; for `SendDriver`."""

    def __init__(self, viewer: Viewer, frames: DurableFrames) -> None:
        loop = asyncio.get_running_loop()
        self._viewer = viewer
        self._frames = frames
        self._now = loop.time
        self._until = loop.time() + CONNECTION_S
        self._decoder = SseDecoder()
        self._rest = b""
        self._has_sent = False
        self._is_live = False
        self._is_closed = False  # the stream's last entry has come
        self._is_leaving = False  # nothing more can be sent here, and the client reconnects

    @property
    def on_cut(self) -> Callable[[], None] | None:
        """See Viewer."""
        return self._viewer.on_cut

    @on_cut.setter
    def on_cut(self, on_cut: Callable[[], None] | None) -> None:
        self._viewer.on_cut = on_cut

    @property
    def heartbeat_s(self) -> float:
        """See Viewer."""
        return self._viewer.heartbeat_s

    @property
    def stop_reason(self) -> StopReason | None:
        """See Viewer."""
        return self._viewer.stop_reason

    @property
    def is_over(self) -> bool:
        """Nothing more will come."""
        is_done = self._frames.is_closed or self._is_leaving or self._now() >= self._until
        return not self._rest and (is_done or self._viewer.is_over)

    @property
    def ends_cleanly(self) -> bool:
        """Whether the response may end as if it were whole: its client reconnects where the last frame says."""
        return self._viewer.stop_reason is None or self._viewer.ends_cleanly

    def pull(self, max_bytes: int) -> bytes:
        """The next bytes; ``b""``: nothing now."""
        is_late = self._has_sent and self._now() >= self._until
        if not (self._rest or self._is_leaving or is_late):
            self._rest = self._translate(max_bytes)
            self._has_sent = self._has_sent or bool(self._rest)
        if self._rest:  # the viewer has no more: it takes its last, empty pull for the arrival of everything
            self._viewer.taken(unsent=len(self._rest))
        piece, self._rest = self._rest[:max_bytes], self._rest[max_bytes:]
        return piece

    async def wait(self, timeout_s: float) -> bool:
        """Until there may be something to pull; False when a heartbeat is due."""
        left_s = self._until - self._now()
        if left_s <= 0:
            return True
        return await self._viewer.wait(min(timeout_s, left_s)) or left_s <= timeout_s

    def heartbeat(self) -> bytes:
        """What keeps a quiet connection open."""
        self._viewer.heartbeat()
        return HEARTBEAT

    def leave(self) -> None:
        """See Viewer."""
        self._viewer.leave()

    def _translate(self, max_bytes: int) -> bytes:
        pulled = 0
        while True:
            if chunk := self._viewer.pull(max_bytes):
                if data := self._take_chunk(chunk):
                    if not self._is_live and not self._viewer.lag:
                        self._read(self._viewer.pull(max_bytes))  # what says that it is live
                    return data + self._take()
                pulled += len(chunk)
                self._read(chunk)
                if pulled < max_bytes:
                    continue
            frames = self._take()
            if frames or not chunk:
                return frames

    def _take(self) -> bytes:
        is_at_end = self._is_live and self._viewer.lag == 0
        return self._frames.take(is_at_end=is_at_end, is_closed=self._is_closed)

    def _take_chunk(self, chunk: bytes) -> bytes:
        """The data event of whole entries; ``b""``: the chunk must be read."""
        must_read = self._decoder.buffered_bytes or self._is_leaving
        return b"" if must_read else self._frames.take_chunk(chunk)

    def _read(self, chunk: bytes) -> None:
        for message in self._decoder.decode(chunk):
            if message.event == _LIVE:
                self._is_live = True
            elif message.event == _BYE or (message.event == _GAP and self._frames.has_begun):
                # A gap before the first content is that of a trimmed feed, which every reader finds so.
                self._is_leaving = True
            elif message.event == "message" and not self._is_leaving:
                event = message.data.encode()
                self._frames.add(Cursor.parse(message.id), event)
                self._is_closed = self._is_closed or event.startswith(TERMINAL_PREFIXES)


class DurableEventStream(EventStreamResponse):
    """``200 text/event-stream`` in the frames of the protocol."""

    def __init__(self, viewer: Viewer, frames: DurableFrames, *, headers: dict[str, str], meta: Meta) -> None:
        super().__init__(viewer, headers=headers, meta=meta)
        self._frames = frames

    async def _drive(self, viewer: Viewer, start: Message, *, scope: Scope, receive: Receive, send: Send) -> None:
        driver = SendDriver(DurableViewer(viewer, self._frames), scope=scope, receive=receive, send=send)
        try:
            await send(start)
        except BaseException:
            viewer.leave()
            raise
        await driver.run()
