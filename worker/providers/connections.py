"""The connections of the providers' HTTP clients: aiohttp's, with two rules of our own.

Rules
1. Names are resolved by ``SystemResolver``: a provider whose name server is silent does not delay the others.
2. A call that is left leaves no connection behind, except one that can serve the next call. aiohttp closes such a
   connection, but a closed transport first sends what it has buffered: a provider that does not read its request would
   keep the socket and the request.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from typing import Any, Final

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
    """The connections that one call takes: mostly one. A call that finds an idle one closed takes another."""

    def __init__(self) -> None:
        self._taken: list[tuple[aiohttp.connector.Connection, asyncio.Transport]] = []

    @contextmanager
    def noted(self) -> Iterator[None]:
        """Note the connections that this task takes in the block."""
        token = _of_this_call.set(self)
        try:
            yield
        finally:
            _of_this_call.reset(token)

    def note(self, connection: aiohttp.connector.Connection) -> None:
        """The call has taken this one."""
        if connection.transport is not None:
            self._taken.append((connection, connection.transport))

    def abort(self) -> None:
        """Abort those that the call still has, or that are being closed. One that was given back is another call's."""
        for connection, transport in self._taken:
            if connection.transport is transport or transport.is_closing():
                transport.abort()


_of_this_call: ContextVar[CallConnections | None] = ContextVar("_of_this_call", default=None)


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
    return aiohttp.ClientSession(connector=connector)


def _result(host: str, port: int, found: AddressInfo) -> ResolveResult:
    family, _, protocol, _, address = found
    scope = f"%{address[3]}" if family == socket.AF_INET6 and address[3] else ""  # of a link-local address
    return ResolveResult(
        hostname=host, host=f"{address[0]}{scope}", port=port, family=family, proto=protocol, flags=_NUMERIC
    )
