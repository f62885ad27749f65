"""The connections of the providers' HTTP clients: aiohttp's, with three rules of our own.

Rules
1. Names are resolved by ``SystemResolver``: a provider whose name server is silent does not delay the others.
2. A call that is left leaves no connection behind, except one that can serve the next call. aiohttp closes such a
   connection, but a closed transport first sends what it has buffered: a provider that does not read its request would
   keep the socket and the request.
3. The body of a response is read from aiohttp itself. The layers between aiohttp and the SDK pass on each piece through
   three generators, and cut it to 16 KiB: a worker spent a tenth of its CPU there (``python -m bench --only worker``).
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from typing import Any, Final, cast

import aiohttp
import httpx2
from aiohttp.abc import AbstractResolver, ResolveResult

from worker.network.resolver import AddressInfo, SystemResolver

_NUMERIC: Final = socket.AI_NUMERICHOST | socket.AI_NUMERICSERV


def set_up_connections(client: httpx2.AsyncClient) -> None:
    """Give an SDK's client these connections. Its transports create their aiohttp session at the first call."""
    resolver = _Resolver()
    transports: list[Any] = [client._transport, *client._mounts.values()]
    for transport in transports:
        if transport is not None:  # a host that is reached without a proxy has none of its own
            transport.client = partial(_create_session, transport, resolver)


class CallConnections:
    """The connections that one call takes: mostly one. A call that finds an idle one closed takes another.

    ``response``: the last one that arrived; None if the SDK uses other connections than these.
    """

    def __init__(self) -> None:
        self._taken: list[tuple[aiohttp.connector.Connection, asyncio.Transport]] = []
        self.response: aiohttp.ClientResponse | None = None

    @contextmanager
    def noted(self) -> Iterator[None]:
        """Note the connections that this task takes in the block, and what arrives on them."""
        token = _of_this_call.set(self)
        try:
            yield
        finally:
            _of_this_call.reset(token)

    def note(self, connection: aiohttp.connector.Connection) -> None:
        """The call has taken this one."""
        if connection.transport is not None:
            self._taken.append((connection, connection.transport))

    def read_directly(self, response: httpx2.Response) -> None:
        """Have the body of the SDK's response read from aiohttp's (rule 3), which has not been read yet."""
        if self.response is not None:
            stream = cast(httpx2.AsyncByteStream, response.stream)
            response.stream = _DirectBody(stream, self.response.content)

    def abort(self) -> None:
        """Abort those that the call still has, or that are being closed. One that was given back is another call's."""
        for connection, transport in self._taken:
            if connection.transport is transport or transport.is_closing():
                transport.abort()


_of_this_call: ContextVar[CallConnections | None] = ContextVar("_of_this_call", default=None)


class _Response(aiohttp.ClientResponse):
    """aiohttp's, which the call notes when it has arrived."""

    async def start(self, connection: aiohttp.connector.Connection) -> aiohttp.ClientResponse:
        await super().start(connection)
        call = _of_this_call.get()
        if call is not None:
            call.response = self
        return self


class _DirectBody(httpx2.AsyncByteStream):
    """The body of a response; ``stream`` is the SDK's, which closes it."""

    def __init__(self, stream: httpx2.AsyncByteStream, content: aiohttp.StreamReader) -> None:
        self._stream = stream
        self._content = content

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._content.iter_any()

    async def aclose(self) -> None:
        """Close the connection, unless all of the body has been read."""
        await self._stream.aclose()


class _Connector(aiohttp.TCPConnector):
    """aiohttp's, which notes each connection that a call takes."""

    async def connect(
        self, req: aiohttp.ClientRequest, traces: list[Any], timeout: aiohttp.ClientTimeout
    ) -> aiohttp.connector.Connection:
        connection = await super().connect(req, traces, timeout)
        call = _of_this_call.get()
        if call is not None:
            call.note(connection)
        return connection


class _Resolver(AbstractResolver):
    """aiohttp's interface of a resolver."""

    def __init__(self) -> None:
        self._system = SystemResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """The addresses of the families that this machine has."""
        found = await self._system.look_up(host, port, flags=socket.AI_ADDRCONFIG)
        return [_result(host, port, each) for each in found]

    async def close(self) -> None:
        """Nothing is left open."""


def _create_session(transport: Any, resolver: AbstractResolver) -> aiohttp.ClientSession:
    """The session that this transport would create, with our connector."""
    limits: httpx2.Limits = transport.limits
    connector = _Connector(
        limit=limits.max_connections or 0,
        keepalive_timeout=limits.keepalive_expiry,
        ssl=transport.ssl_context,
        resolver=resolver,
    )
    return aiohttp.ClientSession(connector=connector, response_class=_Response)


def _result(host: str, port: int, found: AddressInfo) -> ResolveResult:
    family, _, protocol, _, address = found
    scope = f"%{address[3]}" if family == socket.AF_INET6 and address[3] else ""  # of a link-local address
    return ResolveResult(
        hostname=host, host=f"{address[0]}{scope}", port=port, family=family, proto=protocol, flags=_NUMERIC
    )
