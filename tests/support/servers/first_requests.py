"""A front-end whose first requests are watched, and connections to it that are written and read by hand."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from fastapi import FastAPI

from broadcaster.log.streams.reader import Meta
from broadcaster.web.server.connections import ConnectionLimits
from broadcaster.web.server.listener import open_listener
from broadcaster.web.server.runner import FrontEndServer
from broadcaster.web.services import Services
from broadcaster.web.viewing.direct import Admitted, DirectViewers, PlainRequest
from tests.support.servers.front_end import DEADLINE_S

LIVE = b"event: hub.live\n"
ENDED = b"0\r\n\r\n"


def get(id: str, *more: bytes, version: bytes = b"1.1") -> bytes:
    fields = b"".join(b"%b\r\n" % each for each in (b"Host: localhost", *more))
    return b"GET /v1/streams/%b/events HTTP/%b\r\n%b\r\n" % (id.encode(), version, fields)


class Connection:
    """One connection, written and read by hand."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def until(self, part: bytes) -> bytes:
        """All up to this part."""
        async with asyncio.timeout(DEADLINE_S):
            return await self.reader.readuntil(part)

    async def to_the_end(self) -> bytes:
        """All until the server closes; empty after a reset."""
        async with asyncio.timeout(DEADLINE_S):
            try:
                return await self.reader.read()
            except ConnectionResetError:
                return b""


class Clients:
    """Connections to one front-end."""

    def __init__(self, server: FrontEndServer, direct: Noting) -> None:
        self.server = server
        self.direct = direct
        self._opened: list[Connection] = []

    async def connect(self, sent: bytes = b"") -> Connection:
        connection = Connection(*await asyncio.open_connection("127.0.0.1", self.server.port))
        self._opened.append(connection)
        connection.writer.write(sent)
        return connection

    async def follow(self) -> None:
        """A viewer of the stream ``run``: the front-end follows it now."""
        await (await self.connect(get("run"))).until(LIVE)
        assert self.direct.joined == [True]
        self.direct.joined.clear()

    def close(self) -> None:
        for each in self._opened:
            each.writer.close()


class HeldLookUps:
    """The look-ups of streams of a front-end wait until ``go_on`` is called; ``ids``: those that have begun."""

    def __init__(self, services: Services, monkeypatch: pytest.MonkeyPatch) -> None:
        self.ids: list[str] = []
        self._found = asyncio.Event()
        self._fetch = services.known_streams._fetch
        monkeypatch.setattr(services.known_streams, "_fetch", self._look_up)

    def go_on(self) -> None:
        """All of them find what there is."""
        self._found.set()

    async def _look_up(self, stream_id: str, tenant: str) -> Meta:
        self.ids.append(stream_id)
        await self._found.wait()
        return await self._fetch(stream_id, tenant)


class Noting:
    """``DirectViewers`` that notes what becomes of each request; ``may_join`` holds joins up, and ``admits`` none."""

    def __init__(self, direct: DirectViewers) -> None:
        self._direct = direct
        self.joined: list[bool] = []
        self.admits = True
        self.joining = 0
        self.may_join = asyncio.Event()
        self.may_join.set()

    def judge(self, scope: Any) -> PlainRequest | None:
        return self._direct.judge(scope)

    def admits_at_once(self, request: PlainRequest) -> bool:
        return self.may_join.is_set() and self._direct.admits_at_once(request)

    async def join(self, request: PlainRequest) -> Admitted | None:
        self.joining += 1
        try:
            if not self.may_join.is_set():
                await self.may_join.wait()
            admitted = await self._direct.join(request) if self.admits else None
        finally:
            self.joining -= 1
        self.joined.append(admitted is not None)
        return admitted

    async def until_joining(self, count: int = 1) -> None:
        async with asyncio.timeout(DEADLINE_S):
            while self.joining != count:
                await asyncio.sleep(0.001)


@asynccontextmanager
async def serving(app: FastAPI, services: Services, limits: ConnectionLimits | None = None) -> AsyncIterator[Clients]:
    direct = Noting(app.state.direct)
    server = FrontEndServer(
        app,
        listener=open_listener("127.0.0.1", 0),
        on_drain=lambda: services.hub.drain(window_s=0),
        drain_timeout_s=DEADLINE_S,
        limits=limits,
        direct=direct,  # type: ignore[arg-type]
    )
    task = asyncio.create_task(server.serve())
    await server.until_started()
    clients = Clients(server, direct)
    try:
        yield clients
    finally:
        clients.close()
        server.request_stop()
        await task
