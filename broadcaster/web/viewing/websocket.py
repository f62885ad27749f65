"""A viewer's response over a WebSocket: the native dialect, one event a message (dialects/native/messages.py).

Rules
1. The viewer is the same as that of server-sent events: only what carries its bytes differs. The driver pulls slices of
   lines and sends each line as one text message. On our own runner what a slice has cut goes out as fragments of its
   message (RFC 6455, 5.4), so a connection holds a slice however large the message is.
2. The driver awaits each message: a client that takes nothing holds up its own viewer, which the hub cuts after
   ``slow_viewer_s``. A cut connection is aborted, or left without a close frame: the client resumes from its cursor.
3. A viewer that ends in good order has its notice (``hub.bye``) as the last message. The close code repeats it:

       1000  the stream has ended: nothing will follow
       1001  this front-end ends, or the connection is as old as one may get: reconnect
       1008  the credential is no longer valid, or the client has sent a message
       1013  reconnect later: a bound is met, or the log is away

4. The client sends nothing: a message of any size ends the connection. How large one may be, and the deadline for
   answers to pings, are the server's (server/websocket_protocol.py).
5. ASGI has no fragments. On any other server a message that slices have cut is made whole, and counts in the bytes of
   JSON of its tenant until the message after it is on its way (guards/json_ledger.py). Without room the connection is
   closed with 1013.
"""

from __future__ import annotations

import asyncio
import codecs
from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple

from starlette.types import Receive, Scope, Send

from broadcaster.errors import Busy
from broadcaster.hub.stop_reasons import Refused, StopReason
from broadcaster.hub.viewer import Viewer
from broadcaster.log.streams.reader import Meta
from broadcaster.web.guards.json_ledger import COPIES, JsonHold
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
        self,
        source: Viewer | Refused,
        *,
        hold: JsonHold | None = None,
        headers: Mapping[str, str] | None = None,
        meta: Meta | None = None,
    ) -> None:
        """For a request with a handshake; ``meta``: of the viewer's stream; ``hold``: see rule 5."""
        super().__init__(source, status=SWITCHING, headers=headers or {}, meta=meta)
        self._hold = hold

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
            whole = WholeMessages(handshake, self._hold)
            messages = handshake if handshake.has_fragments else whole
            try:
                await MessageDriver(source, handshake, messages=messages, connection=connection_of(scope)).run()
            finally:
                whole.close()
            return
        for line, _ in MessageLines().decode(source.block):
            await handshake.send_text(line)
        await handshake.close(close_code(source.reason), source.reason.code)


class MessageFragment(NamedTuple):
    """A message, or what a slice holds of one."""

    text: str
    is_last: bool


class MessageLines:
    """Slices of lines → messages. A character that a slice has cut waits for the next one."""

    def __init__(self) -> None:
        self._decode = codecs.getincrementaldecoder("utf-8")("replace").decode

    def decode(self, piece: bytes) -> Iterator[MessageFragment]:
        """What this slice holds, in order."""
        *whole, rest = piece.split(b"\n")
        for line in whole:
            yield MessageFragment(self._decode(line, True), is_last=True)
        if rest:
            yield MessageFragment(self._decode(rest), is_last=False)


class WholeMessages:
    """Joins fragments for a server that sends whole messages alone (rule 5)."""

    def __init__(self, handshake: Handshake, hold: JsonHold | None) -> None:
        self._handshake = handshake
        self._hold = hold
        self._fragments: list[str] = []
        self._begun_bytes = 0
        self._sent_bytes = 0  # of the message before, which the server may still hold

    async def send_text(self, text: str, *, is_last: bool = True) -> None:
        """Send the message when it is whole. Raises Busy if there is no room for it, and what Handshake raises."""
        if self._fragments or not is_last:
            self._fragments.append(text)
            # One character beyond ASCII makes the joined text as many as four times as large.
            self._begun_bytes += len(text) * (COPIES if text.isascii() else 2 * COPIES)
            self._count()
            if not is_last:
                return
            text = "".join(self._fragments)
            self._fragments.clear()
        await self._handshake.send_text(text)  # the server takes it when the message before it is on its way
        if self._begun_bytes or self._sent_bytes:
            self._begun_bytes, self._sent_bytes = 0, self._begun_bytes
            self._count()

    def close(self) -> None:
        """Count nothing any more."""
        self._begun_bytes = self._sent_bytes = 0
        self._count()

    def _count(self) -> None:
        if self._hold is not None:
            self._hold.set(self._begun_bytes + self._sent_bytes)


class MessageDriver:
    """Pulls one viewer's lines and sends them; see the module's rules."""

    __slots__ = ("_connection", "_handshake", "_is_cut", "_lines", "_messages", "_refusal", "_task", "_viewer")

    def __init__(
        self,
        viewer: Viewer,
        handshake: Handshake,
        *,
        messages: Handshake | WholeMessages,
        connection: ClientConnection | None,
    ) -> None:
        self._viewer = viewer
        self._handshake = handshake
        self._messages = messages
        self._connection = connection
        self._lines = MessageLines()
        self._task = asyncio.current_task()
        self._is_cut = False
        self._refusal: tuple[int, str] | None = None

    async def run(self) -> None:
        """Send all that the viewer pulls, and close as the viewer ends. The handshake is accepted."""
        viewer = self._viewer
        viewer.on_cut = self._cut
        listener = asyncio.create_task(self._listen())
        try:
            await self._pump()
        except Busy:  # rule 5
            viewer.stop(StopReason.LIMIT)
            self._refusal = close_code(StopReason.LIMIT), StopReason.LIMIT.code
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
        if self._refusal is not None:
            try:
                await self._close(*self._refusal)
            except OSError:  # it is gone, or takes nothing: a TimeoutError is one
                self._abort()

    async def _pump(self) -> None:
        viewer, send_text = self._viewer, self._messages.send_text
        sent = 0
        while True:
            piece = viewer.pull(MAX_CHUNK_BYTES)
            if not piece:
                if viewer.is_over:
                    break
                if await viewer.wait(viewer.heartbeat_s):
                    continue
                piece = viewer.heartbeat()
            for text, is_last in self._lines.decode(piece):
                await send_text(text, is_last=is_last)
            sent += len(piece)
            if sent >= BYTES_A_TURN:  # a client that takes everything must not keep the others waiting
                sent = 0
                await asyncio.sleep(0)
        reason = viewer.stop_reason or StopReason.CLIENT_GONE
        if reason is not StopReason.CLIENT_GONE:
            await self._close(close_code(reason), reason.code)

    async def _listen(self) -> None:
        """Until the client is gone, or has sent a message (rule 4)."""
        has_offended = await self._handshake.until_message()
        self._viewer.leave()
        if has_offended:
            self._refusal = POLICY, ONLY_SENDS
            self._interrupt()

    async def _close(self, code: int, reason: str) -> None:
        """Raises OSError, of which TimeoutError is one."""
        async with asyncio.timeout(CLOSE_S):
            await self._handshake.close(code, reason)

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
