"""One client connection of our runner: uvicorn's HTTP protocol, with what long responses need of it.

1. A response may abort its connection, and is notified of its loss, through
   ``scope["extensions"]["broadcaster.transport"]``. Its head may also give the connection to a viewer
   (socket_driver.py), as uvicorn itself gives one to a WebSocket. The head and the viewer's first bytes leave in one
   write: four writes, each a packet of its own, were a fifth of what a viewer that came back cost.
2. A request's head has a bound, and malformed HTTP gets a problem as response, but never within a response.
3. It reports to ``Arrivals`` (connections.py) when a head or body is on its way, and ends when that gives it up.
4. Between two requests uvicorn's keep-alive timer runs. While the server drains, no connection gets a second request.
5. A WebSocket handshake at the path of a stream (``/v1/streams/{id}/ws``), behind which nothing and before which no
   unfinished response stands, gives its connection to a ``ViewerSocket`` (websocket_protocol.py). No other connection
   becomes one of another protocol: a request that offers it is read without the offer (RFC 9110, 7.8), gets its
   response, and closes its connection.
"""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from typing import Any, Final, cast

import httptools
import uvicorn
from starlette.types import Message, Send
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol
from uvicorn.server import ServerState

from broadcaster.hub.viewer import Viewer
from broadcaster.observability.lines import RefusedRequest
from broadcaster.web.documents.problem_table import PROBLEMS
from broadcaster.web.documents.problems import problem_response
from broadcaster.web.guards.refusal_log import RefusalLog
from broadcaster.web.server.connections import Arrivals, OpenConnections
from broadcaster.web.server.heads import chunked_head
from broadcaster.web.server.socket_driver import SocketDriver, is_plain
from broadcaster.web.viewing.client_connection import OFFER, TRANSPORT_EXTENSION, Offer
from broadcaster.web.viewing.direct import DirectViewers

# Cookies and keys of a browser take a few kilobytes; other servers' bounds lie between 8 and 64.
MAX_HEAD_BYTES: Final = 64 * 2**10
_COUNTED: Final = "busy"  # a connection too many: connections.py logs their number
_WEBSOCKET_PATH: Final = re.compile(rb"/v1/streams/[\x21-\x3e\x40-\x7e]+/ws(\?[\x21-\x7e]*)?")
# A handshake has no body (RFC 6455, 4.1), and this version.
_BODY_FIELDS: Final = frozenset({b"content-length", b"transfer-encoding"})
_WEBSOCKET_VERSION: Final = (b"sec-websocket-version", b"13")


class FrontEndState(ServerState):
    """The state that the connections of one server share."""

    def __init__(
        self,
        arrivals: Arrivals,
        *,
        refusal_headers: Mapping[str, str],
        refusals: RefusalLog,
        direct: DirectViewers | None = None,
    ) -> None:
        super().__init__()
        self.connections = OpenConnections()  # type: ignore[assignment]  # uvicorn adds, discards, counts and lists
        self.arrivals = arrivals
        self.refusals = refusals
        self.direct = direct
        self.refusal_headers = refusal_headers
        self.is_draining = False
        self.successor: Callable[[], FrontEndProtocol] | None = None
        """Makes the protocol of a connection after a viewer; one object for all, for a viewer is small."""


class FrontEndProtocol(HttpToolsProtocol):
    """uvicorn's HTTP protocol; puts itself into the scope of every request, and bounds its head.

    Implements ``ArrivingRequest``, and ``ClientConnection`` of sse.py.
    """

    lost: asyncio.Future[None]
    server_state: FrontEndState
    is_successor = False
    _is_in_body = False
    _head_bytes: int | None = (
        None  # of a head that is still arriving, counted from its second read on; None: no head is
    )
    _is_new_head = False
    _is_reparsed = False  # the head of a request that offers another protocol, without its offer
    _is_given_away = False  # to a WebSocket
    _refusal = "malformed_http"

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A client connected."""
        super().connection_made(transport)
        self.parser = _OfferParser(self)
        self.lost = self.loop.create_future()
        arrivals = self.server_state.arrivals
        if self.is_successor and self.server_state.is_draining:
            transport.close()
        elif self.is_successor:
            self._arm_keep_alive()
        elif arrivals.admit(len(self.connections)):
            arrivals.head_begins(self)
        else:
            self._turn_away(arrivals.refusal)

    def abort(self) -> None:
        """Close the connection now, without sending what is buffered."""
        self.transport.abort()

    def drain(self) -> None:
        """The server drains: close between two requests, or with the response. A first request is still read."""
        if self.is_responding:
            self.cycle.keep_alive = False
        elif self.timeout_keep_alive_task is not None:
            self.transport.close()

    async def send(self, send: Send, message: Message) -> None:
        """See ClientConnection."""
        offer: Offer | None = message.get(OFFER)
        if offer is None or offer.viewer is None or not self._give(offer.viewer, message):
            await send(message)
        else:
            offer.is_taken = True

    def _give(self, viewer: Viewer, start: Message) -> bool:
        """Give the connection to a viewer with the head of its response, and forget the request; False: it cannot be.

        The parts of uvicorn that are used here are pinned by tests/web/server/test_uvicorn_versions.py.
        """
        cycle = self.cycle
        is_ready = not (cycle.response_started or cycle.more_body) and cycle.scope["method"] != "HEAD"
        # The parser has a part of the next request, or all of it: it must live on.
        is_next_here = self._head_bytes is not None or bool(self.pipeline)
        if not is_ready or is_next_here or self.transport.is_closing() or not is_plain(self.transport):
            return False
        state = self.server_state
        head = chunked_head(
            start["status"], start["headers"], default=state.default_headers, keeps_alive=cycle.keep_alive
        )
        if head is None:
            return False
        if state.successor is None:
            state.successor = partial(succeed, self.config, state, app_state=self.app_state, loop=self.loop)
        driver = SocketDriver(
            self.transport,
            viewer,
            registry=cast(OpenConnections, self.connections),
            successor=state.successor if cycle.keep_alive else None,
        )
        cycle.disconnected = True  # so that uvicorn does not end the response when the app returns
        self.connections.discard(self)
        self._unset_keepalive_if_required()
        self.flow.resume_reading()
        # These refer to each other; without a cut only a collection would free them.
        self.parser = self.cycle = self.scope = None  # type: ignore[assignment]
        driver.begin(head)
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone; uvicorn is notified first, so that the driver that resumes finds it disconnected."""
        super().connection_lost(exc)
        self.server_state.arrivals.forget(self)
        if not self.lost.done():
            self.lost.set_result(None)

    def data_received(self, data: bytes) -> None:
        """Bytes have arrived."""
        self._is_new_head = False
        super().data_received(data)
        if self._is_given_away or self.transport.is_closing():
            return
        if self._is_in_body:
            self.server_state.arrivals.body_came(self, len(data))
        elif self._head_bytes is None:
            # A line break between two requests, or the end of a body that was refused: uvicorn took the timer away.
            if not self.is_responding and self.timeout_keep_alive_task is None:
                self._arm_keep_alive()
        elif not self._is_new_head:
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD_BYTES:
                self._refuse("head_too_large")

    def read_offer(self, rest: bytes) -> None:
        """The head offers another protocol; ``rest`` came behind it (rule 5). Raises what the parser raises."""
        if rest or not self._is_handshake():
            self._read_without_offer(rest)
        else:
            self._become_websocket()

    def _is_handshake(self) -> bool:
        names = {name for name, _ in self.headers}
        return (
            self.ws_protocol_class is not None
            and not self.is_responding  # else that response would write into the WebSocket
            and self.parser.get_method() == b"GET"
            and self._get_upgrade() == b"websocket"
            and _WEBSOCKET_VERSION in self.headers
            and _BODY_FIELDS.isdisjoint(names)
            and _WEBSOCKET_PATH.fullmatch(self.url) is not None
        )

    def _become_websocket(self) -> None:
        """Give the connection away, with the head as it came; a head that the WebSocket cannot read is refused."""
        assert self.ws_protocol_class is not None
        fields = b"".join(b"%b: %b\r\n" % field for field in self.headers)
        head = b"GET %b HTTP/1.1\r\n%b\r\n" % (self.url, fields)
        state = self.server_state
        create: Callable[..., Any] = self.ws_protocol_class
        socket = create(config=self.config, server_state=state, app_state=self.app_state)
        self._is_given_away = True
        self.connections.discard(self)
        state.arrivals.forget(self)
        self.transport.set_protocol(socket)
        socket.connection_made(self.transport)
        socket.data_received(head)
        if not socket.handshake_initiated:
            self._refuse("head_too_large", "a handshake has at most 128 lines, each of 8192 bytes at most")

    def _read_without_offer(self, rest: bytes) -> None:
        """Parse the head a second time without the offer, then ``rest``.

        httptools treats every byte after an offer as the other protocol's, also the request's body. The second parser
        reads everything that frames the body, as in any request. Raises HttpParserError, HttpParserUpgrade.
        """
        method, version = self.parser.get_method(), self.parser.get_http_version().encode()
        fields = [b"%s: %s\r\n" % field for field in self.headers if field[0] != b"upgrade"]
        self.parser = _lenient(httptools.HttpRequestParser(self))
        self._is_reparsed = True
        self.parser.feed_data(b"%s %s HTTP/%s\r\n%s\r\n" % (method, self.url, version, b"".join(fields)))
        self.parser.feed_data(rest)

    def on_url(self, url: bytes) -> None:
        """A part of the path has arrived."""
        if self._head_bytes is not None:
            super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header has arrived; trailers, after the body, are ignored, and so is a head that is parsed again."""
        if self._head_bytes is not None:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """The head is whole. Raises ValueError, which the parser turns into a refusal."""
        self._head_bytes = None
        self._is_in_body = True
        self.server_state.arrivals.head_ends(self)
        if len(self.url) + sum(len(name) + len(value) for name, value in self.headers) > MAX_HEAD_BYTES:
            self._refusal = "head_too_large"
            raise ValueError("the head is too large")
        if self._is_offer:
            return
        super().on_headers_complete()
        # Also the last: a proxy may take what follows an offer for the other protocol.
        if self._is_reparsed or self.server_state.is_draining:
            self.cycle.keep_alive = False
        self._is_reparsed = False

    def on_message_complete(self) -> None:
        """The body is whole, or there is none."""
        self._is_in_body = False
        self.server_state.arrivals.body_ends(self)
        if not self._is_offer:
            super().on_message_complete()

    @property
    def _is_offer(self) -> bool:
        """Whether the parser stops at this head (rule 5). CONNECT is no offer: its path is refused."""
        return bool(self.parser.should_upgrade()) and self.parser.get_method() != b"CONNECT"

    def _should_upgrade(self) -> bool:
        """Never by uvicorn: read_offer has decided (rule 5)."""
        return False

    def _unsupported_upgrade_warning(self) -> None:
        """Ignore a second offer behind the first: the connection closes with the response to the first."""

    def send_400_response(self, msg: str) -> None:
        """Respond to malformed HTTP, and close."""
        self._refuse(self._refusal)

    def _refuse(self, code: str, detail: str | None = None) -> None:
        """Respond with this problem, and close; a response that has begun is cut instead."""
        if self.cycle is not None and self.cycle.response_started and not self.cycle.response_complete:
            self.transport.abort()
            return
        headers = self.server_state.refusal_headers
        response = problem_response(code, detail or PROBLEMS[code].example, headers=headers)
        fields = [*response.raw_headers, (b"connection", b"close")]
        head = b"".join(b"%s: %s\r\n" % field for field in fields)
        if code != _COUNTED:
            self.server_state.refusals.add(RefusedRequest(status=response.status_code, code=code))
        self.transport.write(b"%s%s\r\n%s" % (STATUS_LINE[response.status_code], head, response.body))
        self.transport.close()

    def _turn_away(self, detail: str) -> None:
        """Refuse a connection: it gets a response before its request, and is not counted any more."""
        self.connections.discard(self)
        # Bytes that have arrived are read: closing over them would be a reset, which may overtake the response.
        with suppress(OSError):
            os.read(self.transport.get_extra_info("socket").fileno(), MAX_HEAD_BYTES)
        self._refuse("busy", detail)

    def _arm_keep_alive(self) -> None:
        self.timeout_keep_alive_task = self.loop.call_later(self.timeout_keep_alive, self.timeout_keep_alive_handler)

    # -- ArrivingRequest

    @property
    def is_responding(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    @property
    def is_paused(self) -> bool:
        return self.flow.read_paused or self.cycle.waiting_for_100_continue

    @property
    def is_response_complete(self) -> bool:
        return self.cycle.response_complete

    def give_up(self) -> None:
        """Respond with 408 to a request that has begun, unless it has its response already, and close."""
        if self.transport.is_closing():
            return
        if self._head_bytes is None and not (self._is_in_body and not self.is_response_complete):
            self.transport.close()
            return
        self._refuse("request_timeout")
        if self._is_in_body:  # the app waits for the rest: it is disconnected
            self.cycle.disconnected = True
            self.cycle.message_event.set()

    def on_message_begin(self) -> None:
        """A request begins."""
        if self._is_reparsed:
            return
        self._head_bytes, self._is_new_head = 0, True
        self.server_state.arrivals.head_begins(self)
        super().on_message_begin()
        self.scope["extensions"] = {TRANSPORT_EXTENSION: self}  # type: ignore[dict-item]


class _OfferParser(httptools.HttpRequestParser):
    """Reads requests until one offers another protocol, which its protocol reads with another parser (rule 5)."""

    def __init__(self, protocol: FrontEndProtocol) -> None:
        super().__init__(protocol)
        self._read_offer = protocol.read_offer
        _lenient(self)

    def feed_data(self, data: bytes) -> None:  # type: ignore[override]  # uvicorn has no other kind
        """Raises HttpParserError."""
        try:
            super().feed_data(data)
        except httptools.HttpParserUpgrade as offer:
            self._read_offer(data[offer.args[0] :])


def _lenient(parser: httptools.HttpRequestParser) -> httptools.HttpRequestParser:
    """As uvicorn sets up its own: bytes behind a request that closes its connection are no error."""
    parser.set_dangerous_leniencies(lenient_data_after_close=True)
    return parser


def succeed(
    config: uvicorn.Config, state: ServerState, *, app_state: dict[str, Any], loop: asyncio.AbstractEventLoop
) -> FrontEndProtocol:
    """The protocol of the connection after a response that had taken it."""
    state.total_requests += 1
    successor = FrontEndProtocol(config, state, app_state, loop)
    successor.is_successor = True
    return successor
