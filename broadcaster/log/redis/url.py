"""The Redis URL, parsed: the kind of server behind it, and how one of its nodes is reached."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

from redis.asyncio.connection import SSLConnection, parse_url

from broadcaster.core.access.redis_address import RedisAddress, RedisKind
from broadcaster.errors import SetupError
from broadcaster.log.redis.address import NodeAddress, tls_context

__all__ = ["RedisKind", "RedisUrl"]


@dataclass(frozen=True, slots=True)
class RedisUrl:
    """A parsed Redis URL. ``hosts`` are Sentinels or seeds of a cluster; ``tls`` are redis-py's ``ssl_*`` options."""

    kind: RedisKind
    url: str = field(repr=False)
    hosts: tuple[tuple[str, int], ...] = ()
    service: str | None = None
    db: int = 0
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    sentinel_username: str | None = None
    sentinel_password: str | None = field(default=None, repr=False)
    tls: Mapping[str, Any] | None = field(default=None, repr=False)
    context: ssl.SSLContext | None = field(default=None, repr=False, compare=False)

    @classmethod
    def parse(cls, url: str) -> RedisUrl:
        """Parse it, and load its certificates. Raises SetupError, whose text holds none of the URL's secrets."""
        address = RedisAddress.read(url)
        try:
            read = parse_url(url if address.kind is RedisKind.SINGLE else _as_single(address))
            is_tls = read.get("connection_class") is SSLConnection
            context = tls_context(read) if is_tls else None
        except (ValueError, LookupError, OSError) as error:
            raise SetupError(f"the Redis URL cannot be used: {error}") from error
        return cls(
            kind=address.kind,
            url=url,
            hosts=address.hosts,
            service=address.service,
            db=int(read.get("db") or 0) if address.kind is RedisKind.SINGLE else address.db,
            username=read.get("username") if address.kind is RedisKind.SINGLE else address.username,
            password=read.get("password") if address.kind is RedisKind.SINGLE else address.password,
            sentinel_username=address.options.get("sentinel_username"),
            sentinel_password=address.options.get("sentinel_password"),
            tls={name: value for name, value in read.items() if name.startswith("ssl_")} if is_tls else None,
            context=context,
        )

    def node(self, host: str, port: int) -> NodeAddress:
        """One data node, with the URL's credentials and TLS."""
        return NodeAddress(host, port, username=self.username, password=self.password, tls=self.context)


def _as_single(address: RedisAddress) -> str:
    """A URL of one server with the same options, for redis-py to read them as it always does."""
    ssl_options = {name: value for name, value in address.options.items() if name.startswith("ssl_")}
    return f"{'rediss' if address.is_tls else 'redis'}://localhost/?{urlencode(ssl_options)}"
