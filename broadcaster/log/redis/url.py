"""The Redis URL, parsed: the kind of server behind it, and how one of its nodes is reached."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Final
from urllib.parse import urlencode

from redis.asyncio.connection import (
    URL_QUERY_ARGUMENT_PARSERS,
    AbstractConnection,
    Connection,
    SSLConnection,
    UnixDomainSocketConnection,
    parse_url,
)

from broadcaster.core.access.redis_address import RedisAddress, RedisKind
from broadcaster.errors import SetupError
from broadcaster.log.redis.address import NodeAddress
from broadcaster.log.redis.tls import RedisTls

__all__ = ["RedisKind", "RedisUrl"]

_OF_POOLS: Final = frozenset({"max_connections", "timeout"})
_TEXTS: Final = frozenset(
    {
        *("host", "port", "path", "username", "password", "client_name", "lib_name", "lib_version"),
        *("encoding", "encoding_errors", "ssl_keyfile", "ssl_certfile", "ssl_cert_reqs", "ssl_ca_certs", "ssl_ca_data"),
        *("ssl_ca_path", "ssl_ciphers", "ssl_password"),
    }
)
"""Options that redis-py takes from a URL as they are. Others, as ``retry``, are objects that no URL can hold."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RedisUrl(RedisAddress):
    """A Redis URL and its certificates. ``tls`` are redis-py's ``ssl_*`` options.

    The login and the database of a single server are read by redis-py alone.
    """

    url: str = field(repr=False)
    tls: Mapping[str, Any] | None = field(default=None, repr=False)
    context: RedisTls | None = field(default=None, repr=False, compare=False)

    @classmethod
    def parse(cls, url: str) -> RedisUrl:
        """Parse it, and load its certificates. Raises SetupError, whose text holds none of the URL's secrets."""
        address = RedisAddress.read(url)
        try:
            read = parse_url(url if address.kind is RedisKind.SINGLE else _as_single(address))
            kind = read.get("connection_class", Connection)
            _check_options(address, kind)
            is_tls = kind is SSLConnection
            context = RedisTls(read) if is_tls else None
            if context is not None:
                context.get()
        except (ValueError, LookupError, OSError) as error:
            raise SetupError(f"the Redis URL cannot be used: {error}") from error
        parts = {each.name: getattr(address, each.name) for each in fields(address)}
        tls = {name: value for name, value in read.items() if name.startswith("ssl_")} if is_tls else None
        return cls(**parts, url=url, tls=tls, context=context)

    def node(self, host: str, port: int) -> NodeAddress:
        """One data node, with the URL's credentials and TLS."""
        return NodeAddress(host, port, username=self.username, password=self.password, tls=self.context)


def _check_options(address: RedisAddress, kind: type[AbstractConnection]) -> None:
    """Raises SetupError for an option that connections of this kind do not have.

    The text names it only if redis-py knows the name: after a ? in a password, what looks like a name is a secret.
    """
    known, taken = _names(kind) | _names(SSLConnection), _taken(kind)
    for number, (name, value) in enumerate(address.options.items(), 1):
        is_read = address.kind is RedisKind.SINGLE or name.startswith("ssl_")
        if not is_read or not value or name in taken:  # redis-py leaves out an empty one
            continue
        if name.startswith("ssl_") and name in _taken(SSLConnection) - taken:
            remedy = "leave it out" if kind is UnixDomainSocketConnection else "write rediss:// in place of redis://"
            raise SetupError(f"the option {name} needs TLS: {remedy}")
        found = f"the option {name}" if name in known else f"option {number} after the ?"
        raise SetupError(
            f"{found} is none that a Redis URL can have: leave it out, or correct its name ({', '.join(sorted(taken))})"
        )


def _taken(kind: type[AbstractConnection]) -> frozenset[str]:
    return _names(kind) & {*URL_QUERY_ARGUMENT_PARSERS, *_TEXTS} | _OF_POOLS


def _names(kind: type[AbstractConnection]) -> frozenset[str]:
    """What the class and its bases take by keyword."""
    signatures = [inspect.signature(each.__init__) for each in kind.__mro__ if issubclass(each, AbstractConnection)]
    return frozenset(name for signature in signatures for name in signature.parameters) - {"self", "kwargs"}


def _as_single(address: RedisAddress) -> str:
    """A URL of one server with the same options, for redis-py to read them as it always does."""
    ssl_options = {name: value for name, value in address.options.items() if name.startswith("ssl_")}
    return f"{'rediss' if address.is_tls else 'redis'}://localhost/?{urlencode(ssl_options)}"
