"""Our runner: uvicorn's server and HTTP protocol, with what long responses need of them.

1. The server owns SIGINT and SIGTERM. The first closes the port and runs ``on_drain`` (viewers disconnected), then
   ends; the second ends at once. A proxy does not know that a front-end drains: it would go on sending calls, which are
   refused. A connection that is refused carried no call, so the proxy sends it to another front-end.
2. It serves a socket that is bound already: its port is known before anything is served.
3. Each connection is a ``FrontEndProtocol`` (http_protocol.py). Where the app can admit viewers directly, that is the
   protocol of all but plain viewers' (first_request.py).
4. Half-dead peers are found by the kernel: a heartbeat of a few bytes disappears into its buffer and never fails.
5. Requests arrive in time, and connections are bounded (connections.py).
6. WebSockets are served where the package of the extra is installed; else a stream's are refused like all others (426).
7. A request that is cancelled at the server's end gets no response, and its connection is aborted: uvicorn's 500 would
   end an EventSource for good, which reconnects after a lost connection.
"""

from __future__ import annotations

import asyncio
import signal
import socket
import sys
import threading
from collections.abc import Awaitable, Callable, Generator, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from importlib.util import find_spec
from typing import Any, Final

import structlog  # noqa: F401 - a server that is out of descriptors could not import it for its first line
import uvicorn

from broadcaster.observability.counting import Reading, Source
from broadcaster.observability.limits import limit_reached
from broadcaster.observability.logs import get_logger
from broadcaster.web.guards.refusal_log import RefusalLog
from broadcaster.web.server.connections import Abortable, Arrivals, ConnectionLimits
from broadcaster.web.server.first_request import FirstRequestProtocol
from broadcaster.web.server.http_protocol import FrontEndProtocol, FrontEndState
from broadcaster.web.viewing.client_connection import TRANSPORT_EXTENSION, ClientConnection
from broadcaster.web.viewing.direct import DirectViewers

BACKLOG: Final = 2048
# The time of ordinary requests after the drain, before they are cancelled.
LAST_RESORT_S: Final = 1
# An idle connection stays open for longer than proxies keep theirs (ingress-nginx and AWS's balancers 60 s): the proxy
# must be the first to close, or it writes a POST to a connection that ends at that moment, and must return 502. It
# costs a file descriptor and some kilobytes.
KEEP_ALIVE_S: Final = 75
# The exit status of uvicorn when the app cannot start.
STARTUP_FAILURE: Final = 3

_WEBSOCKETS: Final = "broadcaster.web.server.websocket_protocol:ViewerSocket"
# Messages of a client have no use; a larger one is refused before it is read.
MAX_INCOMING_BYTES: Final = 1024

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)

_log = get_logger(__name__)


class _OnItsConnection:
    """An ASGI app: requests send through their connection, and get no response if the server cancels them (rule 7)."""

    def __init__(self, app: Any) -> None:
        self._app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        connection: ClientConnection = scope["extensions"][TRANSPORT_EXTENSION]
        if scope["type"] == "http":
            send = partial(connection.send, send)
        try:
            await self._app(scope, receive, send)
        except asyncio.CancelledError:
            connection.abort()
            # Without a response, the server must know that the connection is lost.
            await asyncio.shield(connection.lost)


class FrontEndServer(uvicorn.Server):
    """Serves one app on one bound socket until a signal or ``request_stop``.

    ``on_drain`` disconnects viewers, when the port is closed. After ``drain_timeout_s`` at most, the server ends, and
    ordinary requests have one more second. ``refusal_headers`` are added to refusals before the app sees a request,
    and ``refusals`` logs them. ``direct`` admits viewers without the app (viewing/direct.py).
    """

    server_state: FrontEndState

    def __init__(
        self,
        app: Any,
        *,
        listener: socket.socket,
        on_drain: Callable[[], Awaitable[None]],
        drain_timeout_s: float,
        limits: ConnectionLimits | None = None,
        refusal_headers: Mapping[str, str] | None = None,
        refusals: RefusalLog | None = None,
        source: Source = tuple,
        direct: DirectViewers | None = None,
    ) -> None:
        limits = limits or ConnectionLimits()
        super().__init__(
            uvicorn.Config(
                _OnItsConnection(app),
                loop="uvloop",
                http=FrontEndProtocol if direct is None else FirstRequestProtocol,
                ws=_WEBSOCKETS if find_spec("websockets") else "none",
                ws_max_size=MAX_INCOMING_BYTES,
                ws_ping_interval=limits.ping_s,
                ws_ping_timeout=limits.pong_s,
                ws_per_message_deflate=False,  # its window costs each connection more than all the rest
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
        self._limits = limits
        self._arrivals = Arrivals(self._limits)
        self.server_state = FrontEndState(
            self._arrivals,
            refusal_headers=refusal_headers or {},
            refusals=refusals or RefusalLog(),
            direct=direct,
        )
        self._source = source
        self._listener = listener
        self._on_drain = on_drain
        self._drain_timeout_s = drain_timeout_s
        self._is_serving = asyncio.Event()
        self._is_stopping = asyncio.Event()
        self._is_stop_requested = False
        self._drain: asyncio.Future[None] | None = None

    @property
    def port(self) -> int:
        """The port it listens on."""
        return int(self._listener.getsockname()[1])

    def readings(self) -> Iterator[Reading]:
        """The metrics of the server and of its app (``source``)."""
        yield Reading("broadcaster_connections", len(self.server_state.connections))
        yield from self._source()

    async def until_started(self) -> None:
        """Until requests are served. Wait for ``serve()`` beside it: it raises when the start fails."""
        await self._is_serving.wait()

    def request_stop(self) -> None:
        """Drain and end, as the first signal does; a second call ends at once."""
        if self._is_stop_requested:
            self.request_end()
        else:
            self._is_stop_requested = True
            self.request_drain()

    def request_drain(self) -> None:
        """Drain and end. Further calls, and calls before or after a signal, change nothing."""
        self._is_stopping.set()

    def request_end(self) -> None:
        """End at once, without a drain or in the midst of it."""
        self._is_stopping.set()
        self.should_exit = self.force_exit = True
        if self._drain is not None:
            self._drain.cancel()
        for connection in tuple(self.server_state.connections):
            if isinstance(connection, Abortable):
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
        if self.should_exit:  # older versions of uvicorn report it so
            sys.exit(STARTUP_FAILURE)
        self._is_serving.set()

    async def main_loop(self) -> None:
        """Keep the Date header and the limits of requests that arrive; at the end, drain."""
        while not await self.on_tick(0) and not self._is_stopping.is_set():
            try:
                async with asyncio.timeout(self._limits.sweep_s):
                    await self._is_stopping.wait()
            except TimeoutError:
                self._arrivals.sweep(self._listener.fileno())
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
        self._drain = asyncio.ensure_future(self._leave())
        done, _ = await asyncio.wait({self._drain}, timeout=self._drain_timeout_s)
        if not done:
            limit_reached("DRAIN_WINDOW_S")
            _log.error("drain_timed_out", timeout_s=self._drain_timeout_s)
            self._drain.cancel()
        elif not self._drain.cancelled() and self._drain.exception() is not None:
            _log.error("drain_failed", exc_info=self._drain.exception())

    async def _leave(self) -> None:
        await self._close_port()
        await self._on_drain()

    async def _close_port(self) -> None:
        """Accept no more connections, and let each one end between two requests.

        The kernel would reset those that wait to be accepted, and a proxy does not repeat a POST that it has sent.
        """
        self.server_state.is_draining = True
        waiting = _accept_all(self._listener)
        for server in self.servers:
            server.close()
        create: Callable[..., Any] = self.config.http_protocol_class
        accept = partial(create, config=self.config, server_state=self.server_state, app_state=self.lifespan.state)
        for each in waiting:
            await asyncio.get_running_loop().connect_accepted_socket(accept, each)
        await asyncio.sleep(0)  # a request that has arrived is read before its connection is closed as idle
        for connection in tuple(self.server_state.connections):
            if isinstance(connection, FrontEndProtocol):
                connection.drain()


def _accept_all(listener: socket.socket) -> list[socket.socket]:
    """The connections that wait for ``accept``; when no descriptor is left, a part of them."""
    accepted: list[socket.socket] = []
    with suppress(OSError):
        while len(accepted) < BACKLOG:
            accepted.append(listener.accept()[0])
            accepted[-1].setblocking(False)
    return accepted
