"""redis-py's pipeline without a transaction, which can also be asked what time it is where a key lives.

Times that scripts wrote are compared with the clock of the server that ran them, never with ours; on a cluster that is
the server of the key. ``clock(key)`` costs one TIME for each server, however many keys ask. The clocks are read before
the commands of the pipeline, whoever asked first; one that could not be read is the error of those who ask for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from redis.asyncio import ConnectionPool
from redis.asyncio.client import Pipeline


class LogPipeline(Pipeline):
    """``clock`` what ``now_ms`` shall know after ``execute``; its answers are left out of the list."""

    def __init__(self, pool: ConnectionPool, response_callbacks: Any) -> None:
        super().__init__(pool, response_callbacks, transaction=False, shard_hint=None)
        self._clock_keys: dict[str, None] = {}
        self._clocks: dict[str, Any] = {}

    def clock(self, key: str) -> None:
        """Ask for the time, in milliseconds, of the server of this key."""
        self._clock_keys[key] = None

    def now_ms(self, key: str) -> int:
        """What its server's clock said. Raises what its server answered instead."""
        told = self._clocks[key]
        if isinstance(told, Exception):
            raise told
        seconds, micros = told
        return int(seconds * 1000 + micros // 1000)

    async def execute(self, raise_on_error: bool = True) -> list[Any]:
        """The answers in order. Raises what concerns the connection, or with ``raise_on_error`` the first error."""
        keys, self._clock_keys = list(self._clock_keys), {}
        if not keys:
            return await self._execute(raise_on_error)
        servers = await self._servers_of(keys)
        asked = dict(zip(servers, keys, strict=True))
        commands, self.command_stack = self.command_stack, []
        for key in asked.values():
            self._ask_time(key)
        self.command_stack += commands
        answers = await self._execute(raise_on_error=False)
        told = dict(zip(asked, answers, strict=False))
        self._clocks = {key: told[server] for key, server in zip(keys, servers, strict=True)}
        answers = answers[len(asked) :]
        if raise_on_error:
            for answer in answers:
                if isinstance(answer, Exception):
                    raise answer
        return answers

    async def _servers_of(self, keys: Sequence[str]) -> list[str]:
        return [""] * len(keys)

    def _ask_time(self, key: str) -> None:
        self.time()

    async def _execute(self, raise_on_error: bool) -> list[Any]:
        return await super().execute(raise_on_error)
