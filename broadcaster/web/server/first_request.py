"""The protocol of a new connection: a plain viewer's gets its driver here, all others get uvicorn's protocol.

A connection of a crowd that returns has one request, which arrives in one piece. uvicorn's protocol and its task, the
app's layers and FastAPI cost more than all that is done for the viewer itself (docs/benchmarks.md).

Rules
1. Only bytes that are one whole request, and nothing else, are read here: GET of HTTP/1.1 without a body. Everything
   else goes to ``FrontEndProtocol`` as it came, and so does a request that is not admitted here (viewing/direct.py).
2. What the client sends while its viewer waits for its turn is kept for after the response, up to
   ``PIPELINED_BYTES``; beyond that the socket is not read.
3. The bounds of connections.py hold here too: a connection too many, and one whose head is late. The time of a head is
   that of its transport: it does not begin anew with another protocol.
4. At the server's end a viewer that still waits is cancelled, and its connection is aborted (runner.py, rule 7).
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeVar

import httptools

from broadcaster.web.server.heads import chunked_head
from broadcaster.web.server.http_protocol import FrontEndProtocol, FrontEndState, succeed
from broadcaster.web.server.socket_driver import PIPELINED_BYTES, SocketDriver, is_plain
from broadcaster.web.viewing.direct import STATUS, Admitted, PlainRequest

if TYPE_CHECKING:
    import uvicorn

_BEGIN: Final = b"GET /v1/streams/"
_END: Final = b"\r\n\r\n"
# Cookies and keys of a browser take a few kilobytes. A larger head is none of a crowd's.
_MOST_BYTES: Final = 8192

_ResultT = TypeVar("_ResultT")


class WouldWait(Exception):
    """A coroutine cannot be run at once."""


class _Head:
    """What the parser finds in a request."""

    __slots__ = ("headers", "is_whole", "keeps_alive", "parser", "url", "version")

    def __init__(self) -> None:
        self.url = b""
        self.headers: list[tuple[bytes, bytes]] = []
        self.version = ""
        self.is_whole = self.keeps_alive = False
        self.parser: httptools.HttpRequestParser | None = httptools.HttpRequestParser(self)

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        parser, self.parser = self.parser, None  # they refer to each other
        assert parser is not None, "a second head is not in the same piece"
        self.keeps_alive = parser.should_keep_alive()
        self.version = parser.get_http_version()

    def on_message_complete(self) -> None:
        self.is_whole = True


class FirstRequestProtocol(asyncio.Protocol):
    """Implements ``ArrivingRequest``; its constructor is that of uvicorn's protocols."""

    __slots__ = (
        "_app_state",
        "_config",
        "_direct",
        "_joining",
        "_keeps_alive",
        "_loop",
        "_received",
        "_state",
        "transport",
    )

    is_responding = is_paused = is_response_complete = False

    def __init__(
        self,
        *,
        config: uvicorn.Config,
        server_state: FrontEndState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        self._config = config
        self._state = server_state
        self._app_state = app_state
        self._loop = _loop or asyncio.get_running_loop()
        assert server_state.direct is not None, "without it uvicorn's protocol serves all requests"
        self._direct = server_state.direct
        self._joining: asyncio.Task[Admitted | None] | None = None
        self._received = b""
        self._keeps_alive = True

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A client connected."""
        self.transport = transport
        connections = self._state.connections
        connections.add(self)  # type: ignore[arg-type]  # of any protocol
        if self._state.arrivals.has_room(len(connections)) and is_plain(transport):
            self._state.arrivals.head_begins(self)
        else:
            self._hand_over()

    def data_received(self, data: bytes) -> None:
        """The first bytes, or more while the viewer waits for its turn."""
        self._received += data
        if self._joining is not None:
            if len(self._received) > PIPELINED_BYTES:
                self.transport.pause_reading()
            return
        found = self._read()
        if found is None:
            self._hand_over()
            return
        self._state.arrivals.head_ends(self)
        self._received = b""
        if self._direct.admits_at_once(found):
            with suppress(WouldWait):  # then the task waits
                self._answer(data, run_at_once(self._direct.join(found)))
                return
        self._joining = self._loop.create_task(self._direct.join(found))
        self._state.tasks.add(self._joining)  # type: ignore[arg-type]  # uvicorn waits for them, whatever they return
        self._joining.add_done_callback(self._state.tasks.discard)
        self._joining.add_done_callback(partial(self._joined, data))

    def connection_lost(self, error: Exception | None) -> None:
        """The client is gone."""
        self._state.connections.discard(self)
        self._state.arrivals.forget(self)
        if self._joining is not None:
            self._joining.cancel()

    # -- called by the server at its end

    def shutdown(self) -> None:
        """Close it; a viewer that waits is cancelled (rule 4)."""
        if self._joining is not None:
            self._joining.cancel()
        self.transport.close()

    def abort(self) -> None:
        """Close it now."""
        self.transport.abort()

    def give_up(self) -> None:
        """No request has come in time."""
        self.transport.close()

    # -- the request

    def _read(self) -> PlainRequest | None:
        """The request, if it may be answered here (rule 1)."""
        data = self._received
        if not data.startswith(_BEGIN) or len(data) > _MOST_BYTES or data.find(_END) != len(data) - len(_END):
            return None
        head = _Head()
        parser = head.parser
        assert parser is not None, "it has read nothing yet"
        try:
            parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            return None
        if not head.is_whole or head.version != "1.1":
            return None
        self._keeps_alive = head.keeps_alive
        path, _, query = head.url.partition(b"?")
        if b"#" in query:
            return None
        scope = {
            "type": "http",
            "method": "GET",
            "scheme": "http",
            "root_path": "",
            "path": path.decode("latin-1"),
            "query_string": query,
            "headers": head.headers,
            "client": self.transport.get_extra_info("peername"),
            "state": {},
        }
        return self._direct.judge(scope)

    def _joined(self, request: bytes, joining: asyncio.Task[Admitted | None]) -> None:
        """The task that waited for a turn is over."""
        self._joining = None
        if joining.cancelled():
            self.transport.abort()
            return
        admitted = joining.result()
        if not self.transport.is_closing():
            self._answer(request, admitted)
        elif admitted is not None:
            admitted.viewer.leave()

    def _answer(self, request: bytes, admitted: Admitted | None) -> None:
        """Give the connection to the viewer's driver; without a viewer the app answers the request."""
        if admitted is None:
            self._received = request + self._received
            self._hand_over()
            return
        state = self._state
        head = chunked_head(STATUS, admitted.fields, default=state.default_headers, keeps_alive=self._keeps_alive)
        assert head is not None, "a viewer's response frames no body itself"
        if state.successor is None:
            state.successor = partial(succeed, self._config, state, app_state=self._app_state, loop=self._loop)
        state.connections.discard(self)
        driver = SocketDriver(
            self.transport,
            admitted.viewer,
            registry=state.connections,  # type: ignore[arg-type]
            successor=state.successor if self._keeps_alive else None,
            pipelined=self._received,
        )
        driver.begin(head)

    def _hand_over(self) -> None:
        """Give the connection, and what has come, to uvicorn's protocol."""
        self._state.connections.discard(self)
        following = FrontEndProtocol(self._config, self._state, self._app_state, self._loop)
        received, self._received = self._received, b""
        self.transport.set_protocol(following)
        following.connection_made(self.transport)
        if received and not self.transport.is_closing():
            self.transport.resume_reading()
            following.data_received(received)


def run_at_once(work: Coroutine[Any, Any, _ResultT]) -> _ResultT:
    """The result of a coroutine that waits for nothing. Raises WouldWait if it waits: it was ended then."""
    try:
        work.send(None)
    except StopIteration as end:
        result: _ResultT = end.value
        return result
    work.close()
    raise WouldWait
