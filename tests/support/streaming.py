"""A front-end of one route over a hub, on our runner or on a stock server, and viewers on bare sockets."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractContextManager, asynccontextmanager, nullcontext
from dataclasses import dataclass, field

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from broadcaster.core.cursor import Cursor
from broadcaster.dialects import NATIVE, Dialect
from broadcaster.errors import Busy
from broadcaster.hub.hub import Hub
from broadcaster.hub.replay.resolve import Finished
from broadcaster.web.documents.problems import GENERATION_ID_HEADER
from broadcaster.web.server.connections import ConnectionLimits
from broadcaster.web.server.listener import open_listener
from broadcaster.web.server.runner import FrontEndServer
from broadcaster.web.viewing.sse import EventStreamResponse
from tests.support.witness import Witness

DEADLINE_S = 20.0


def stream_app(hub: Hub, *, dialect: Dialect = NATIVE) -> Starlette:
    """``/{id}`` streams; the id is also in the header."""

    async def stream(request: Request) -> Response:
        given = request.headers.get("last-event-id")
        cursor = Cursor.parse(given) if given else None
        stream_id = request.path_params["id"]
        try:
            viewer = await hub.join(stream_id, cursor=cursor, timeout_s=DEADLINE_S, dialect=dialect)
        except Busy as error:
            return EventStreamResponse(hub.refuse(error, dialect=dialect), headers={GENERATION_ID_HEADER: stream_id})
        if isinstance(viewer, Finished):
            return Response(status_code=204)
        return EventStreamResponse(viewer, headers={GENERATION_ID_HEADER: stream_id})

    return Starlette(routes=[Route("/{id}", stream, methods=["GET", "POST"])])


@asynccontextmanager
async def on_our_runner(
    app: object,
    *,
    on_drain: Callable[[], Awaitable[None]],
    drain_timeout_s: float = 1.0,
    limits: ConnectionLimits | None = None,
    refusal_headers: Mapping[str, str] | None = None,
) -> AsyncIterator[int]:
    """The app on ``FrontEndServer``; gives the port."""
    server = FrontEndServer(
        app,
        listener=open_listener("127.0.0.1", 0),
        on_drain=on_drain,
        drain_timeout_s=drain_timeout_s,
        limits=limits,
        refusal_headers=refusal_headers,
    )
    serving = asyncio.create_task(server.serve())
    try:
        await server.until_started()
        yield server.port
    finally:
        server.request_stop()
        await serving


@asynccontextmanager
async def on_stock_uvicorn(
    app: object, *, on_drain: Callable[[], Awaitable[None]], root_path: str = ""
) -> AsyncIterator[int]:
    """The app on uvicorn as it comes; the drain is called by hand, as an embedding app would."""
    listener = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(
        app,  # type: ignore[arg-type]
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=1,
        root_path=root_path,
    )
    server = _StockServer(config)
    serving = asyncio.create_task(server.serve([listener]))
    try:
        async with asyncio.timeout(DEADLINE_S):
            while not server.started:
                await asyncio.sleep(0.01)
        yield listener.getsockname()[1]
    finally:
        await on_drain()
        server.should_exit = True
        await serving


class _StockServer(uvicorn.Server):
    """As it comes, but the test's process keeps its signals."""

    def capture_signals(self) -> AbstractContextManager[None]:  # type: ignore[override]
        return nullcontext()


@dataclass
class RawViewer:
    """One HTTP/1.1 connection, read by hand; what it brought goes to the witness."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    status: int
    headers: dict[str, str]
    witness: Witness
    ended_cleanly: bool | None = None  # None: not ended
    raw: bytearray = field(default_factory=bytearray)

    async def read_chunk(self) -> bool:
        """Take the next chunk; False when the response is over, however it ended."""
        try:
            size = int(await self.reader.readuntil(b"\r\n"), 16)
            chunk = (await self.reader.readexactly(size + 2))[:-2]
        except (asyncio.IncompleteReadError, ConnectionError):
            self.ended_cleanly = False
            return False
        self.raw += chunk
        self.witness.feed(chunk)
        if not size:
            self.ended_cleanly = True
        return bool(size)

    async def until(self, condition: Callable[[], bool]) -> None:
        """Read until the condition holds."""
        async with asyncio.timeout(DEADLINE_S):
            while not condition():
                assert await self.read_chunk(), "the response ended first"

    async def until_seq(self, seq: int) -> None:
        await self.until(lambda: self.witness.last_seq >= seq)

    async def until_live(self) -> None:
        await self.until(lambda: "hub.live" in self.witness.names)

    async def until_over(self) -> None:
        async with asyncio.timeout(DEADLINE_S):
            while await self.read_chunk():
                pass

    def close(self) -> None:
        self.writer.transport.abort()


async def open_viewer(
    port: int, stream_id: str = "g", *, after: str | None = None, receive_bytes: int | None = None, method: str = "GET"
) -> RawViewer:
    """Connect and read the head. With ``receive_bytes`` the kernel buffers hardly more than that unread."""
    connection = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    if receive_bytes is not None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
    connection.setblocking(False)
    await asyncio.get_running_loop().sock_connect(connection, ("127.0.0.1", port))
    limit = 2**16 if receive_bytes is None else receive_bytes
    reader, writer = await asyncio.open_connection(sock=connection, limit=limit)
    resume = "" if after is None else f"Last-Event-ID: {after}\r\n"
    body = "Content-Length: 2\r\n\r\n{}" if method == "POST" else "\r\n"
    writer.write(f"{method} /{stream_id} HTTP/1.1\r\nHost: x\r\n{resume}{body}".encode())
    async with asyncio.timeout(DEADLINE_S):
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:] if line)}
    witness = Witness() if after is None else Witness(after=Cursor.parse(after))
    return RawViewer(reader, writer, int(head[0].split()[1]), headers, witness)
