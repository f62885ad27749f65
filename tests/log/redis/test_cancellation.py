"""A task that is cancelled in the middle of a command ends: a drain cancels, and must not wait for ever."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from broadcaster.log.redis.connect import LogConnection
from broadcaster.log.streams.reader import Streams

TURNS = 60

COMMANDS: dict[str, Callable[[LogConnection], Awaitable[object]]] = {
    "a command": lambda connection: connection.redis.ping(),
    "a pipeline": lambda connection: Streams(connection).tails(["a", "b"]),
}


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS.keys())
async def test_a_task_that_is_cancelled_at_any_turn_of_a_command_ends(
    connection: LogConnection, command: Callable[[LogConnection], Awaitable[object]]
) -> None:
    async def repeat() -> None:
        while True:
            await command(connection)

    for turns in range(TURNS):
        task = asyncio.create_task(repeat())
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        done, _ = await asyncio.wait({task}, timeout=2)
        assert done, f"still running, cancelled after {turns} turns"
        assert task.cancelled()


async def test_a_connection_serves_on_after_a_cancelled_command(connection: LogConnection) -> None:
    await connection.redis.set("k", "v")

    async def read() -> None:
        await connection.redis.get("k")

    for turns in range(20):
        task = asyncio.create_task(read())
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait({task})
        assert await connection.redis.get("k") == b"v"
