"""The HTTP/1.1 of the scripted provider: a connection as an ``asyncio.Protocol``, an exchange on it, its record.

Why not asyncio's streams: the moment a client closes must be known at once, also while an answer is being written or
waits at a gate; a protocol is called back in the very loop turn in which the socket became readable.

Rules
1. Connections are kept alive; requests on one are answered in their order.
2. Answers have chunked bodies; the head goes out with the first piece, or alone when a script says so.
3. A close that the client began while its answer was not over is a disconnect, and has a time. A close that we began
   (cut, reset, end of the server) is not.
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

MAX_HEAD_BYTES: Final = 64 * 2**10
MAX_BODY_BYTES: Final = 64 * 2**20
DEFAULT_TIMEOUT_S: Final = 5.0

_HEAD_END: Final = b"\r\n\r\n"
# With this much announced and never sent, every client knows that the body was cut.
_CUT_CHUNK: Final = b"400\r\ndata: {"
_LINGER_ZERO: Final = struct.pack("ii", 1, 0)


class ClientGone(ConnectionError):
    """The client closed before its answer was over."""


@dataclass(eq=False)
class RecordedRequest:
    """One request as it came; times are those of the event loop's clock, in seconds.

    ``body`` is the parsed JSON, or None when the body is none; header names are in lower case; ``connection`` counts
    the connections from 1. ``disconnected_at`` is None unless the client left before the end.
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
    _gone: asyncio.Event = field(default_factory=asyncio.Event, repr=False)

    async def wait_disconnected(self, timeout_s: float = DEFAULT_TIMEOUT_S) -> float:
        """When the client's close was seen. Raises TimeoutError when it stays."""
        try:
            await asyncio.wait_for(self._gone.wait(), timeout_s)
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

    def __init__(self, connection: Connection, request: RecordedRequest, *, headers: Mapping[str, str]) -> None:
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
        """The proper end of the chunked body, whatever was sent in it."""
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
        """Say nothing until the client leaves."""
        await self._connection.lost.wait()
        raise ClientGone("the client closed")

    async def _write(self, data: bytes) -> None:
        self.check_open()
        self._connection.transport.write(data)
        await self._connection.writable.wait()
        self._connection.check_client()

    def _end(self) -> None:
        self.request.ended_at = asyncio.get_running_loop().time()


Answering: TypeAlias = Callable[["Connection", RecordedRequest], Awaitable[None]]


class Connection(asyncio.Protocol):
    """One client connection: bytes in → requests in order → ``on_request`` answers each."""

    transport: asyncio.Transport

    def __init__(self, number: int, *, on_request: Answering, on_lost: Callable[[Connection], None]) -> None:
        self.lost = asyncio.Event()
        self.writable = asyncio.Event()
        self.writable.set()
        self._number = number
        self._on_request = on_request
        self._on_lost = on_lost
        self._buffer = b""
        self._head: _Head | None = None
        self._requests: asyncio.Queue[RecordedRequest] = asyncio.Queue()
        self._answered: RecordedRequest | None = None
        self._loop = asyncio.get_running_loop()
        self._serving: asyncio.Task[None] | None = None

    def check_client(self) -> None:
        """Raises ClientGone when the connection is no more."""
        if self.lost.is_set():
            raise ClientGone("the client closed")

    async def aclose(self) -> None:
        """End the connection and whatever is being answered on it."""
        if self._answered is not None and self._answered.ended_at is None:
            self._answered.ended_at = self._loop.time()
        self.transport.abort()
        if self._serving is not None:
            self._serving.cancel()
            await asyncio.wait([self._serving])

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self._serving = self._loop.create_task(self._serve())

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while (request := self._next_request()) is not None:
            self._requests.put_nowait(request)

    def eof_received(self) -> bool:
        self._see_client_leave()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._see_client_leave()
        self.writable.set()
        if self._serving is not None:
            self._serving.cancel()
        self._on_lost(self)

    def pause_writing(self) -> None:
        self.writable.clear()

    def resume_writing(self) -> None:
        self.writable.set()

    def _see_client_leave(self) -> None:
        if self._answered is not None:
            self._answered.mark_disconnected(self._loop.time())
        self.lost.set()

    async def _serve(self) -> None:
        while True:
            self._answered = await self._requests.get()
            try:
                await self._on_request(self, self._answered)
            except ClientGone:
                return

    def _next_request(self) -> RecordedRequest | None:
        if self._head is None:
            end = self._buffer.find(_HEAD_END)
            if end < 0:
                if len(self._buffer) > MAX_HEAD_BYTES:
                    self.transport.abort()
                return None
            self._head = _parse_head(self._buffer[:end])
            self._buffer = self._buffer[end + len(_HEAD_END) :]
        if self._head is None or self._head.body_bytes > MAX_BODY_BYTES:
            self.transport.abort()
            return None
        if len(self._buffer) < self._head.body_bytes:
            return None
        head, self._head = self._head, None
        raw_body, self._buffer = self._buffer[: head.body_bytes], self._buffer[head.body_bytes :]
        return RecordedRequest(
            method=head.method,
            path=head.path,
            headers=head.headers,
            raw_body=raw_body,
            body=_parse_json(raw_body),
            connection=self._number,
            started_at=self._loop.time(),
        )


@dataclass(frozen=True)
class _Head:
    method: str
    path: str
    headers: Mapping[str, str]
    body_bytes: int


def _parse_head(raw: bytes) -> _Head | None:
    """Request line and headers; None when they are not HTTP/1.1 or the body has no length."""
    first, *lines = raw.decode("latin-1").split("\r\n")
    words = first.split(" ")
    if len(words) != 3 or not words[2].startswith("HTTP/1."):
        return None
    pairs = (line.partition(":") for line in lines)
    headers = {name.strip().lower(): value.strip() for name, _, value in pairs}
    length = headers.get("content-length", "0")
    if "transfer-encoding" in headers or not length.isdecimal():
        return None
    return _Head(words[0], words[1], headers, int(length))


def _parse_json(raw: bytes) -> Any:
    try:
        return json.loads(raw)
    except ValueError:
        return None


def _head_bytes(status: int, headers: Mapping[str, str]) -> bytes:
    phrases = {known.value: known.phrase for known in HTTPStatus}
    lines = [f"HTTP/1.1 {status} {phrases.get(status, 'Overloaded')}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")
