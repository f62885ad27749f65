"""One server of several: its connections, and how a write full of commands is sent to it.

Rules
1. A call whose connection could not be had was not sent (``NotSent``): whoever sent it may send it again. Any other
   failure leaves open what the server did, and is never repeated here.
2. One write, one deadline for all its answers. What breaks it off closes the connection: its rest would be read as the
   answers of the next. LOADING is such a break, for redis-py: what was answered before it stays answered.
3. A connection is the caller's only after ``greet`` has accepted the server (the role it has, who vouches for it).
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

from broadcaster.log.connection_types import CONNECTION_TYPES
from broadcaster.log.redis_url import RedisUrl

ASKING: Final = "ASKING"

Greet: TypeAlias = Callable[[AbstractConnection], Awaitable[None]]


_REFUSES_US: Final = (
    rex.AuthenticationError,
    rex.AuthorizationError,
    rex.NoPermissionError,
    rex.InvalidResponse,
)


class NotSent(rex.ConnectionError):
    """No connection to the server could be had: it has seen nothing of the call."""


class Command(NamedTuple):
    """A command as redis-py gives it to ``execute_command``, and the key that says where it goes."""

    args: Sequence[Any]
    options: dict[str, Any]
    key: bytes


async def greet_nobody(connection: AbstractConnection) -> None:
    """Accept every server."""


class NodeLimits(NamedTuple):
    """``timeout_s`` bounds a write with its answers, and the wait for a connection."""

    timeout_s: float
    connect_timeout_s: float
    max_connections: int


class Node:
    """One server under its name ``host:port``."""

    def __init__(self, name: str, url: RedisUrl, limits: NodeLimits, *, greet: Greet) -> None:
        self.name = name
        self._timeout_s = limits.timeout_s
        self._pool = _create_pool(name, url, limits, greet=greet)
        self.redis = Redis.from_pool(self._pool)

    async def send(self, commands: Sequence[Command], *, asking: bool = False) -> list[Any]:
        """Send all as one write; the answer of each is its result or its ResponseError, in order.

        Raises NotSent, or what redis-py raises when the connection is lost or too slow. ``asking``: they are for a
        slot that the server is being given.
        """
        deadline = asyncio.get_running_loop().time() + self._timeout_s
        connection = await self._connect(deadline)
        try:
            async with asyncio.timeout_at(deadline):
                return await self._exchange(connection, commands, asking=asking)
        except TimeoutError as error:
            await connection.disconnect(nowait=True)
            raise rex.TimeoutError(f"{self.name} did not answer within {self._timeout_s:g} s") from error
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
        except _REFUSES_US:
            raise
        except (rex.RedisError, OSError) as error:
            raise NotSent(f"{self.name}: {error}") from error

    async def _exchange(
        self, connection: AbstractConnection, commands: Sequence[Command], *, asking: bool
    ) -> list[Any]:
        words: list[Sequence[Any]] = []
        for command in commands:
            if asking:
                words.append((ASKING,))
            words.append(command.args)
        await connection.send_packed_command(connection.pack_commands(words))
        answers: list[Any] = []
        try:
            for command in commands:
                if asking:
                    await connection.read_response()
                answers.append(await self._read_answer(connection, command))
        except rex.BusyLoadingError as error:
            await connection.disconnect(nowait=True)
            lost = rex.ConnectionError(f"{self.name} is loading: an answer was lost")
            answers += [error, *[lost] * (len(commands) - len(answers) - 1)]
        return answers

    async def _read_answer(self, connection: AbstractConnection, command: Command) -> Any:
        try:
            return await self.redis.parse_response(connection, command.args[0], **command.options)  # type: ignore[arg-type]  # it wants the class, and reads any
        except rex.ResponseError as error:
            return error

    async def aclose(self) -> None:
        """Close every connection; a call under way on one fails."""
        await self._pool.disconnect()


def _create_pool(name: str, url: RedisUrl, limits: NodeLimits, *, greet: Greet) -> BlockingConnectionPool:
    async def greeted(connection: AbstractConnection) -> None:
        try:
            await connection.on_connect()
            await greet(connection)
        except BaseException:
            # Half a greeting may be under way: its answer would be read as that of the first command.
            await connection.disconnect(nowait=True)
            raise

    host, _, port = name.rpartition(":")
    kind = Connection if url.tls is None else SSLConnection
    return BlockingConnectionPool(
        connection_class=CONNECTION_TYPES[kind],
        max_connections=limits.max_connections,
        timeout=limits.timeout_s,
        host=host,
        port=int(port),
        db=url.db,
        username=url.username,
        password=url.password,
        socket_timeout=limits.timeout_s,
        socket_connect_timeout=limits.connect_timeout_s,
        retry=Retry(NoBackoff(), 0),
        protocol=2,
        decode_responses=False,
        redis_connect_func=greeted,
        **(url.tls or {}),
    )
