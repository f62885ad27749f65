"""Our runner: uvicorn's server and HTTP protocol, with what long responses need of them.

1. The server owns SIGINT and SIGTERM. The first runs ``on_drain`` (readiness off, viewers sent away), then ends; the
   second ends at once.
2. It serves a socket that is bound already: its port is known before anything is served.
3. A response may abort its connection, and hears of its loss, through ``scope["extensions"]["broadcaster.transport"]``.
   With its head sent it may also take the connection (socket_driver.py), as uvicorn itself gives one to a WebSocket.
4. A request's head has a bound, and what is no HTTP is answered with a problem; never into a response that has begun.
5. Half-dead peers are found by the kernel: a heartbeat of a few bytes disappears into its buffer and never fails.
6. A request that is cancelled at the server's end gets no answer, its connection is torn: uvicorn's 500 would be the
   end of an EventSource, which comes back to a connection that broke.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
import sys
import threading
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager
from functools import partial
from typing import Any, Final, cast

import uvicorn
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol
from uvicorn.server import ServerState

from broadcaster.hub.viewer import Viewer
from broadcaster.web.problems import PROBLEMS, problem_response
from broadcaster.web.socket_driver import SocketDriver, is_plain
from broadcaster.web.sse import TRANSPORT_EXTENSION

BACKLOG: Final = 2048
# Cookies and keys of a browser take a few kilobytes; other servers' bounds lie between 8 and 64.
MAX_HEAD_BYTES: Final = 64 * 2**10
# What ordinary requests have after the drain, before they are cancelled.
LAST_RESORT_S: Final = 1
# An idle connection stays open for longer than proxies keep theirs (ingress-nginx and AWS's balancers 60 s): the proxy
# must be the first to close, or it writes a POST to a connection that ends at that moment, and must answer 502. It
# costs a file descriptor and some kilobytes.
KEEP_ALIVE_S: Final = 75
# How often the Date header is made.
DATE_TICK_S: Final = 1.0
# What uvicorn ends with when the app cannot start.
STARTUP_FAILURE: Final = 3

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)

log: Final = logging.getLogger(__name__)


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


class FrontEndProtocol(HttpToolsProtocol):
    """uvicorn's HTTP protocol; puts a ConnectionHandle into the scope of every request, and bounds its head."""

    handle: ConnectionHandle
    _head_bytes: int | None = None  # of a head that is still coming, counted from its second read on; None: none is
    _is_new_head = False
    _refusal = "malformed_http"

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A client connected."""
        super().connection_made(transport)
        self.handle = ConnectionHandle(self, transport, self.loop.create_future())

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
        """The connection is gone; uvicorn hears of it first, so that whoever resumes finds it disconnected."""
        super().connection_lost(exc)
        if not self.handle.lost.done():
            self.handle.lost.set_result(None)

    def data_received(self, data: bytes) -> None:
        """Bytes came."""
        self._is_new_head = False
        super().data_received(data)
        if self._head_bytes is not None and not self._is_new_head and not self.transport.is_closing():
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD_BYTES:
                self._refusal = "head_too_large"
                self.send_400_response("")

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header came; a trailer, after the body, is nobody's here."""
        if self._head_bytes is not None:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """The head is whole. Raises ValueError, which the parser turns into a refusal."""
        self._head_bytes = None
        if len(self.url) + sum(len(name) + len(value) for name, value in self.headers) > MAX_HEAD_BYTES:
            self._refusal = "head_too_large"
            raise ValueError("the head is too large")
        super().on_headers_complete()

    def send_400_response(self, msg: str) -> None:
        """Answer what is no request, and close; a response that has begun is cut instead."""
        if self.cycle is not None and self.cycle.response_started and not self.cycle.response_complete:
            self.transport.abort()
            return
        response = problem_response(self._refusal, PROBLEMS[self._refusal].example)
        fields = [*response.raw_headers, (b"connection", b"close")]
        head = b"".join(b"%s: %s\r\n" % field for field in fields)
        self.transport.write(b"%s%s\r\n%s" % (STATUS_LINE[response.status_code], head, response.body))
        self.transport.close()

    def on_message_begin(self) -> None:
        """A request begins."""
        self._head_bytes, self._is_new_head = 0, True
        super().on_message_begin()
        self.scope["extensions"] = {TRANSPORT_EXTENSION: self.handle}  # type: ignore[dict-item]


def _succeed(
    config: uvicorn.Config, state: ServerState, *, app_state: dict[str, Any], loop: asyncio.AbstractEventLoop
) -> FrontEndProtocol:
    """Who has the connection after a response that had taken it."""
    state.total_requests += 1
    return FrontEndProtocol(config, state, app_state, loop)


class _TearsWhatIsCancelled:
    """An ASGI app without an answer to requests that the server cancels (rule 6)."""

    def __init__(self, app: Any) -> None:
        self._app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        try:
            await self._app(scope, receive, send)
        except asyncio.CancelledError:
            if scope["type"] != "http":
                raise
            handle: ConnectionHandle = scope["extensions"][TRANSPORT_EXTENSION]
            handle.abort()
            # Only a request whose connection is known to be lost is left without an answer.
            await asyncio.shield(handle.lost)


class FrontEndServer(uvicorn.Server):
    """Serves one app on one bound socket until a signal or ``request_stop``.

    ``on_drain`` takes readiness off and sends viewers away; whatever it does, after ``drain_timeout_s`` the server goes
    on to its end, where ordinary requests have one more second.
    """

    def __init__(
        self,
        app: Any,
        *,
        listener: socket.socket,
        on_drain: Callable[[], Awaitable[None]],
        drain_timeout_s: float,
    ) -> None:
        super().__init__(
            uvicorn.Config(
                _TearsWhatIsCancelled(app),
                loop="uvloop",
                http=FrontEndProtocol,
                ws="none",
                lifespan="on",
                access_log=False,
                log_config=None,
                proxy_headers=False,
                server_header=False,
                backlog=BACKLOG,
                timeout_keep_alive=KEEP_ALIVE_S,
                timeout_graceful_shutdown=LAST_RESORT_S,
            )
        )
        self._listener = listener
        self._on_drain = on_drain
        self._drain_timeout_s = drain_timeout_s
        self._is_serving = asyncio.Event()
        self._is_stopping = asyncio.Event()
        self._was_asked = False
        self._drain: asyncio.Future[None] | None = None

    @property
    def port(self) -> int:
        """The port it listens on."""
        return int(self._listener.getsockname()[1])

    async def until_started(self) -> None:
        """Until requests are served. Wait for ``serve()`` beside it: a start that fails is told there."""
        await self._is_serving.wait()

    def request_stop(self) -> None:
        """Drain and end, as the first signal does; asked again: end at once."""
        if self._was_asked:
            self.request_end()
        else:
            self._was_asked = True
            self.request_drain()

    def request_drain(self) -> None:
        """Drain and end. Asked again, and before or after a signal: the same."""
        self._is_stopping.set()

    def request_end(self) -> None:
        """End at once, without a drain or in the midst of it."""
        self._is_stopping.set()
        self.should_exit = self.force_exit = True
        if self._drain is not None:
            self._drain.cancel()
        for connection in tuple(self.server_state.connections):
            if isinstance(connection, FrontEndProtocol):
                connection.handle.abort()
            elif isinstance(connection, SocketDriver):
                connection.abort()

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        """Serve until the end, which closes the listening socket."""
        try:
            await super().serve(sockets or [self._listener])
        finally:
            self._listener.close()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start the app and listen. Raises SystemExit when the app cannot start."""
        await super().startup(sockets=sockets)
        if self.should_exit:  # how older versions of uvicorn say it
            sys.exit(STARTUP_FAILURE)
        self._is_serving.set()

    async def main_loop(self) -> None:
        """Keep the Date header; at the end, drain."""
        while not await self.on_tick(0) and not self._is_stopping.is_set():
            try:
                async with asyncio.timeout(DATE_TICK_S):
                    await self._is_stopping.wait()
            except TimeoutError:
                continue
        if not self.force_exit:
            await self._run_drain()

    @contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """Take the signals while serving. Unlike uvicorn's own, a clean end by signal is an end with status 0."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        loop = asyncio.get_running_loop()
        for each in _SIGNALS:
            loop.add_signal_handler(each, self.request_stop)
        try:
            yield
        finally:
            for each in _SIGNALS:
                loop.remove_signal_handler(each)

    async def _run_drain(self) -> None:
        self._drain = asyncio.ensure_future(self._on_drain())
        done, _ = await asyncio.wait({self._drain}, timeout=self._drain_timeout_s)
        if not done:
            log.error("the drain took longer than %s s", self._drain_timeout_s)
            self._drain.cancel()
        elif not self._drain.cancelled() and self._drain.exception() is not None:
            log.error("the drain failed", exc_info=self._drain.exception())
