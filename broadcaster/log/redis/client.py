"""redis-py's client, whose commands and pipelines all leave through ``send_all``; and the client of one server."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

from redis.asyncio import Redis
from redis.asyncio.client import Pipeline

from broadcaster.log.redis.pipeline import LogPipeline, raise_first
from broadcaster.log.redis.topology.nodes import Command, Node


class LogRedis(Redis):
    """What the clients of all kinds of Redis have in common."""

    @abstractmethod
    async def send_all(self, commands: Sequence[Command]) -> list[Any]:
        """The reply to each, or its exception, in order."""

    @abstractmethod
    async def servers_of(self, keys: Sequence[str]) -> list[str]:
        """A name for the server of each key."""

    @abstractmethod
    def key_of(self, args: Sequence[Any]) -> bytes:
        """The key by which a command is placed."""

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        """One command. Raises the error that the server or the connection gave."""
        replies = await self.send_all([Command(args, options, self.key_of(args))])
        raise_first(replies)
        return replies[0]

    def pipeline(self, transaction: bool = False, shard_hint: str | None = None) -> Pipeline:
        """Calls that are sent together."""
        if transaction:
            return super().pipeline(True, shard_hint)
        return LogPipeline(self)


class NodeRedis(LogRedis):
    """A client of one server. An error of the connection is raised: it concerns every call."""

    def __init__(self, node: Node) -> None:
        self._node = node
        super().__init__(connection_pool=node.redis.connection_pool)

    async def send_all(self, commands: Sequence[Command]) -> list[Any]:
        """The reply to each, or its ResponseError. Raises redis's errors of the connection."""
        return await self._node.send(commands)

    async def servers_of(self, keys: Sequence[str]) -> list[str]:
        """One server needs no name."""
        return [""] * len(keys)

    def key_of(self, args: Sequence[Any]) -> bytes:
        """No key: nothing is placed."""
        return b""

    async def aclose(self, close_connection_pool: bool | None = None) -> None:
        """Close every connection; the client may be used again."""
        await self._node.aclose()
