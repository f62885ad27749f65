"""A worker's side of many running generations, which append on through whatever happens to Redis."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final

from broadcaster.core.events import Finish, TextDelta
from broadcaster.log.jobs.claims import Outcome
from broadcaster.log.redis.connect import LogConnection
from broadcaster.log.streams.writer import StreamWriter
from tests.support.log.log_world import World

EVERY_S: Final = 0.02
BACK_S: Final = 15.0
"""How soon appends must succeed again after a primary was killed: its failover, and then our own finding it."""


@dataclass
class Running:
    """Generations that append. ``longest_s`` is each stream's longest silence between two acknowledged appends."""

    world: World
    writers: Sequence[StreamWriter]
    written: dict[str, list[str]] = field(default_factory=dict)
    longest_s: dict[str, float] = field(default_factory=dict)

    async def appended(self, count: int, *, deadline_s: float = BACK_S) -> float:
        """Until every stream had so many more acknowledged; how long that took."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        wanted = [(writer, writer.acked_seq + count) for writer in self.writers]
        async with asyncio.timeout(deadline_s):
            while any(writer.acked_seq < seq for writer, seq in wanted):
                assert not any(writer.over.is_set() for writer in self.writers), "a writer lost its stream"
                await asyncio.sleep(0.005)
        return loop.time() - began

    async def produce(self, writer: StreamWriter) -> None:
        """Write an event every few milliseconds, and note how long no event is confirmed."""
        loop = asyncio.get_running_loop()
        texts = self.written.setdefault(writer.stream_id, [])
        acked_seq, acked_at = 0, loop.time()
        while True:
            texts.append(f"{len(texts)} ")
            writer.write([TextDelta(id="0", delta=texts[-1])])
            await asyncio.sleep(EVERY_S)
            if writer.acked_seq != acked_seq:
                silent_s, acked_seq, acked_at = loop.time() - acked_at, writer.acked_seq, loop.time()
                self.longest_s[writer.stream_id] = max(silent_s, self.longest_s.get(writer.stream_id, 0.0))

    async def end(self) -> None:
        """End them all; afterwards every event that was written is in its log, once and in order, of one attempt."""
        await asyncio.gather(
            *(writer.end([Finish(finish_reason="stop")], deadline_s=BACK_S) for writer in self.writers)
        )
        for writer in self.writers:
            entries = await self.world.streams.read(writer.stream_id, count=10_000)
            assert [entry.seq for entry in entries] == list(range(1, len(self.written[writer.stream_id]) + 2))
            texts = [f'"delta":"{text}"'.encode() for text in self.written[writer.stream_id]]
            assert all(text in entry.event for text, entry in zip(texts, entries[:-1], strict=True))
            meta = await self.world.streams.meta(writer.stream_id)
            assert meta is not None
            assert (meta.status, meta.attempts) == ("finished", 1)


@asynccontextmanager
async def running(connection: LogConnection, ids: Sequence[str], *, lease_ms: int = 3000) -> AsyncIterator[Running]:
    """These generations, claimed and appending, their leases kept; ended and checked by ``end``."""
    world = World(connection, lease_ms=lease_ms, max_events=100_000, max_bytes=10**7)
    async with world.appender() as appender, asyncio.TaskGroup() as group:
        keeper = world.keeper(appender, is_patient=False)
        tasks = [group.create_task(world.steadiness.run()), group.create_task(keeper.run())]
        await asyncio.wait_for(world.steadiness.answering.wait(), BACK_S)
        writers = []
        for stream_id in ids:
            claim = await world.claim(stream_id)
            assert claim.outcome is Outcome.GRANTED
            writers.append(await world.writer(stream_id, claim, appender, keeper))
        run = Running(world, writers)
        producers = [group.create_task(run.produce(writer)) for writer in writers]
        await run.appended(2)
        yield run
        for producer in producers:
            producer.cancel()
        await asyncio.gather(*producers, return_exceptions=True)
        await run.end()
        for task in tasks:
            task.cancel()
