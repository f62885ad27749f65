"""A viewer's response over a WebSocket: the native dialect, one event a message (dialects/native/messages.py).

Rules
1. The viewer is the same as that of server-sent events: only what carries its bytes differs. The driver pulls slices of
   lines, joins what a slice has cut, and sends each line as one text message.
2. The driver awaits each message: a client that takes nothing holds up its own viewer, which the hub cuts after
   ``slow_viewer_s``. A cut connection is aborted, or left without a close frame: the client resumes from its cursor.
3. A viewer that ends in good order has its notice (``hub.bye``) as the last message. The close code repeats it:

       1000  the stream has ended: nothing will follow
       1001  this front-end ends, or the connection is as old as one may get: reconnect
       1008  the credential is no longer valid, or the client has sent a message
       1013  reconnect later: a bound is met, or the log is away

4. The client sends nothing: a message of any size ends the connection. How large one may be, and the deadline for
   answers to pings, are the server's (server/websocket_protocol.py).
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from typing import Final

from starlette.types import Receive, Scope, Send

from broadcaster.hub.stop_reasons import Refused, StopReason
from broadcaster.hub.viewer import Viewer
from broadcaster.log.streams.reader import Meta
from broadcaster.web.guards.request_log import record_of
from broadcaster.web.viewing.client_connection import ClientConnection, connection_of
from broadcaster.web.viewing.handshake import LATER, POLICY, SWITCHING, Handshake, handshake_of
from broadcaster.web.viewing.sse import BYTES_A_TURN, MAX_CHUNK_BYTES
from broadcaster.web.viewing.viewer_report import ViewerReport
from broadcaster.web.viewing.viewer_response import ViewerResponse

END: Final = 1000
GOING_AWAY: Final = 1001
ONLY_SENDS: Final = "this WebSocket only sends"
# For the close frame to a client that takes nothing.
CLOSE_S: Final = 5.0

_GOES_ELSEWHERE: Final = frozenset({StopReason.DRAIN, StopReason.LIFETIME})


def close_code(reason: StopReason) -> int:
    """Rule 3."""
    if reason is StopReason.TERMINAL:
        return END
    if reason in _GOES_ELSEWHERE:
        return GOING_AWAY
    return LATER if reason.reconnect else POLICY


class WebSocketResponse(ViewerResponse):
    """``101``: a viewer's events as messages until it is over, or the one notice of a refusal."""

    def __init__(
        self, source: Viewer | Refused, *, headers: Mapping[str, str] | None = None, meta: Meta | None = None
    ) -> None:
        """For a request with a handshake; ``meta``: of the viewer's stream."""
        super().__init__(source, status=SWITCHING, headers=headers or {}, meta=meta)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Accept the handshake, and drive the viewer to its end."""
        source, handshake, record = self._source, handshake_of(scope), record_of(scope)
        assert handshake is not None  # the route has seen it
        record.status = SWITCHING
        if isinstance(source, Viewer):
            ViewerReport.attach(source, record, meta=self._meta)
        elif source.reason is not StopReason.TERMINAL:
            record.code = source.reason.code
        try:
            await send({"type": "http.response.start", "status": SWITCHING, "headers": self.raw_headers})
        except BaseException:
            self.discard()
            raise
        if isinstance(source, Viewer):
            await MessageDriver(source, handshake, connection=connection_of(scope)).run()
            return
        for line in MessageLines().decode(source.block):
            await handshake.send_text(line)
        await handshake.close(close_code(source.reason), source.reason.code)


class MessageLines:
    """Slices of lines → whole lines; an incomplete one is held, and counted."""

    def __init__(self) -> None:
        self._held: list[bytes] = []
        self.held_bytes = 0

    def decode(self, piece: bytes) -> Iterator[str]:
        """The lines that this slice completes."""
        *whole, rest = piece.split(b"\n")
        for line in whole:
            if self._held:
                line = b"".join((*self._held, line))
                self._held.clear()
                self.held_bytes = 0
            yield str(line, "utf-8", "replace")
        if rest:
            self._held.append(rest)
            self.held_bytes += len(rest)


class MessageDriver:
    """Pulls one viewer's lines and sends them; see the module's rules."""

    __slots__ = ("_connection", "_handshake", "_is_cut", "_lines", "_offends", "_task", "_viewer")

    def __init__(self, viewer: Viewer, handshake: Handshake, *, connection: ClientConnection | None) -> None:
        self._viewer = viewer
        self._handshake = handshake
        self._connection = connection
        self._lines = MessageLines()
        self._task = asyncio.current_task()
        self._is_cut = False
        self._offends = False

    async def run(self) -> None:
        """Send all that the viewer pulls, and close as the viewer ends. The handshake is accepted."""
        viewer = self._viewer
        viewer.on_cut = self._cut
        listener = asyncio.create_task(self._listen())
        try:
            await self._pump()
        except OSError:  # it is gone, as some servers report it, or does not take the close frame
            self._abort()
        except asyncio.CancelledError:
            if not self._is_cut or self._task is None or self._task.uncancel():
                raise
        finally:
            self._is_cut = True
            viewer.on_cut = None
            viewer.leave()
            listener.cancel()
            await asyncio.wait({listener})
        if self._offends:
            await self._refuse_message()

    async def _pump(self) -> None:
        viewer, send_text = self._viewer, self._handshake.send_text
        sent = 0
        while True:
            piece = viewer.pull(MAX_CHUNK_BYTES)
            if not piece:
                if viewer.is_over:
                    break
                if await viewer.wait(viewer.heartbeat_s):
                    continue
                piece = viewer.heartbeat()
            viewer.note_unsent(len(piece) + self._lines.held_bytes)
            for line in self._lines.decode(piece):
                await send_text(line)
            sent += len(piece)
            if sent >= BYTES_A_TURN:  # a client that takes everything must not keep the others waiting
                sent = 0
                await asyncio.sleep(0)
        reason = viewer.stop_reason or StopReason.CLIENT_GONE
        if reason is not StopReason.CLIENT_GONE:
            async with asyncio.timeout(CLOSE_S):
                await self._handshake.close(close_code(reason), reason.code)

    async def _listen(self) -> None:
        """Until the client is gone, or has sent a message (rule 4)."""
        self._offends = await self._handshake.until_message()
        self._viewer.leave()
        if self._offends:
            self._interrupt()

    async def _refuse_message(self) -> None:
        try:
            async with asyncio.timeout(CLOSE_S):
                await self._handshake.close(POLICY, ONLY_SENDS)
        except OSError:  # it is gone, or takes nothing: a TimeoutError is one
            self._abort()

    def _cut(self) -> None:
        self._abort()
        self._interrupt()

    def _abort(self) -> None:
        if self._connection is not None:
            self._connection.abort()

    def _interrupt(self) -> None:
        if self._task is not None and not self._is_cut:
            self._is_cut = True
            self._task.cancel()
