"""redis-py's pipeline without a transaction, which can also read the clock of a key's server.

Times that scripts wrote are compared with the clock of the server that ran them, never with ours; on a cluster that is
the server of the key. ``clock(key)`` costs one TIME for each server, however many keys need it. The clocks are read
before the commands of the pipeline. When a clock could not be read, ``now_ms`` raises that error.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Protocol

from redis.asyncio import ConnectionPool
from redis.asyncio.client import Pipeline

from broadcaster.log.redis.topology.nodes import Command


def raise_first(replies: Iterable[Any]) -> None:
    """Raises the first error among these replies."""
    for reply in replies:
        if isinstance(reply, Exception):
            raise reply


class _Client(Protocol):
    """See ``LogRedis``."""

    @property
    def connection_pool(self) -> ConnectionPool: ...

    @property
    def response_callbacks(self) -> Any: ...

    async def send_all(self, commands: Sequence[Command]) -> list[Any]: ...

    async def servers_of(self, keys: Sequence[str]) -> list[str]: ...

    def key_of(self, args: Sequence[Any]) -> bytes: ...


class LogPipeline(Pipeline):
    """Call ``clock`` before ``execute``, ``now_ms`` after it; the replies of clocks are not in the list."""

    def __init__(self, client: _Client) -> None:
        super().__init__(client.connection_pool, client.response_callbacks, transaction=False, shard_hint=None)
        self._client = client
        self._clock_keys: dict[str, None] = {}
        self._clocks: dict[str, Any] = {}

    def clock(self, key: str) -> None:
        """Request the time of the server of this key."""
        self._clock_keys[key] = None

    def now_ms(self, key: str) -> int:
        """The time of its server, in milliseconds. Raises the error that the server gave instead."""
        time = self._clocks[key]
        if isinstance(time, Exception):
            raise time
        seconds, micros = time
        return int(seconds * 1000 + micros // 1000)

    async def execute(self, raise_on_error: bool = True) -> list[Any]:
        """The replies in order. Raises errors of the connection, or with ``raise_on_error`` the first error."""
        client = self._client
        keys, self._clock_keys = list(self._clock_keys), {}
        servers = await client.servers_of(keys) if keys else []
        key_of_server = dict(zip(servers, keys, strict=True))
        stack, self.command_stack = self.command_stack, []
        commands = [Command(("TIME",), key=key.encode()) for key in key_of_server.values()]
        commands += [Command(args, options, client.key_of(args)) for args, options in stack]
        replies = await client.send_all(commands)
        times = dict(zip(key_of_server, replies, strict=False))
        self._clocks = {key: times[server] for key, server in zip(keys, servers, strict=True)}
        replies = replies[len(key_of_server) :]
        if raise_on_error:
            raise_first(replies)
        return replies
