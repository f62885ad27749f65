"""redis-py's pipeline without a transaction, which can also be asked what time it is where a key lives.

Times that scripts wrote are compared with the clock of the server that ran them, never with ours; on a cluster that is
the server of the key. ``clock(key)`` costs one TIME for each server, however many keys ask.
"""

from __future__ import annotations

from typing import Any

from redis.asyncio import ConnectionPool
from redis.asyncio.client import Pipeline


class LogPipeline(Pipeline):
    """``clock`` what ``now_ms`` shall know after ``execute``; its answers are left out of the list."""

    def __init__(self, pool: ConnectionPool, response_callbacks: Any) -> None:
        super().__init__(pool, response_callbacks, transaction=False, shard_hint=None)
        self._clock_at: dict[str, int] = {}
        self._clocks: dict[str, str] = {}
        self._now_ms: dict[str, int] = {}

    def clock(self, key: str) -> None:
        """Ask for the time, in milliseconds, of the server of this key."""
        server = self._server_of(key)
        self._clocks[key] = server
        if server not in self._clock_at:
            self._clock_at[server] = len(self.command_stack)
            self._ask_time(key)

    def now_ms(self, key: str) -> int:
        """What its server's clock said."""
        return self._now_ms[self._clocks[key]]

    async def execute(self, raise_on_error: bool = True) -> list[Any]:
        """The answers in order. Raises what concerns the connection, or with ``raise_on_error`` the first error."""
        clocks, self._clock_at = self._clock_at, {}
        answers = await self._execute(raise_on_error)
        for server, at in clocks.items():
            if isinstance(answers[at], Exception):
                raise answers[at]
            seconds, micros = answers[at]
            self._now_ms[server] = seconds * 1000 + micros // 1000
        left_out = set(clocks.values())
        return [answer for at, answer in enumerate(answers) if at not in left_out] if left_out else answers

    def _server_of(self, key: str) -> str:
        return ""

    def _ask_time(self, key: str) -> None:
        self.time()

    async def _execute(self, raise_on_error: bool) -> list[Any]:
        return await super().execute(raise_on_error)
