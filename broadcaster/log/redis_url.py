"""The Redis URL as this room reads it: the kind of server behind it, and how one of its nodes is reached."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

from redis.asyncio.connection import SSLConnection, parse_url

from broadcaster.core.redis_address import Kind, RedisAddress
from broadcaster.errors import SetupError
from broadcaster.log.feed_address import NodeAddress, tls_context

__all__ = ["Kind", "RedisUrl"]


@dataclass(frozen=True, slots=True)
class RedisUrl:
    """A Redis URL, read. ``hosts`` are Sentinels or seeds of a cluster; ``tls`` are redis-py's ``ssl_*`` options."""

    kind: Kind
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
        """Read it, and the certificates it names. Raises SetupError, whose text holds nothing of the URL's secrets."""
        told = RedisAddress.read(url)
        try:
            read = parse_url(url if told.kind is Kind.SINGLE else _as_single(told))
            is_tls = read.get("connection_class") is SSLConnection
            context = tls_context(read) if is_tls else None
        except (ValueError, LookupError, OSError) as error:
            raise SetupError(f"the Redis URL cannot be used: {error}") from error
        return cls(
            kind=told.kind,
            url=url,
            hosts=told.hosts,
            service=told.service,
            db=int(read.get("db") or 0) if told.kind is Kind.SINGLE else told.db,
            username=read.get("username") if told.kind is Kind.SINGLE else told.username,
            password=read.get("password") if told.kind is Kind.SINGLE else told.password,
            sentinel_username=told.options.get("sentinel_username"),
            sentinel_password=told.options.get("sentinel_password"),
            tls={name: value for name, value in read.items() if name.startswith("ssl_")} if is_tls else None,
            context=context,
        )

    def node(self, host: str, port: int) -> NodeAddress:
        """One data node, with the URL's credentials and TLS."""
        return NodeAddress(host, port, username=self.username, password=self.password, tls=self.context)


def _as_single(told: RedisAddress) -> str:
    """A URL of one server with the same options, for redis-py to read them as it always does."""
    ssl_options = {name: value for name, value in told.options.items() if name.startswith("ssl_")}
    return f"{'rediss' if told.is_tls else 'redis'}://localhost/?{urlencode(ssl_options)}"
