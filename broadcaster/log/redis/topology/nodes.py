"""One server: its connections, and how a write full of commands is sent to it.

Rules
1. A call without a connection was not sent (``NotSent``): the caller may repeat it. Any other failure leaves open what
   the server did, and is never repeated here.
2. One write has one deadline, for the wait for a connection and all its replies. A write that breaks off closes the
   connection, because its late replies would be read as those of the next. LOADING is such a break: the replies before
   it count.
3. A refused login is raised as it is, for the caller to correct its URL. A process that must outlive the change of a
   password gives ``LoginRefusals``: then it is as if the server were away, and the log names the remedy.
4. A connection is the caller's only after ``verify`` has accepted the server (its role, the Sentinels that name it).
5. All commands go this way, whatever the kind of Redis. A script call alone costs its process 56 us, and one of twenty
   in a write 8; through redis-py's own pipeline they cost 140 and 30 (``python -m bench.redis_calls``).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final, NamedTuple, TypeAlias, cast

from redis import exceptions as rex
from redis.asyncio import Redis
from redis.asyncio.connection import AbstractConnection, Connection, SSLConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.client import EMPTY_RESPONSE, NEVER_DECODE

from broadcaster.log.redis.connection_types import CONNECTION_TYPES, CommandConnection
from broadcaster.log.redis.pool import NodePool
from broadcaster.log.redis.url import RedisUrl
from broadcaster.observability.logs import get_logger

_log = get_logger(__name__)

ASKING: Final = "ASKING"
NO_OPTIONS: Final[Mapping[str, Any]] = MappingProxyType({})

Verify: TypeAlias = Callable[[AbstractConnection], Awaitable[None]]


# Options of commands that concern redis-py's parser, not the callback that reads the reply.
_FOR_PARSERS: Final = (EMPTY_RESPONSE, NEVER_DECODE, "keys")

LOGIN_REFUSED: Final = (rex.AuthenticationError, rex.AuthorizationError, rex.NoPermissionError)
_REFUSALS: Final = (*LOGIN_REFUSED, rex.InvalidResponse)

_LINE_EVERY_S: Final = 10.0


class NotSent(rex.ConnectionError):
    """There was no connection to the server: it has received nothing of the call."""


class Command(NamedTuple):
    """A command as redis-py gives it to ``execute_command``, and the key by which it is placed."""

    args: Sequence[Any]
    options: Mapping[str, Any] = NO_OPTIONS
    key: bytes = b""


class LoginRefusals:
    """The refused logins of one process: they are reported in one line in ``_LINE_EVERY_S``, however many there are."""

    def __init__(self) -> None:
        self._next_line_at = float("-inf")

    def report(self, server: str, error: BaseException) -> None:
        """A server has refused a login."""
        now = asyncio.get_running_loop().time()
        if now < self._next_line_at:
            return
        self._next_line_at = now + _LINE_EVERY_S
        _log.error(
            "redis_login_refused",
            server=server,
            reason=str(error),
            remedy="let Redis accept the user and password of the Redis URL, or correct the URL and restart",
        )


class NodeLimits(NamedTuple):
    """``timeout_s`` bounds a write with its replies, and the wait for a connection. ``refusals``: see rule 3."""

    timeout_s: float
    connect_timeout_s: float
    max_connections: int
    refusals: LoginRefusals | None = None


def pool_options(limits: NodeLimits) -> dict[str, Any]:
    """What the pools of all kinds of Redis have in common (connect.py, rules 1 and 2)."""
    return {
        "max_connections": limits.max_connections,
        "timeout": limits.timeout_s,
        "socket_timeout": limits.timeout_s,
        "socket_connect_timeout": limits.connect_timeout_s,
        "retry": Retry(NoBackoff(), 0),
        "protocol": 2,
        "decode_responses": False,
    }


class Node:
    """One server under its name, mostly ``host:port``."""

    def __init__(self, name: str, pool: NodePool, *, timeout_s: float, refusals: LoginRefusals | None = None) -> None:
        self.name = name
        self._timeout_s = timeout_s
        self._refusals = refusals
        self.pool = pool
        self.redis = Redis.from_pool(pool)
        self._callbacks = self.redis.response_callbacks
        self._closings = 0

    @classmethod
    def at(cls, name: str, url: RedisUrl, limits: NodeLimits, *, verify: Verify | None = None) -> Node:
        """The server at ``host:port``, with the credentials and the TLS of the URL."""
        pool = _create_pool(name, url, limits, verify=verify)
        return cls(name, pool, timeout_s=limits.timeout_s, refusals=limits.refusals)

    @classmethod
    def of_url(cls, url: str, limits: NodeLimits) -> Node:
        """The server of a ``redis://``, ``rediss://`` or ``unix://`` URL."""
        pool = NodePool.from_url(url, **pool_options(limits))
        pool.connection_class = CONNECTION_TYPES[pool.connection_class]
        return cls("the server", pool, timeout_s=limits.timeout_s, refusals=limits.refusals)

    async def send(self, commands: Sequence[Command], *, is_migrating: bool = False) -> list[Any]:
        """Send all as one write; the reply to each is its result or its ResponseError, in order.

        Raises NotSent, or what redis-py raises when the connection is lost or too slow. ``is_migrating``: they are for
        a slot that is migrating to the server.
        """
        connection: CommandConnection | None = None
        closings = self._closings
        is_ready = False
        try:
            async with asyncio.timeout(self._timeout_s):
                connection = await self.pool.acquire()
                if not connection.is_idle:
                    await self.pool.ensure_connection(connection)
                if connection.health_check_interval:  # an option of the URL
                    await connection.check_health()  # type: ignore[no-untyped-call]  # redis-py leaves it untyped
                is_ready = True
                replies = await self._exchange(connection, commands, is_migrating=is_migrating)
        except BaseException as error:
            if connection is not None:
                await connection.abandon()
            raised = self._raised(error, is_ready=is_ready, is_free=connection is not None)
            if raised is error:
                raise
            raise raised from error
        finally:
            if connection is not None:
                if self._closings != closings:  # it was being opened then, so that the closing did not see it
                    await connection.abandon()
                self.pool.put_back(connection)
        return [self._read(command, reply) for command, reply in zip(commands, replies, strict=True)]

    def _raised(self, error: BaseException, *, is_ready: bool, is_free: bool) -> BaseException:
        """What the caller gets for this error."""
        if not is_free:
            return NotSent(f"{self.name}: No connection available") if isinstance(error, TimeoutError) else error
        if isinstance(error, LOGIN_REFUSED) and self._refusals is not None:
            self._refusals.report(self.name, error)
            return NotSent(f"{self.name} refuses the login: {error}")  # without a login it carries out nothing
        if not is_ready:
            is_unsent = isinstance(error, rex.RedisError | OSError) and not isinstance(error, _REFUSALS)
            reason = str(error) or f"no connection within {self._timeout_s:g} s"
            return NotSent(f"{self.name}: {reason}") if is_unsent else error
        if isinstance(error, TimeoutError):
            return rex.TimeoutError(f"{self.name} did not reply within {self._timeout_s:g} s")
        if isinstance(error, OSError):
            return rex.ConnectionError(f"{self.name}: {error}")
        return error

    async def _exchange(
        self, connection: CommandConnection, commands: Sequence[Command], *, is_migrating: bool
    ) -> list[Any]:
        sent: list[Sequence[Any]] = [command.args for command in commands]
        if is_migrating:
            sent = [each for args in sent for each in ((ASKING,), args)]
        replies: list[Any] = []
        lost: list[Any] = []
        try:
            await connection.exchange(sent, replies)
        except rex.BusyLoadingError as error:
            await connection.abandon()
            lost = [error]
        if is_migrating:
            replies = replies[1::2]
        if lost:
            rest = rex.ConnectionError(f"{self.name} is loading: a reply was lost")
            replies += lost + [rest] * (len(commands) - len(replies) - 1)
        return replies

    def _read(self, command: Command, reply: Any) -> Any:
        """The reply as redis-py's method of the command returns it."""
        options = command.options
        if isinstance(reply, Exception):
            return options.get(EMPTY_RESPONSE, reply) if isinstance(reply, rex.ResponseError) else reply
        callback = self._callbacks.get(command.args[0])
        if callback is None:
            return reply
        return callback(reply, **{name: value for name, value in options.items() if name not in _FOR_PARSERS})

    async def aclose(self) -> None:
        """Close every connection; a call under way on one fails. A later call opens one anew."""
        self._closings += 1
        await self.pool.disconnect()


def _create_pool(name: str, url: RedisUrl, limits: NodeLimits, *, verify: Verify | None = None) -> NodePool:
    async def on_connect(connection: AbstractConnection) -> None:
        try:
            await connection.on_connect()
            if verify is not None:
                await verify(connection)
        except BaseException:
            # A command of the verification may be under way: its reply would be read as that of the first call.
            await cast(CommandConnection, connection).abandon()
            raise

    host, _, port = name.rpartition(":")
    kind = Connection if url.tls is None else SSLConnection
    return NodePool(
        connection_class=CONNECTION_TYPES[kind],
        host=host,
        port=int(port),
        db=url.db,
        username=url.username,
        password=url.password,
        redis_connect_func=on_connect,
        **pool_options(limits),
        **(url.tls or {}),
    )
