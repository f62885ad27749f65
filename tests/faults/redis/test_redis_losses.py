"""Redis is killed and comes back empty while answers wait for a worker."""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from broadcaster.client import AsyncClient
from tests.faults.front_ends.viewers import RecordedViewer
from tests.faults.redis.redis_trouble import LEASE_S, REPAIR_S, open_system, until
from tests.faults.world import FaultWorld
from tests.support.log.valkey import ValkeyServer, start_valkey

STALL_TIMEOUT_S: Final = 20.0
LOAD_S: Final = 2.0
"""What a busy machine may add."""


@pytest.fixture
def server() -> Iterator[ValkeyServer]:
    """One without a snapshot: it comes back empty."""
    with tempfile.TemporaryDirectory(prefix="bc-") as path, start_valkey(Path(path), port=0) as started:
        yield started


async def test_an_accepted_answer_is_requeued_by_its_front_end_and_its_viewers_notice_nothing(
    tmp_path: Path, server: ValkeyServer
) -> None:
    async with open_system(tmp_path, server, workers=0) as world:
        stream = await world.start("Hello ", "world")
        viewers = world.view(stream, 3)
        await is_watched(viewers)

        server.kill()
        await asyncio.to_thread(server.start)
        await world.worker()

        await world.settle(30)
        await world.check()
        for viewer in viewers:
            assert '"finish"' in viewer.text
            assert not {"hub.gap", "hub.bye"} & {*viewer.notices}
            assert viewer.connections == 1


async def test_viewers_of_an_answer_that_nothing_can_rewrite_receive_a_gap_and_an_error(
    tmp_path: Path, server: ValkeyServer
) -> None:
    async with open_system(tmp_path, server, workers=0, stall_timeout_s=STALL_TIMEOUT_S) as world:
        creator, other = world.front_ends
        async with AsyncClient(creator.url) as client:
            stream = (await client.start("hi", model="claude-lost")).id
        world.streams.append(stream)
        world.urls = [other.url]
        viewers = world.view(stream, 3)
        await is_watched(viewers)

        await creator.kill()
        server.kill()
        await asyncio.to_thread(server.start)
        back_at = time.monotonic()

        await until(lambda: all(viewer.is_over.is_set() for viewer in viewers), STALL_TIMEOUT_S)
        took_s = time.monotonic() - back_at
        (late,) = world.view(stream)
        await until(late.is_over.is_set)
        for viewer in (*viewers, late):
            assert '"log_lost"' in viewer.entries[-1][1].decode()
            assert "hub.gap" in viewer.notices
        assert took_s < LEASE_S + REPAIR_S + LOAD_S
        assert await answer_of(world, stream) == "failed"
        await world.check(is_lossy=True)


async def is_watched(viewers: list[RecordedViewer]) -> None:
    """Until they have been answered; their front-end has checked no tail yet."""
    await until(lambda: all("hub.hello" in viewer.notices for viewer in viewers))


async def answer_of(world: FaultWorld, stream: str) -> str:
    async with AsyncClient(world.urls[0]) as client:
        return (await client.get(stream)).status
