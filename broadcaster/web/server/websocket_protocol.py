"""One WebSocket of our runner: uvicorn's protocol on the library ``websockets``, with what a viewer needs of it.

1. A response may abort its connection, and is notified of its loss, as over HTTP (http_protocol.py).
2. A message, or a fragment of one, is sent when the socket has taken the ones before it. Bytes that the client makes
   the server send (pongs) have a bound: a client that sends pings and reads nothing is disconnected.
3. A client that does not answer a ping in time is gone: its connection is aborted, for it would not take a close frame.
4. A refused handshake is complete, and no fault of the app. The log has a line of our own for each request. uvicorn and
   the library write none: at DEBUG they would write the head, with the token of its query.
5. Messages of the client have ``MAX_INCOMING_BYTES`` (runner.py); a larger one closes the connection before it is read.
   The first frame of a message is enough to report it: no frame is kept, however many follow.
6. A client waits for the response to its handshake (RFC 6455, 4.1). The connection of one that sends before is aborted.
7. A connection that the client has closed, or broken by its frames, is aborted after ``CLOSE_S`` if the client does not
   take what is left: a driver may be waiting for the socket.
"""

from __future__ import annotations

import asyncio
import logging
from email.utils import formatdate
from http import HTTPStatus
from typing import Any, Final

from uvicorn.protocols.utils import ClientDisconnected
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.datastructures import Headers
from websockets.exceptions import InvalidState
from websockets.http11 import Response

from broadcaster.web.viewing.client_connection import TRANSPORT_EXTENSION
from broadcaster.web.viewing.handshake import MORE_FOLLOWS

# Pongs that wait for a socket which takes nothing; a pong has at most 131 bytes.
MAX_PONG_BYTES: Final = 256 * 2**10
CLOSE_S: Final = 10.0

_faults: Final = logging.getLogger("uvicorn.error.websocket")
_faults.setLevel(logging.WARNING)


class ViewerSocket(WebSocketsSansIOProtocol):
    """Implements ``ClientConnection``, except that its ``send`` is ASGI's.

    uvicorn before 0.50 does not wait for the socket: this class does.
    """

    lost: asyncio.Future[None]
    _deadline: asyncio.TimerHandle | None = None

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self.logger = self.conn.logger = _faults

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The connection is taken over."""
        super().connection_made(transport)
        self.lost = self.loop.create_future()

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone."""
        super().connection_lost(exc)
        self.writable.set()
        if self._deadline is not None:
            self._deadline.cancel()
        if not self.lost.done():
            self.lost.set_result(None)

    def data_received(self, data: bytes) -> None:
        """Bytes have arrived (rule 6)."""
        if self.handshake_initiated and not self.handshake_complete:
            self.abort()
        else:
            super().data_received(data)

    def pause_writing(self) -> None:
        """The transport buffers bytes: the next message waits."""
        self.writable.clear()

    def resume_writing(self) -> None:
        """The socket has taken them."""
        self.writable.set()

    def handle_connect(self, event: Any) -> None:
        """The handshake is read."""
        super().handle_connect(event)
        if not self.handshake_complete:  # else the library has refused it
            scope: Any = self.scope
            scope["extensions"] = {**(scope.get("extensions") or {}), TRANSPORT_EXTENSION: self}

    async def send(self, message: Any) -> None:
        """See ASGI."""
        if self.lost.done() or (not self.handshake_complete and self.transport.is_closing()):
            raise ClientDisconnected  # uvicorn would take the message, or the one after it, for a fault of the app
        if message["type"] == "websocket.http.response.body" and not message.get("more_body", False):
            self._send_refusal(message.get("body", b""))
        elif MORE_FOLLOWS in message or self.conn.expect_continuation_frame:
            await self._send_fragment(message)
        else:
            await super().send(message)

    async def _send_fragment(self, message: Any) -> None:
        await self.writable.wait()
        send = self.conn.send_continuation if self.conn.expect_continuation_frame else self.conn.send_text
        try:
            send(message["text"].encode(), fin=MORE_FOLLOWS not in message)
        except InvalidState:  # one of the two has closed
            raise ClientDisconnected from None
        self.transport.write(b"".join(self.conn.data_to_send()))

    def handle_ping(self) -> None:
        """A ping has arrived, which the library has answered (rule 2)."""
        super().handle_ping()
        if self.transport.get_write_buffer_size() > MAX_PONG_BYTES:
            self.abort()

    def handle_text(self, event: Any) -> None:
        """The first frame of a message has arrived (rule 5); its bytes have no use."""
        self.curr_msg_data_type, self.frames = "bytes", [b""]
        self.send_receive_event_to_app()

    handle_bytes = handle_text

    def handle_cont(self, event: Any) -> None:
        """A further frame of a message that is reported already."""

    def handle_close(self, event: Any) -> None:
        """The client has closed, or answers our close frame (rule 7)."""
        super().handle_close(event)
        self._end_in_time()

    def handle_parser_exception(self) -> None:
        """The client has sent what is no frame, or a frame that is too large (rule 7)."""
        super().handle_parser_exception()
        self._end_in_time()

    def shutdown(self) -> None:
        """The server ends. uvicorn would send a close frame, which the library refuses after another one."""
        if self.conn.close_rcvd is not None and not self.close_sent:
            self.abort()
        else:
            super().shutdown()

    def _send_refusal(self, rest: bytes) -> None:
        """The rest of a refusal has come (rule 4). uvicorn before 0.52 would send some of its headers twice."""
        assert self.initial_response is not None
        status, fields, body = self.initial_response
        headers = Headers([*fields, ("Connection", "close"), ("Date", formatdate(usegmt=True))])
        self.conn.send_response(Response(status, HTTPStatus(status).phrase, headers, body + rest))
        self.transport.write(b"".join(self.conn.data_to_send()))
        self.queue.put_nowait({"type": "websocket.disconnect", "code": 1006})
        self.handshake_complete = self.close_sent = True
        self.transport.close()

    def _end_in_time(self) -> None:
        if self._deadline is None and not self.lost.done():
            self._deadline = self.loop.call_later(CLOSE_S, self.abort)

    def keepalive_timeout(self) -> None:
        """The answer to a ping is late (rule 3)."""
        super().keepalive_timeout()
        self.abort()

    def abort(self) -> None:
        """Close the connection now, without sending what is buffered."""
        self.transport.abort()
