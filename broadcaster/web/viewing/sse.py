"""A viewer's response: server-sent events over ASGI.

On our own runner the head of the response offers its viewer (``OFFER``), and the connection takes it when the head
arrives there: the request is over for the server, and a ``SocketDriver`` writes to the socket (socket_driver.py).
Elsewhere, and where the connection cannot be taken, the driver here works on any ASGI server: one small coroutine per
viewer, which pulls and awaits ``send``. With the extension, the driver aborts the connection
at once and is notified of its loss without a second task; else it raises, and the server closes the connection. In both
cases a cut response never ends with the clean last chunk, which a client would take for the end of the stream.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Final, Protocol

from starlette.types import Message, Receive, Scope, Send

from broadcaster.hub.stop_reasons import Refused, StopReason
from broadcaster.hub.viewer import Viewer
from broadcaster.log.streams.reader import Meta
from broadcaster.web.guards.request_log import record_of
from broadcaster.web.viewing.client_connection import OFFER, Offer, ViewerCut, connection_of, cut
from broadcaster.web.viewing.viewer_report import ViewerReport
from broadcaster.web.viewing.viewer_response import ViewerResponse

# One write. More would only wait in the transport's buffer, whose own mark (asyncio and uvloop) is as high.
MAX_CHUNK_BYTES: Final = 64 * 2**10

BYTES_A_TURN: Final = 2 * MAX_CHUNK_BYTES

EVENT_STREAM_FIELDS: Final = (
    (b"content-type", b"text/event-stream"),
    # no-transform: a proxy that compresses also buffers. x-accel-buffering is nginx's header for the same.
    (b"cache-control", b"no-store, no-transform"),
    (b"x-accel-buffering", b"no"),
)
_HEADERS: Final = {name.decode(): value.decode() for name, value in EVENT_STREAM_FIELDS}


class EventStreamResponse(ViewerResponse):
    """``200 text/event-stream``: a viewer's bytes until it is over, or the one block of a refusal."""

    def __init__(
        self, source: Viewer | Refused, *, headers: Mapping[str, str] | None = None, meta: Meta | None = None
    ) -> None:
        """``meta``: of the viewer's stream."""
        super().__init__(source, status=200, headers={**_HEADERS, **(headers or {})}, meta=meta)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Drive the viewer to its end. Raises ViewerCut when it was cut and the server offers no way to abort."""
        start: Message = {"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers}
        record = record_of(scope)
        record.status = self.status_code
        if isinstance(self._source, Refused):
            if self._source.reason is not StopReason.TERMINAL:
                record.code = self._source.reason.code
            await send(start)
            await send({"type": "http.response.body", "body": self._source.block, "more_body": False})
        else:
            ViewerReport.attach(self._source, record, meta=self._meta)
            await self._drive(self._source, start, scope=scope, receive=receive, send=send)
        if self.background is not None:
            await self.background()

    async def _drive(self, viewer: Viewer, start: Message, *, scope: Scope, receive: Receive, send: Send) -> None:
        offer = Offer(viewer)
        try:
            await send({**start, OFFER: offer})
        except BaseException:
            viewer.leave()
            raise
        if not offer.is_taken:
            offer.viewer = None  # a layer that holds the head back sends it when the driver below is under way
            await SendDriver(viewer, scope=scope, receive=receive, send=send).run()


class PulledViewer(Protocol):
    """What a driver needs of a viewer; see Viewer."""

    on_cut: Callable[[], None] | None

    @property
    def heartbeat_s(self) -> float: ...

    @property
    def is_over(self) -> bool: ...

    @property
    def ends_cleanly(self) -> bool: ...

    @property
    def stop_reason(self) -> StopReason | None: ...

    def pull(self, max_bytes: int) -> bytes: ...

    async def wait(self, timeout_s: float) -> bool: ...

    def heartbeat(self) -> bytes: ...

    def leave(self) -> None: ...


class SendDriver:
    """Pulls one viewer's bytes and gives them to ASGI's ``send``."""

    __slots__ = ("_receive", "_send", "_task", "_viewer", "_was_interrupted", "connection")

    def __init__(self, viewer: PulledViewer, *, scope: Scope, receive: Receive, send: Send) -> None:
        self._viewer = viewer
        self._receive = receive
        self._send = send
        self.connection = connection_of(scope)
        self._task = asyncio.current_task()
        self._was_interrupted = False

    async def run(self) -> None:
        """Send all that the viewer pulls, and end the response as the viewer ends. The head is sent."""
        viewer = self._viewer
        if self.connection is not None:
            viewer.on_cut = self.connection.abort
            self.connection.lost.add_done_callback(self._lose)
            try:
                await self._pump()
            finally:
                self.connection.lost.remove_done_callback(self._lose)
                viewer.leave()
            return
        viewer.on_cut = self._interrupt
        listener = asyncio.create_task(self._until_gone())
        try:
            await self._pump()
        except asyncio.CancelledError:
            if self._was_interrupted and self._task is not None and not self._task.uncancel():
                raise ViewerCut("the viewer took nothing for too long") from None
            raise
        finally:
            viewer.on_cut = None
            viewer.leave()
            listener.cancel()
            await asyncio.wait({listener})

    async def _pump(self) -> None:
        viewer, send = self._viewer, self._send
        sent = 0
        while True:
            chunk = viewer.pull(MAX_CHUNK_BYTES)
            if not chunk:
                if viewer.is_over:
                    break
                if await viewer.wait(viewer.heartbeat_s):
                    continue
                chunk = viewer.heartbeat()
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
            sent += len(chunk)
            if sent >= BYTES_A_TURN:  # a client that takes everything must not keep the others waiting
                sent = 0
                await asyncio.sleep(0)
        if viewer.ends_cleanly:
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        elif viewer.stop_reason is not StopReason.CLIENT_GONE:
            await cut(self.connection, "the response cannot end cleanly")

    def _lose(self, _lost: asyncio.Future[None]) -> None:
        self._viewer.leave()

    def _interrupt(self) -> None:
        self._was_interrupted = True
        if self._task is not None:
            self._task.cancel()

    async def _until_gone(self) -> None:
        """Until the client is gone; an unread request body may come first."""
        try:
            while (await self._receive())["type"] != "http.disconnect":
                pass
        finally:
            self._viewer.leave()
