"""The HTTP/1.1 of the scripted provider: a connection as an ``asyncio.Protocol``, an exchange on it, its record.

h11 parses the requests. Responses are written by hand, because scripts must be able to break them anywhere. A protocol
and not asyncio's streams: the server must notice a client's close at once, also while it writes an answer or waits at a
gate, and the loop calls a protocol in the turn in which the socket became readable.

Rules
1. Connections are kept alive; requests on one are answered in their order.
2. Answers have chunked bodies. The head is sent with the first piece, or alone when a script says so.
3. A close that the client began before its answer was over is a disconnect, and its time is recorded. A close by the
   server (cut, reset, end of the server) is not a disconnect.
"""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Final, TypeAlias, cast

import h11

from broadcaster.process.thread_event import ThreadEvent

MAX_HEAD_BYTES: Final = 64 * 2**10
MAX_BODY_BYTES: Final = 64 * 2**20
DEFAULT_TIMEOUT_S: Final = 5.0

# With this much announced and never sent, every client knows that the body was cut.
_CUT_CHUNK: Final = b"400\r\ndata: {"
_LINGER_ZERO: Final = struct.pack("ii", 1, 0)


class ClientGone(ConnectionError):
    """The client closed before its answer was over."""


@dataclass(eq=False)
class RecordedRequest:
    """One request as it came; times are those of the event loop's clock, in seconds.

    ``body`` is the parsed JSON, or None if it is not JSON; header names are in lower case; ``connection`` counts the
    connections from 1. ``disconnected_at`` is None unless the client left before the end.
    """

    method: str
    path: str
    headers: Mapping[str, str]
    raw_body: bytes
    body: Any
    connection: int
    started_at: float
    ended_at: float | None = None
    disconnected_at: float | None = None
    _gone: ThreadEvent = field(default_factory=ThreadEvent, repr=False)

    async def wait_disconnected(self, timeout_s: float = DEFAULT_TIMEOUT_S) -> float:
        """The time of the client's close. Raises TimeoutError if it stays."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._gone.wait()
        except TimeoutError:
            raise TimeoutError(f"{self.method} {self.path}: the client had not closed after {timeout_s} s") from None
        assert self.disconnected_at is not None
        return self.disconnected_at

    def mark_disconnected(self, at: float) -> None:
        """The client left at this time."""
        if self.disconnected_at is None and self.ended_at is None:
            self.disconnected_at = at
            self._gone.set()


class HttpExchange:
    """One request and the answer being written to it; ``headers`` go with every answer.

    Everything that writes raises ClientGone once the client has left.
    """

    content_type = "text/event-stream; charset=utf-8"

    def __init__(self, connection: ScriptedConnection, request: RecordedRequest, *, headers: Mapping[str, str]) -> None:
        self.request = request
        self.is_head_sent = False
        self._connection = connection
        self._headers = headers

    @property
    def is_over(self) -> bool:
        """Whether the answer has come to an end, a good or a bad one."""
        return self.request.ended_at is not None

    def check_open(self) -> None:
        """Raises RuntimeError when the answer is over, ClientGone when the client has left."""
        if self.is_over:
            raise RuntimeError("the answer is over")
        self._connection.check_client()

    async def send_head(self, headers: Mapping[str, str] | None = None) -> None:
        """Status 200 and the headers of a chunked body, before any of its bytes."""
        head = {"content-type": self.content_type, "cache-control": "no-cache"}
        head |= {"transfer-encoding": "chunked", **self._headers, **(headers or {})}
        self.is_head_sent = True
        await self._write(_head_bytes(200, head))

    async def send(self, data: bytes) -> None:
        """The next bytes of the body, as one chunk and one write."""
        if not self.is_head_sent:
            await self.send_head()
        if data:
            await self._write(b"%x\r\n%b\r\n" % (len(data), data))

    async def finish(self) -> None:
        """End the chunked body properly, after any content."""
        if not self.is_head_sent:
            await self.send_head()
        await self._write(b"0\r\n\r\n")
        self._end()

    async def answer(self, status: int, body: bytes, headers: Mapping[str, str] | None = None) -> None:
        """A whole answer with a JSON body, in place of a stream."""
        head = {"content-type": "application/json", "content-length": str(len(body)), **self._headers}
        await self._write(_head_bytes(status, head | dict(headers or {})) + body)
        self._end()

    def cut(self) -> None:
        """Close in the middle of a chunk; before the head, close without an answer."""
        self._connection.check_client()
        if self.is_head_sent and not self.is_over:
            self._connection.transport.write(_CUT_CHUNK)
        self._end()
        self._connection.transport.close()

    def reset(self) -> None:
        """Close with a TCP RST; what the client has not read yet may be lost with it."""
        self._connection.check_client()
        self._end()
        raw = self._connection.transport.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_ZERO)
        self._connection.transport.abort()

    async def wait_gone(self) -> None:
        """Send nothing until the client leaves."""
        await self._connection.lost.wait()
        raise ClientGone("the client closed")

    async def _write(self, data: bytes) -> None:
        self.check_open()
        self._connection.transport.write(data)
        await self._connection.writable.wait()
        self._connection.check_client()

    def _end(self) -> None:
        self.request.ended_at = asyncio.get_running_loop().time()


Answering: TypeAlias = Callable[["ScriptedConnection", RecordedRequest], Awaitable[None]]


class ScriptedConnection(asyncio.Protocol):
    """One client connection: bytes in → requests, one at a time → ``on_request`` answers each."""

    transport: asyncio.Transport

    def __init__(self, number: int, *, on_request: Answering, on_lost: Callable[[ScriptedConnection], None]) -> None:
        self.lost = asyncio.Event()
        self.writable = asyncio.Event()
        self.writable.set()
        self._number = number
        self._on_request = on_request
        self._on_lost = on_lost
        self._parser = _create_parser()
        self._head: h11.Request | None = None
        self._body = bytearray()
        self._request: RecordedRequest | None = None
        self._loop = asyncio.get_running_loop()
        self._answering: asyncio.Task[None] | None = None

    def check_client(self) -> None:
        """Raises ClientGone if the connection has ended."""
        if self.lost.is_set():
            raise ClientGone("the client closed")

    async def aclose(self) -> None:
        """End the connection and the answer that is being written on it."""
        if self._request is not None and self._request.ended_at is None:
            self._request.ended_at = self._loop.time()
        self.transport.abort()
        if self._answering is not None:
            self._answering.cancel()
            await asyncio.wait([self._answering])

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """Parse; a whole request is answered, and bytes that follow it stay in the parser until then."""
        try:
            self._parser.receive_data(data)
            while isinstance(event := self._parser.next_event(), h11.Event):
                self._apply(event)
        except h11.RemoteProtocolError:
            self.transport.abort()

    def eof_received(self) -> bool:
        self._note_loss()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._note_loss()
        self.writable.set()
        if self._answering is not None:
            self._answering.cancel()
        self._on_lost(self)

    def pause_writing(self) -> None:
        self.writable.clear()

    def resume_writing(self) -> None:
        self.writable.set()

    def _note_loss(self) -> None:
        if self._request is not None:
            self._request.mark_disconnected(self._loop.time())
        self.lost.set()

    def _apply(self, event: h11.Event) -> None:
        match event:
            case h11.Request():
                self._head, self._body = event, bytearray()
            case h11.Data(data=data):
                self._body += data
                if len(self._body) > MAX_BODY_BYTES:
                    raise h11.RemoteProtocolError("the body is too large")
            case h11.EndOfMessage() if self._head is not None:
                self._request = self._record(self._head, bytes(self._body))
                self._answering = self._loop.create_task(self._answer(self._request))

    async def _answer(self, request: RecordedRequest) -> None:
        try:
            await self._on_request(self, request)
        except ClientGone:
            return
        # h11 has not seen the response, which scripts may break: its parser serves one request.
        following, _ = self._parser.trailing_data
        self._parser = _create_parser()
        if following:
            self.data_received(following)

    def _record(self, head: h11.Request, raw_body: bytes) -> RecordedRequest:
        return RecordedRequest(
            method=head.method.decode(),
            path=head.target.decode("latin-1"),
            headers={name.decode(): value.decode("latin-1") for name, value in head.headers},
            raw_body=raw_body,
            body=parse_json(raw_body),
            connection=self._number,
            started_at=self._loop.time(),
        )


def _create_parser() -> h11.Connection:
    return h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEAD_BYTES)


def parse_json(raw: bytes | str) -> Any:
    """The value; None if it is not JSON."""
    try:
        return json.loads(raw)
    except ValueError:
        return None


def _head_bytes(status: int, headers: Mapping[str, str]) -> bytes:
    phrases = {known.value: known.phrase for known in HTTPStatus}
    lines = [f"HTTP/1.1 {status} {phrases.get(status, 'Overloaded')}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")
