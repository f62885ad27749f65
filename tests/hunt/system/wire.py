"""HTTP/1.1 and server-sent events as raw sockets give them: nothing is repaired, and a cut is not an end.

Each call has a connection of its own. A response whose body stops before its own end raises ``Broken``.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

READ_BYTES: Final = 65536
CONNECT_S: Final = 3.0
LIMIT_BYTES: Final = 2**22


class Broken(Exception):
    """The connection was refused, cut or hung: the same call may be retried."""


@dataclass(frozen=True)
class Reply:
    """A whole response."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)

    @property
    def code(self) -> str:
        """The stable code of a problem, in whatever shape; empty: there is none."""
        try:
            body = self.json
        except ValueError:
            return ""
        found = body.get("code") if isinstance(body, dict) else None
        error = body.get("error") if isinstance(body, dict) else None
        return str(found or (error.get("code") if isinstance(error, dict) else "") or "")


@dataclass(frozen=True)
class Block:
    """One block of an event stream. ``is_comment``: it held nothing but comments."""

    event: str
    data: str
    id: str | None
    is_comment: bool


class Opened:
    """A response whose body is still coming."""

    def __init__(self, status: int, headers: Mapping[str, str], reader: asyncio.StreamReader) -> None:
        self.status = status
        self.headers = headers
        self._reader = reader

    async def pieces(self) -> AsyncIterator[bytes]:
        """The body as it comes. Raises Broken where it ends too early."""
        if self.headers.get("transfer-encoding", "").lower() == "chunked":
            async for piece in self._chunks():
                yield piece
            return
        left = int(self.headers.get("content-length", "-1"))
        while left:
            piece = await _read(self._reader, READ_BYTES if left < 0 else min(left, READ_BYTES))
            if not piece:
                if left > 0:
                    raise Broken("the body is short")
                return
            left -= len(piece) if left > 0 else 0
            yield piece

    async def _chunks(self) -> AsyncIterator[bytes]:
        while True:
            line = await _line(self._reader)
            size = int(line.split(b";")[0], 16)
            try:
                piece = await self._reader.readexactly(size + 2)
            except (asyncio.IncompleteReadError, OSError) as error:
                raise Broken("cut within a chunk") from error
            if not size:
                return
            yield piece[:-2]

    async def blocks(self) -> AsyncIterator[Block]:
        """The body as event stream. Raises ValueError for bytes that no event stream of ours may hold."""
        held = b""
        async for piece in self.pieces():
            held += piece
            *whole, held = held.split(b"\n\n")
            for raw in whole:
                yield parse_block(raw)
        if held.strip():
            raise Broken(f"the stream ended within a block: {held[-200:]!r}")

    async def whole(self) -> Reply:
        """All of it."""
        return Reply(self.status, self.headers, b"".join([piece async for piece in self.pieces()]))


def parse_block(raw: bytes) -> Block:
    """One block; raises ValueError for a CR, or a line without a known field."""
    if b"\r" in raw:
        raise ValueError(f"a CR in the event stream: {raw[:200]!r}")
    fields: dict[str, list[str]] = {}
    for line in raw.decode("utf-8").split("\n"):
        name, _, value = line.partition(":")
        if name and name not in ("event", "data", "id", "retry"):
            raise ValueError(f"no field of an event stream: {line[:200]!r}")
        fields.setdefault(name, []).append(value.removeprefix(" "))
    return Block(
        fields.get("event", [""])[-1],
        "\n".join(fields.get("data", [])),
        fields["id"][-1] if "id" in fields else None,
        is_comment="data" not in fields,
    )


@asynccontextmanager
async def open_request(
    url: str, method: str, path: str, *, body: Any = None, headers: Mapping[str, str] | None = None
) -> AsyncIterator[Opened]:
    """Send it, and give the response once its head is there. Raises Broken."""
    parts = urlsplit(url)
    try:
        async with asyncio.timeout(CONNECT_S):
            reader, writer = await asyncio.open_connection(parts.hostname, parts.port, limit=LIMIT_BYTES)
    except (OSError, TimeoutError) as error:
        raise Broken(f"no connection: {error!r}") from error
    try:
        raw = b"" if body is None else json.dumps(body).encode()
        headers_sent = {"host": parts.netloc, "connection": "close", **(headers or {})}
        if body is not None:
            headers_sent |= {"content-type": "application/json", "content-length": str(len(raw))}
        head = "".join(f"{name}: {value}\r\n" for name, value in headers_sent.items())
        writer.write(f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode() + raw)
        status, answered = await _head(reader)
        yield Opened(status, answered, reader)
    except OSError as error:
        raise Broken(f"cut: {error!r}") from error
    finally:
        writer.transport.abort()


async def call(
    url: str,
    method: str,
    path: str,
    *,
    body: Any = None,
    headers: Mapping[str, str] | None = None,
    timeout_s: float = 8.0,
) -> Reply:
    """One call and its whole response. Raises Broken, also when it takes longer."""
    try:
        async with asyncio.timeout(timeout_s):
            async with open_request(url, method, path, body=body, headers=headers) as opened:
                return await opened.whole()
    except TimeoutError as error:
        raise Broken(f"no answer within {timeout_s} s") from error


async def _head(reader: asyncio.StreamReader) -> tuple[int, dict[str, str]]:
    status = int((await _line(reader)).split()[1])
    headers: dict[str, str] = {}
    while line := await _line(reader):
        name, _, value = line.decode("latin-1").partition(":")
        headers[name.strip().lower()] = value.strip()
    return status, headers


async def _line(reader: asyncio.StreamReader) -> bytes:
    try:
        line = await reader.readline()
    except (ValueError, OSError) as error:
        raise Broken("cut within a line") from error
    if not line.endswith(b"\n"):
        raise Broken("cut within a line")
    return line.rstrip(b"\r\n")


async def _read(reader: asyncio.StreamReader, count: int) -> bytes:
    try:
        return await reader.read(count)
    except OSError as error:
        raise Broken(f"cut: {error!r}") from error


@asynccontextmanager
async def serve(answer: Any, *, port: int = 0) -> AsyncIterator[int]:
    """A server of the loopback for ``answer(reader, writer)``; gives its port. Its end ends what is under way."""
    running: set[asyncio.Task[None]] = set()

    async def run(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        running.add(task)
        try:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError, Broken):
                await answer(reader, writer)
        finally:
            running.discard(task)
            writer.transport.abort()

    server = await asyncio.start_server(run, "127.0.0.1", port, limit=LIMIT_BYTES)
    try:
        yield int(server.sockets[0].getsockname()[1])
    finally:
        server.close()
        for task in list(running):
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


async def read_request(reader: asyncio.StreamReader) -> tuple[str, dict[str, str], bytes]:
    """A request as a server reads it: its path, its headers, its body."""
    path = (await _line(reader)).split()[1].decode()
    headers: dict[str, str] = {}
    while line := await _line(reader):
        name, _, value = line.decode("latin-1").partition(":")
        headers[name.strip().lower()] = value.strip()
    return path, headers, await reader.readexactly(int(headers.get("content-length", "0")))
