"""The connections of the providers' HTTP clients: aiohttp's, whose names ``SystemResolver`` resolves.

A provider whose name server is silent does not delay the others.
"""

from __future__ import annotations

import socket
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
    """The session that this transport would create, with our resolver."""
    limits: httpx2.Limits = transport.limits
    connector = aiohttp.TCPConnector(
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
