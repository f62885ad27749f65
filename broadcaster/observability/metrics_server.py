"""The server of ``/metrics``: a port of its own, on the process's event loop.

Rules
1. It serves GET and HEAD of ``/metrics``, one request a connection, and nothing else: no body is read.
2. A connection beyond the bound is closed at once. Head and response have one deadline each.
3. One scrape at a time makes its text; the others wait for it within their deadline.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Final, TypeAlias

import h11

from broadcaster.errors import SetupError
from broadcaster.observability.limits import limit_reached
from broadcaster.observability.logs import get_logger
from broadcaster.observability.metrics_address import MetricsAddress

PATH: Final = b"/metrics"
_HEAD_BYTES: Final = 16 * 2**10
_READ_BYTES: Final = 4096
_BACKLOG: Final = 16
_PLAIN: Final = "text/plain; charset=utf-8"

_log = get_logger(__name__)

Expose: TypeAlias = Callable[[str], Awaitable[tuple[bytes, str]]]
"""Makes the text for an ``Accept`` header; returns it with its content type."""


class MetricsServer:
    """See the module's rules."""

    def __init__(self, expose: Expose, address: MetricsAddress) -> None:
        self._expose = expose
        self._address = address
        self._open: set[asyncio.StreamWriter] = set()
        self._turn = asyncio.Lock()

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[int]:
        """Serve while the block runs; gives the port. Raises SetupError when it is taken."""
        address = self._address
        try:
            server = await asyncio.start_server(
                self._serve, address.host, address.port, limit=_HEAD_BYTES, backlog=_BACKLOG
            )
        except OSError as error:
            raise SetupError(
                f"cannot serve metrics on {address.host}:{address.port} ({error.strerror or error}); "
                "choose another BROADCASTER_METRICS_PORT"
            ) from None
        port = int(server.sockets[0].getsockname()[1])
        _log.info("metrics_served", host=address.host, port=port)
        try:
            yield port
        finally:
            server.close()
            for writer in tuple(self._open):
                writer.transport.abort()
            await asyncio.sleep(0)  # they end by themselves: a task that is cancelled here would be logged as an error

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(writer)
        try:
            if len(self._open) > self._address.max_connections:
                limit_reached("METRICS_CONNECTIONS")
            else:
                await self._respond(reader, writer)
        except (TimeoutError, OSError, h11.ProtocolError):
            pass
        except Exception:
            _log.exception("metrics_failed")
        finally:
            self._open.discard(writer)
            writer.transport.abort() if writer.transport.get_write_buffer_size() else writer.close()

    async def _respond(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = h11.Connection(h11.SERVER, max_incomplete_event_size=_HEAD_BYTES)
        async with asyncio.timeout(self._address.timeout_s):
            request = await _read_head(connection, reader)
        if request is None:
            return
        async with asyncio.timeout(self._address.timeout_s):
            status, body, headers = await self._answer(request)
            fields = [*headers, ("content-length", str(len(body))), ("connection", "close")]
            parts = [connection.send(h11.Response(status_code=status, headers=fields))]
            if request.method != b"HEAD":
                parts.append(connection.send(h11.Data(data=body)))
            writer.transport.set_write_buffer_limits(high=0)
            writer.write(b"".join(part for part in parts if part))
            await writer.drain()

    async def _answer(self, request: h11.Request) -> tuple[int, bytes, list[tuple[str, str]]]:
        if bytes(request.target).partition(b"?")[0] != PATH:
            return 404, b"metrics are at /metrics\n", [("content-type", _PLAIN)]
        if request.method not in (b"GET", b"HEAD"):
            return 405, b"use GET\n", [("content-type", _PLAIN), ("allow", "GET, HEAD")]
        accept = b",".join(value for name, value in request.headers if name == b"accept")
        async with self._turn:
            body, content_type = await self._expose(accept.decode("latin-1"))
        return 200, body, [("content-type", content_type), ("cache-control", "no-store")]


async def _read_head(connection: h11.Connection, reader: asyncio.StreamReader) -> h11.Request | None:
    """The request's head; None: the client has closed the connection. Raises h11.RemoteProtocolError."""
    while True:
        event = connection.next_event()
        if isinstance(event, h11.Request):
            return event
        if event is not h11.NEED_DATA:
            return None
        connection.receive_data(await reader.read(_READ_BYTES))
