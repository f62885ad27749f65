"""Runs of AG-UI over a world in memory: the worker that answers them, and what their clients hold at the end."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Sequence
from typing import Any

from broadcaster.core import events as ev
from tests.support.memory.memory_world import MemoryWorld
from tests.support.servers.front_end import DEADLINE_S


class Worker:
    """Answers each run with the same events, one at a time, once it has a viewer; half of them wait for ``may_end``."""

    def __init__(self, world: MemoryWorld, events: Sequence[ev.KnownEvent | ev.DataEvent]) -> None:
        self._world = world
        self._events = events
        self._answering: set[asyncio.Task[None]] = set()
        self.may_end = asyncio.Event()
        self.may_end.set()
        world.on_create = self._create

    def _create(self, generation_id: str) -> None:
        self._answering.add(asyncio.create_task(self._answer(generation_id)))

    async def _answer(self, generation_id: str) -> None:
        stream = self._world.streams[generation_id]
        async with asyncio.timeout(DEADLINE_S):
            while stream.sink is None:
                await asyncio.sleep(0)
            for at, event in enumerate(self._events):
                if at == len(self._events) // 2:
                    await self.may_end.wait()
                self._world.append(generation_id, event)
                await asyncio.sleep(0)


def messages_of(shown: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Without what differs between clients of a run: a joiner has other ids for the user's messages."""
    shown_events: list[dict[str, Any]] = json.loads(re.sub(r"gen_\d+", "gen", json.dumps(shown)))
    return [{**message, "id": None} if message["role"] == "user" else message for message in shown_events]
