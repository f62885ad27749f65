"""Where a node is and how its subscriber connection is opened: TCP, TLS or a unix socket, from a Redis URL."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Protocol, TypeAlias, TypeVar

from redis.asyncio.connection import SSLConnection, parse_url

from broadcaster.errors import SetupError
from broadcaster.log.redis.tls import RedisTls

_DEFAULT_PORT: Final = 6379

_P = TypeVar("_P", bound=asyncio.Protocol)

Address: TypeAlias = tuple[str, int]


def name_of(address: Address) -> str:
    """A server's name: ``host:port``, IPv6 without brackets."""
    return f"{address[0]}:{address[1]}"


def address_of(name: str) -> Address:
    """The address of the server of that name."""
    host, _, port = name.rpartition(":")
    return host, int(port)


class Dialer(Protocol):
    """A node to which a subscriber connection can be opened."""

    async def dial(self, create_protocol: Callable[[], _P]) -> _P:
        """Open a connection to the node as it is *now*; raises OSError."""

    def greeting(self) -> tuple[str, ...]:
        """The command to send first: AUTH, or empty."""


@dataclass(frozen=True, slots=True)
class NodeAddress:
    """One fixed node. ``path`` (a unix socket) goes before ``host`` and ``port``; secrets stay out of the repr."""

    host: str = "localhost"
    port: int = _DEFAULT_PORT
    path: str | None = None
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    tls: RedisTls | None = field(default=None, repr=False)

    @classmethod
    def from_url(cls, url: str) -> NodeAddress:
        """Parse ``redis://``, ``rediss://`` or ``unix://`` as the redis client does, its ``ssl_*`` query included.

        The database number is ignored: sharded channels belong to no database. Raises SetupError when the URL or its
        certificates cannot be read.
        """
        try:
            parts: Mapping[str, Any] = parse_url(url)
            tls = RedisTls(parts) if parts.get("connection_class") is SSLConnection else None
            if tls is not None:
                tls.get()
            return cls(
                host=parts.get("host") or "localhost",
                port=int(parts.get("port") or _DEFAULT_PORT),
                path=parts.get("path"),
                username=parts.get("username"),
                password=parts.get("password"),
                tls=tls,
            )
        except (ValueError, LookupError, OSError) as error:
            raise SetupError(f"the Redis URL cannot be used: {error}") from error

    async def dial(self, create_protocol: Callable[[], _P]) -> _P:
        """Open a connection; raises OSError (ssl.SSLError is one)."""
        loop = asyncio.get_running_loop()
        if self.path is not None:
            _, protocol = await loop.create_unix_connection(create_protocol, self.path)
            return protocol
        tls = None if self.tls is None else self.tls.get()
        transport, protocol = await loop.create_connection(create_protocol, self.host, self.port, ssl=tls)
        raw = transport.get_extra_info("socket")
        if raw is not None:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        return protocol

    def greeting(self) -> tuple[str, ...]:
        """AUTH when there is a password; a connection uses RESP2 by default."""
        if self.password is None:
            return ()
        user = (self.username,) if self.username else ()
        return ("AUTH", *user, self.password)
