"""A small real HTTP/1.1 server with one stream on it, which fails in the ways that front-ends and networks fail.

Each connection to the stream is answered by the next of ``plans``; when there are none left, by ``serve()``.
"""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from broadcaster.core.cursor import START, Cursor
from broadcaster.core.entry import Entry
from broadcaster.core.sse import encode_frame

DEADLINE_S = 20.0


@dataclass(frozen=True)
class Request:
    """One request as it came; header names in lower case."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: Any

    @property
    def after(self) -> Cursor:
        text = self.headers.get("last-event-id")
        return Cursor.parse(text) if text else START


class Exchange:
    """One request and what is written back; every connection serves one request."""

    def __init__(self, request: Request, writer: asyncio.StreamWriter) -> None:
        self.request = request
        self._writer = writer

    async def answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        fields = {"content-length": str(len(body)), "connection": "close", **headers}
        await self._write(_head(status, fields) + body)

    async def problem(self, status: int, code: str, *, retry: bool = False, **headers: str) -> None:
        document = {"type": f"about:blank#{code}", "title": code, "status": status, "detail": f"it is {code}"}
        body = json.dumps(document | {"code": code, "retry": retry}).encode()
        await self.answer(status, body, **{"content-type": "application/problem+json"}, **headers)

    async def open_stream(self, content_type: str = "text/event-stream; charset=utf-8", *, status: int = 200) -> None:
        fields = {"content-type": content_type, "transfer-encoding": "chunked", "connection": "close"}
        await self._write(_head(status, fields))

    async def send(self, data: bytes) -> None:
        if data:
            await self._write(b"%x\r\n%b\r\n" % (len(data), data))

    async def end(self) -> None:
        """A clean end of the body."""
        await self._write(b"0\r\n\r\n")

    async def _write(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()


Plan = Callable[[Exchange], Awaitable[None]]


class SseServer:
    """The server; an async context manager. ``url`` keeps its port over ``stop`` and ``start``."""

    def __init__(self, entries: Sequence[Entry] = (), *, retry_ms: int | None = 1) -> None:
        self.entries = list(entries)
        self.plans: deque[Plan] = deque()
        self.routes: dict[tuple[str, str], Plan] = {}
        self.requests: list[Request] = []
        self.left = 0
        self._retry_ms = retry_ms
        self._port = 0
        self._changed = asyncio.Condition()
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    @property
    def resumed_after(self) -> list[Cursor]:
        """The cursors from which the connections to the stream resumed."""
        return [request.after for request in self.requests if request.path.endswith("/events")]

    async def __aenter__(self) -> SseServer:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self._port)
        self._port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Refuse connections and cut those that are open."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def append(self, *entries: Entry) -> None:
        async with self._changed:
            self.entries.extend(entries)
            self._changed.notify_all()

    async def wait_for(self, claim: Callable[[], bool]) -> None:
        """Until the claim holds; it is checked on every request, append and leave."""
        async with asyncio.timeout(DEADLINE_S), self._changed:
            await self._changed.wait_for(claim)

    # ------------------------------------------------------------------------------------------------------------ plans

    def serve(self, *, stop_after: int | None = None, clean: bool = True) -> Plan:
        """Serve the stream after the request's cursor; end early after so many entries, cleanly or not."""

        async def plan(exchange: Exchange) -> None:
            await exchange.open_stream()
            await exchange.send(self.snapshot())
            sent, after = 0, exchange.request.after
            while sent != stop_after:
                entry = await self._next(after)
                await exchange.send(frame(entry))
                sent, after = sent + 1, entry.cursor
                if entry.is_terminal:
                    break
            if clean:
                await exchange.end()

        return plan

    def raw(
        self, data: bytes, *, clean: bool = True, hold: bool = False, content_type: str = "text/event-stream"
    ) -> Plan:
        """Send these bytes and end, cleanly or not, or stay silent."""

        async def plan(exchange: Exchange) -> None:
            await exchange.open_stream(content_type)
            await exchange.send(data)
            if hold:
                await asyncio.Event().wait()
            if clean:
                await exchange.end()

        return plan

    def snapshot(self) -> bytes:
        return encode_frame(b'{"id":"s","status":"running"}', event="hub.hello", retry_ms=self._retry_ms)

    async def _next(self, after: Cursor) -> Entry:
        def following() -> Entry | None:
            return next((entry for entry in self.entries if entry.cursor > after), None)

        async with self._changed:
            await self._changed.wait_for(lambda: following() is not None)
        entry = following()
        assert entry is not None
        return entry

    # ------------------------------------------------------------------------------------------------------ connections

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        leaving: asyncio.Task[bytes] | None = None
        try:
            request = await _read_request(reader)
            serving = asyncio.ensure_future(self._plan_for(request)(Exchange(request, writer)))
            leaving = asyncio.create_task(reader.read())
            try:
                await self._note(request)
                await asyncio.wait([serving, leaving], return_when=asyncio.FIRST_COMPLETED)
            finally:
                serving.cancel()
                await asyncio.wait([serving])
            # It may leave while it is sent to.
            if serving.cancelled() or isinstance(serving.exception(), ConnectionError):
                self.left += 1
                await self._note()
        except (ConnectionError, asyncio.IncompleteReadError):
            self.left += 1
        finally:
            if leaving is not None:
                leaving.cancel()
            writer.close()
            self._tasks.discard(task)

    async def _note(self, *requests: Request) -> None:
        async with self._changed:
            self.requests.extend(requests)
            self._changed.notify_all()

    def _plan_for(self, request: Request) -> Plan:
        if (route := self.routes.get((request.method, request.path))) is not None:
            return route
        if request.method == "GET" and request.path.endswith("/events"):
            return self.plans.popleft() if self.plans else self.serve()

        async def unknown(exchange: Exchange) -> None:
            await exchange.problem(404, "not_found")

        return unknown


def frame(entry: Entry) -> bytes:
    """An entry as the native dialect sends it."""
    return encode_frame(entry.event, id=str(entry.cursor))


async def _read_request(reader: asyncio.StreamReader) -> Request:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    first, *lines = head.strip().split("\r\n")
    method, target, _ = first.split(" ")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    raw = await reader.readexactly(int(headers.get("content-length", 0)))
    url = urlsplit(target)
    return Request(method, url.path, dict(parse_qsl(url.query)), headers, json.loads(raw) if raw else None)


def _head(status: int, headers: Mapping[str, str]) -> bytes:
    lines = [f"HTTP/1.1 {status} X", *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")
