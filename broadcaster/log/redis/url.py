"""The Redis URL, parsed: the kind of server behind it, and how one of its nodes is reached."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any
from urllib.parse import urlencode

from redis.asyncio.connection import SSLConnection, parse_url

from broadcaster.core.access.redis_address import RedisAddress, RedisKind
from broadcaster.errors import SetupError
from broadcaster.log.redis.address import NodeAddress, tls_context

__all__ = ["RedisKind", "RedisUrl"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RedisUrl(RedisAddress):
    """A Redis URL and its certificates. ``tls`` are redis-py's ``ssl_*`` options.

    The login and the database of a single server are read by redis-py alone.
    """

    url: str = field(repr=False)
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
        parts = {each.name: getattr(address, each.name) for each in fields(address)}
        tls = {name: value for name, value in read.items() if name.startswith("ssl_")} if is_tls else None
        return cls(**parts, url=url, tls=tls, context=context)

    def node(self, host: str, port: int) -> NodeAddress:
        """One data node, with the URL's credentials and TLS."""
        return NodeAddress(host, port, username=self.username, password=self.password, tls=self.context)


def _as_single(address: RedisAddress) -> str:
    """A URL of one server with the same options, for redis-py to read them as it always does."""
    ssl_options = {name: value for name, value in address.options.items() if name.startswith("ssl_")}
    return f"{'rediss' if address.is_tls else 'redis'}://localhost/?{urlencode(ssl_options)}"
