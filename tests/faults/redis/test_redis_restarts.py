"""Redis is killed under running answers and comes back: with its data, with an old snapshot of it, with none.

Whatever it has lost is rewritten by the workers that hold it, under the ids that viewers know. So every answer is
whole, none is restarted, and no viewer sees it twice.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from broadcaster.log.redis.connect import LogConnection
from tests.faults.figures import Figures
from tests.faults.redis.redis_trouble import (
    Answer,
    begin,
    gaps,
    judge,
    mark,
    open_system,
    repaired,
    send_more,
    until_so,
)
from tests.faults.world import FaultWorld
from tests.support.log.valkey import ValkeyServer, start_valkey

pytestmark = pytest.mark.second_engine


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="bc-") as path:
        yield Path(path)


async def test_answers_survive_a_restart_with_all_data(
    tmp_path: Path, folder: Path, rounds: int, figures: Figures
) -> None:
    with start_valkey(folder, port=0, appendonly=True) as server:
        async with open_system(tmp_path, server) as world:
            for _ in range(rounds):
                answers = await begin(world, 4)
                marks = mark(answers)
                await restart(server, answers)
                figures.add("repair after a restart with all data", await repaired(answers, since=marks), "s")
                assert [each.talk.starts for each in answers] == [1] * 4
                assert gaps(answers) == []
                await judge(world, figures, answers)


async def test_answers_survive_a_restart_from_an_old_snapshot_and_without_data(
    tmp_path: Path, folder: Path, rounds: int, figures: Figures
) -> None:
    with start_valkey(folder, port=0) as server:
        async with open_system(tmp_path, server) as world:
            for _ in range(rounds):
                await old_snapshot(world, server, figures)
                await no_data(world, server, folder, figures)


async def old_snapshot(world: FaultWorld, server: ValkeyServer, figures: Figures) -> None:
    """One answer is older than the snapshot, one is not in it, one ends after it; one is silent since before it."""
    older, ended, silent = await begin(world, 3)
    silent.talk.is_silent = True
    await save(world.connection)
    saved = await lengths(world)
    (younger,) = await begin(world, 1)
    ended.talk.finish()
    await until_so(lambda: is_settled(world, ended.stream))
    answers = [older, ended, silent, younger]
    held, marks = await lengths(world), mark(answers)
    await restart(server, answers)
    assert await keys_loaded(world) > 0
    figures.add("repair after an old snapshot", await repaired(answers, since=marks), "s")
    # What Redis holds now its workers may have resent already.
    entries_lost = sum(held.values()) - sum(saved.values())
    figures.add("entries a snapshot lacked", entries_lost, "entries")
    assert entries_lost > 0
    await until_so(lambda: has_all(world, held), 5)
    assert [each.talk.starts for each in answers] == [1] * 4
    assert gaps(answers, is_log_lost=True) == []
    await judge(world, figures, answers)


async def no_data(world: FaultWorld, server: ValkeyServer, folder: Path, figures: Figures) -> None:
    """Also an answer that has just ended, and one whose provider is silent: only the break shows the loss."""
    answers = await begin(world, 4)
    _, ended, silent, _ = answers
    silent.talk.is_silent = True
    ended.talk.finish()
    await until_so(lambda: is_settled(world, ended.stream))
    held, marks = await lengths(world), mark(answers)
    (folder / "dump.rdb").unlink(missing_ok=True)
    await restart(server, answers)
    assert await keys_loaded(world) == 0
    figures.add("repair after a restart without data", await repaired(answers, since=marks), "s")
    await until_so(lambda: has_all(world, held), 5)
    assert [each.talk.starts for each in answers] == [1] * 4
    assert gaps(answers, is_log_lost=True) == []
    await judge(world, figures, answers)


async def restart(server: ValkeyServer, answers: Sequence[Answer]) -> None:
    """Kill it, let the providers send something meanwhile, and start it."""
    server.kill()
    await send_more(answers)
    await asyncio.to_thread(server.start)


async def save(connection: LogConnection) -> None:
    await connection.redis.save()


async def is_settled(world: FaultWorld, stream: str) -> bool:
    """Whether its job has left the open index."""
    connection = world.connection
    return await connection.redis.zscore(connection.keys.open, stream) is None


async def lengths(world: FaultWorld) -> dict[str, int]:
    """How many entries Redis has of each stream now; it may be starting."""
    connection = world.connection
    await connection.redis.connection_pool.disconnect()
    return {stream: await connection.redis.xlen(connection.keys.log(stream)) for stream in world.streams}


async def keys_loaded(world: FaultWorld) -> int:
    """How many keys Redis found in its snapshot when it started."""
    await world.connection.redis.connection_pool.disconnect()
    found: dict[str, int] = await world.connection.redis.info("persistence")
    return found["rdb_last_load_keys_loaded"]


async def has_all(world: FaultWorld, held: dict[str, int]) -> bool:
    """Whether Redis has at least what it had."""
    now = await lengths(world)
    return all(now[stream] >= count for stream, count in held.items())
