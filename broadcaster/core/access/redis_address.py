"""A Redis URL in its parts: one server, the Sentinels that know the primary, or seeds of a cluster.

    redis://  rediss://  unix://                                                 as redis-py reads them
    redis+sentinel://user:password@host1:26379,host2,[::1]:26380/service/db      rediss+sentinel:// with TLS
    redis+cluster://user:password@host1:6379,host2                               rediss+cluster://

No message repeats any of the URL: a text in the wrong place may be a password.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final
from urllib.parse import parse_qsl, unquote

from broadcaster.errors import SetupError


class RedisKind(StrEnum):
    """What kind of server the URL names."""

    SINGLE = "single"
    SENTINEL = "sentinel"
    CLUSTER = "cluster"


_SCHEMES: Final = {
    "redis": (RedisKind.SINGLE, False),
    "rediss": (RedisKind.SINGLE, True),
    "unix": (RedisKind.SINGLE, False),
    "redis+sentinel": (RedisKind.SENTINEL, False),
    "rediss+sentinel": (RedisKind.SENTINEL, True),
    "redis+cluster": (RedisKind.CLUSTER, False),
    "rediss+cluster": (RedisKind.CLUSTER, True),
}
"""Scheme → kind, and whether its connections are encrypted."""

_DEFAULT_PORT: Final = {RedisKind.SINGLE: 6379, RedisKind.SENTINEL: 26379, RedisKind.CLUSTER: 6379}
_SENTINEL_OPTIONS: Final = frozenset({"sentinel_username", "sentinel_password"})
_LAST_PORT: Final = 65_535


@dataclass(frozen=True, slots=True)
class RedisAddress:
    """The parts of a Redis URL. ``hosts`` are Sentinels or seeds of a cluster; redis-py reads a single server's."""

    kind: RedisKind
    is_tls: bool = False
    hosts: tuple[tuple[str, int], ...] = ()
    service: str | None = None
    db: int = 0
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    options: Mapping[str, str] = field(default_factory=dict, repr=False)

    @classmethod
    def read(cls, url: str) -> RedisAddress:
        """Take the URL apart. Raises SetupError with what is wrong, without any of its text."""
        scheme, mark, rest = url.partition("://")
        if not mark or scheme not in _SCHEMES:
            raise SetupError(f"it must begin with {', '.join(f'{each}://' for each in _SCHEMES)}")
        kind, is_tls = _SCHEMES[scheme]
        before, _, query = rest.partition("?")
        if "#" in rest:
            raise SetupError("a # in a user, a password or an option is written %23")
        authority, _, path = before.partition("/")
        login, _, host_list = authority.rpartition("@")
        username, _, password = login.partition(":")
        hosts = _hosts(host_list, kind=kind) if host_list or scheme != "unix" else ()
        if scheme == "unix" and not path.strip("/"):
            raise SetupError("unix:// must name a socket: unix:///run/redis.sock")
        service, db = _place(path, kind=kind)
        return cls(
            kind=kind,
            is_tls=is_tls,
            hosts=() if kind is RedisKind.SINGLE else hosts,
            service=service,
            db=db,
            username=unquote(username) or None,
            password=unquote(password) or None,
            options=_options(query, kind=kind, is_tls=is_tls),
        )


def _hosts(text: str, *, kind: RedisKind) -> tuple[tuple[str, int], ...]:
    if not text.strip(","):
        raise SetupError("it must name a host (redis://host:6379); with unix:// it is a socket")
    names = text.split(",")
    if kind is RedisKind.SINGLE and len(names) > 1:
        raise SetupError("redis:// names one host; several belong to redis+sentinel:// or redis+cluster://")
    return tuple(_host(each, default_port=_DEFAULT_PORT[kind]) for each in names)


def _host(text: str, *, default_port: int) -> tuple[str, int]:
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        colon, port = rest[:1], rest[1:]
        if not bracket or colon not in ("", ":"):
            raise SetupError("an IPv6 address stands in brackets, its port behind them: [::1]:6379")
    else:
        host, colon, port = text.partition(":")
        if ":" in port:
            raise SetupError("a host's port is a number, and an IPv6 address stands in brackets: [::1]:6379")
    if not host:
        raise SetupError("it must name a host between the commas and before each port")
    if not colon:
        return unquote(host), default_port
    if not (port.isascii() and port.isdigit() and 0 < int(port) <= _LAST_PORT):
        raise SetupError(f"a host's port is a number from 1 to {_LAST_PORT}; a : @ / ? in a password is written %3A …")
    return unquote(host), int(port)


def _place(path: str, *, kind: RedisKind) -> tuple[str | None, int]:
    if kind is RedisKind.SINGLE:  # redis-py reads it, and the options that may replace it
        return None, 0
    if kind is RedisKind.CLUSTER:
        if path.strip("/") not in ("", "0"):
            raise SetupError("a cluster has database 0 alone: nothing follows its hosts")
        return None, 0
    service, _, db = path.strip("/").partition("/")
    if not service:
        raise SetupError("after the Sentinels it must name the primary: redis+sentinel://host1,host2/mymaster")
    if not ((db.isascii() and db.isdigit()) or not db):
        raise SetupError("the database after the primary's name is a number")
    return unquote(service), int(db or 0)


def _options(query: str, *, kind: RedisKind, is_tls: bool) -> Mapping[str, str]:
    options = dict(parse_qsl(query, keep_blank_values=True))
    if kind is RedisKind.SINGLE:
        return options
    for name in options:
        if name.startswith("ssl_"):
            if not is_tls:
                raise SetupError(f"ssl_… options need TLS: the scheme rediss+{kind}://")
        elif name not in _SENTINEL_OPTIONS or kind is not RedisKind.SENTINEL:
            more = ", sentinel_username and sentinel_password" if kind is RedisKind.SENTINEL else ""
            raise SetupError(f"of options only ssl_…{more} are read here")
    return options
