"""One client connection of our runner: uvicorn's HTTP protocol, with what long responses need of it.

1. A response may abort its connection, and hears of its loss, through ``scope["extensions"]["broadcaster.transport"]``.
   With its head sent it may also take the connection (socket_driver.py), as uvicorn itself gives one to a WebSocket.
2. A request's head has a bound, and what is no HTTP is answered with a problem; never into a response that has begun.
3. It reports to ``Arrivals`` (connections.py) when a head or body is on its way, and ends when that gives it up.
4. Between two requests uvicorn's keep-alive timer runs.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from typing import Any, Final, cast

import uvicorn
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol
from uvicorn.server import ServerState

from broadcaster.hub.viewer import Viewer
from broadcaster.web.connections import Arrivals
from broadcaster.web.problems import PROBLEMS, problem_response
from broadcaster.web.socket_driver import SocketDriver, is_plain
from broadcaster.web.sse import TRANSPORT_EXTENSION

# Cookies and keys of a browser take a few kilobytes; other servers' bounds lie between 8 and 64.
MAX_HEAD_BYTES: Final = 64 * 2**10


class ConnectionHandle:
    """What a response may do with its connection."""

    __slots__ = ("_protocol", "_transport", "lost")

    def __init__(self, protocol: FrontEndProtocol, transport: asyncio.Transport, lost: asyncio.Future[None]) -> None:
        self._protocol = protocol
        self._transport = transport
        self.lost = lost

    def abort(self) -> None:
        """Close it now, without sending what is buffered."""
        self._transport.abort()

    def take(self, viewer: Viewer) -> bool:
        """See ``Connection`` in sse.py."""
        return self._protocol.hand_over(viewer)


class FrontEndState(ServerState):
    """What the connections of one server share."""

    def __init__(self, arrivals: Arrivals, *, refusal_headers: Mapping[str, str]) -> None:
        super().__init__()
        self.arrivals = arrivals
        self.refusal_headers = refusal_headers


class FrontEndProtocol(HttpToolsProtocol):
    """uvicorn's HTTP protocol; puts a ConnectionHandle into the scope of every request, and bounds its head.

    Implements ``ArrivingRequest``.
    """

    handle: ConnectionHandle
    server_state: FrontEndState
    is_successor = False
    _is_in_body = False
    _head_bytes: int | None = None  # of a head that is still coming, counted from its second read on; None: none is
    _is_new_head = False
    _refusal = "malformed_http"

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A client connected."""
        super().connection_made(transport)
        self.handle = ConnectionHandle(self, transport, self.loop.create_future())
        arrivals = self.server_state.arrivals
        if self.is_successor:
            self._arm_keep_alive()
        elif arrivals.admit(len(self.connections)):
            arrivals.head_begins(self)
        else:
            self._turn_away(arrivals.refusal)

    def hand_over(self, viewer: Viewer) -> bool:
        """Give the connection to a viewer whose head is sent, and forget the request; False: it is not to be had.

        What is touched of uvicorn is pinned by tests/web/test_uvicorn_versions.py.
        """
        cycle = self.cycle
        is_ready = cycle.response_started and cycle.chunked_encoding is True and not cycle.more_body
        # The parser has a part of the next request, or all of it: it must live on.
        is_next_here = self._head_bytes is not None or bool(self.pipeline)
        if not is_ready or is_next_here or self.transport.is_closing() or not is_plain(self.transport):
            return False
        successor = partial(_succeed, self.config, self.server_state, app_state=self.app_state, loop=self.loop)
        driver = SocketDriver(
            self.transport,
            viewer,
            registry=cast("set[asyncio.Protocol]", self.connections),
            successor=successor if cycle.keep_alive else None,
        )
        cycle.disconnected = True  # so that uvicorn does not end the response when the app returns
        self.connections.discard(self)
        self._unset_keepalive_if_required()
        self.flow.resume_reading()
        # These refer to each other; without a cut only a collection would free them.
        self.parser = self.cycle = self.scope = None  # type: ignore[assignment]
        driver.begin()
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone; uvicorn hears of it first, so that the driver that resumes finds it disconnected."""
        super().connection_lost(exc)
        self.server_state.arrivals.forget(self)
        if not self.handle.lost.done():
            self.handle.lost.set_result(None)

    def data_received(self, data: bytes) -> None:
        """Bytes came."""
        self._is_new_head = False
        super().data_received(data)
        if self.transport.is_closing():
            return
        if self._is_in_body:
            self.server_state.arrivals.body_came(self, len(data))
        elif self._head_bytes is None:
            # A line break between two requests, or the end of a body that was refused: uvicorn took the timer away.
            if not self.is_answering and self.timeout_keep_alive_task is None:
                self._arm_keep_alive()
        elif not self._is_new_head:
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD_BYTES:
                self._refuse("head_too_large")

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header came; a trailer, after the body, is ignored."""
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
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """The body is whole, or there is none."""
        self._is_in_body = False
        self.server_state.arrivals.body_ends(self)
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        """Answer what is no request, and close."""
        self._refuse(self._refusal)

    def _refuse(self, code: str, detail: str | None = None) -> None:
        """Answer with this problem, and close; a response that has begun is cut instead."""
        if self.cycle is not None and self.cycle.response_started and not self.cycle.response_complete:
            self.transport.abort()
            return
        headers = self.server_state.refusal_headers
        response = problem_response(code, detail or PROBLEMS[code].example, headers=headers)
        fields = [*response.raw_headers, (b"connection", b"close")]
        head = b"".join(b"%s: %s\r\n" % field for field in fields)
        self.transport.write(b"%s%s\r\n%s" % (STATUS_LINE[response.status_code], head, response.body))
        self.transport.close()

    def _turn_away(self, detail: str) -> None:
        """Refuse a connection: it is answered before it asks, and counts no more."""
        self.connections.discard(self)
        # What has come already is read: closing over it would be a reset, which may overtake the answer.
        with suppress(OSError):
            os.read(self.transport.get_extra_info("socket").fileno(), MAX_HEAD_BYTES)
        self._refuse("busy", detail)

    def _arm_keep_alive(self) -> None:
        self.timeout_keep_alive_task = self.loop.call_later(self.timeout_keep_alive, self.timeout_keep_alive_handler)

    # -- ArrivingRequest

    @property
    def is_answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    @property
    def is_held_back(self) -> bool:
        return self.flow.read_paused or self.cycle.waiting_for_100_continue

    @property
    def is_answered(self) -> bool:
        return self.cycle.response_complete

    def give_up(self) -> None:
        """Answer 408 to what has begun, unless it is answered already, and close."""
        if self.transport.is_closing():
            return
        if self._head_bytes is None and not (self._is_in_body and not self.is_answered):
            self.transport.close()
            return
        self._refuse("request_timeout")
        if self._is_in_body:  # the app waits for the rest: it is disconnected
            self.cycle.disconnected = True
            self.cycle.message_event.set()

    def on_message_begin(self) -> None:
        """A request begins."""
        self._head_bytes, self._is_new_head = 0, True
        self.server_state.arrivals.head_begins(self)
        super().on_message_begin()
        self.scope["extensions"] = {TRANSPORT_EXTENSION: self.handle}  # type: ignore[dict-item]


def _succeed(
    config: uvicorn.Config, state: ServerState, *, app_state: dict[str, Any], loop: asyncio.AbstractEventLoop
) -> FrontEndProtocol:
    """Where the connection goes after a response that had taken it."""
    state.total_requests += 1
    successor = FrontEndProtocol(config, state, app_state, loop)
    successor.is_successor = True
    return successor
