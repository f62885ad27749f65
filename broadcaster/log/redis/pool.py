"""A server's pool of connections: redis-py's, without locks and events around what happens within one loop turn.

redis-py takes a lock, a condition and a deadline for each connection that it gives out, and an event and metrics for
each that comes back. Here a connection that is idle is given out and taken back without a pause of the loop. Requests
get one in the order of their coming.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any, cast

from redis import exceptions as rex
from redis.asyncio import BlockingConnectionPool
from redis.asyncio.connection import AbstractConnection

from broadcaster.log.redis.connection_types import CommandConnection


class NodePool(BlockingConnectionPool):
    """Of one server. ``acquire`` and ``put_back`` go together, as redis-py's ``get_connection`` and ``release`` do."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._waiters: deque[asyncio.Future[CommandConnection]] = deque()

    async def acquire(self) -> CommandConnection:
        """A connection, once one is free; it may be unconnected (``ensure_connection``)."""
        if self.can_get_connection():  # then no request waits: ``put_back`` serves those first
            return cast(CommandConnection, self.get_available_connection())  # type: ignore[no-untyped-call]  # so is redis-py
        waiter: asyncio.Future[CommandConnection] = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        try:
            return await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled():
                self.put_back(waiter.result())
            raise

    def put_back(self, connection: AbstractConnection) -> None:
        """The caller uses it no more."""
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(cast(CommandConnection, connection))
                return
        self._in_use_connections.remove(connection)
        self._available_connections.append(connection)

    async def get_connection(self, command_name: Any = None, *keys: Any, **options: Any) -> AbstractConnection:
        """A connected one. Raises redis's ConnectionError when none becomes free in time, or none can be opened."""
        try:
            async with asyncio.timeout(self.timeout):
                connection = await self.acquire()
        except TimeoutError as error:
            raise rex.ConnectionError("No connection available.") from error
        try:
            await self.ensure_connection(connection)
        except BaseException:
            self.put_back(connection)
            raise
        return connection

    async def release(self, connection: AbstractConnection) -> None:
        """See ``put_back``."""
        self.put_back(connection)
