"""One server of several: its connections, and how a write full of commands is sent to it.

Rules
1. A call without a connection was not sent (``NotSent``): the caller may repeat it. Any other failure leaves open what
   the server did, and is never repeated here.
2. One write has one deadline for all its replies. A write that breaks off closes the connection, because its late
   replies would be read as those of the next. LOADING is such a break for redis-py: the replies before it count.
3. A connection is the caller's only after ``verify`` has accepted the server (its role, the Sentinels that name it).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, NamedTuple, TypeAlias

from redis import exceptions as rex
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.connection import AbstractConnection, Connection, SSLConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from broadcaster.log.redis.connection_types import CONNECTION_TYPES
from broadcaster.log.redis.url import RedisUrl

ASKING: Final = "ASKING"

Verify: TypeAlias = Callable[[AbstractConnection], Awaitable[None]]


_REFUSALS: Final = (
    rex.AuthenticationError,
    rex.AuthorizationError,
    rex.NoPermissionError,
    rex.InvalidResponse,
)


class NotSent(rex.ConnectionError):
    """There was no connection to the server: it has received nothing of the call."""


class Command(NamedTuple):
    """A command as redis-py gives it to ``execute_command``, and the key by which it is placed."""

    args: Sequence[Any]
    options: dict[str, Any]
    key: bytes


class NodeLimits(NamedTuple):
    """``timeout_s`` bounds a write with its replies, and the wait for a connection."""

    timeout_s: float
    connect_timeout_s: float
    max_connections: int


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
    """One server under its name ``host:port``."""

    def __init__(self, name: str, url: RedisUrl, limits: NodeLimits, *, verify: Verify | None = None) -> None:
        self.name = name
        self._timeout_s = limits.timeout_s
        self._pool = _create_pool(name, url, limits, verify=verify)
        self.redis = Redis.from_pool(self._pool)

    async def send(self, commands: Sequence[Command], *, is_migrating: bool = False) -> list[Any]:
        """Send all as one write; the reply to each is its result or its ResponseError, in order.

        Raises NotSent, or what redis-py raises when the connection is lost or too slow. ``is_migrating``: they are for
        a slot that is migrating to the server.
        """
        deadline = asyncio.get_running_loop().time() + self._timeout_s
        connection = await self._connect(deadline)
        try:
            async with asyncio.timeout_at(deadline):
                return await self._exchange(connection, commands, is_migrating=is_migrating)
        except TimeoutError as error:
            await connection.disconnect(nowait=True)
            raise rex.TimeoutError(f"{self.name} did not reply within {self._timeout_s:g} s") from error
        except BaseException:
            await connection.disconnect(nowait=True)
            raise
        finally:
            await asyncio.shield(self._pool.release(connection))

    async def _connect(self, deadline: float) -> AbstractConnection:
        try:
            async with asyncio.timeout_at(deadline):
                connection: AbstractConnection = await self._pool.get_connection()  # type: ignore[no-untyped-call]  # redis-py leaves it untyped
                return connection
        except _REFUSALS:
            raise
        except (rex.RedisError, OSError) as error:
            raise NotSent(f"{self.name}: {error}") from error

    async def _exchange(
        self, connection: AbstractConnection, commands: Sequence[Command], *, is_migrating: bool
    ) -> list[Any]:
        sent: list[Sequence[Any]] = []
        for command in commands:
            if is_migrating:
                sent.append((ASKING,))
            sent.append(command.args)
        await connection.send_packed_command(connection.pack_commands(sent))
        replies: list[Any] = []
        try:
            for command in commands:
                if is_migrating:
                    await connection.read_response()
                replies.append(await self._read_reply(connection, command))
        except rex.BusyLoadingError as error:
            await connection.disconnect(nowait=True)
            lost = rex.ConnectionError(f"{self.name} is loading: a reply was lost")
            replies += [error, *[lost] * (len(commands) - len(replies) - 1)]
        return replies

    async def _read_reply(self, connection: AbstractConnection, command: Command) -> Any:
        try:
            return await self.redis.parse_response(connection, command.args[0], **command.options)  # type: ignore[arg-type]  # it wants the class, and reads any
        except rex.ResponseError as error:
            return error

    async def aclose(self) -> None:
        """Close every connection; a call under way on one fails."""
        await self._pool.disconnect()


def _create_pool(
    name: str, url: RedisUrl, limits: NodeLimits, *, verify: Verify | None = None
) -> BlockingConnectionPool:
    async def on_connect(connection: AbstractConnection) -> None:
        try:
            await connection.on_connect()
            if verify is not None:
                await verify(connection)
        except BaseException:
            # A command of the verification may be under way: its reply would be read as that of the first call.
            await connection.disconnect(nowait=True)
            raise

    host, _, port = name.rpartition(":")
    kind = Connection if url.tls is None else SSLConnection
    return BlockingConnectionPool(
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
