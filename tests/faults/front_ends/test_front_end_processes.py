"""Front-end processes of one port killed and ended under load: their parent restarts them."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path
from typing import Final

from tests.faults.figures import Figures
from tests.faults.front_ends.crowd import DEADLINE_S, open_crowd
from tests.faults.history import OK, Opened
from tests.faults.world import open_world
from tests.support.log.valkey import ValkeyServer
from tests.support.servers.processes import Running, children, until_dead

VIEWERS: Final = 60
BACK_S: Final = 5.0
MOST_DEATHS: Final = 8
"""Under one parent: its pauses before a restart grow while its processes keep dying, to half a minute."""


async def test_a_process_that_dies_is_restarted_and_viewers_of_the_other_notice_nothing(
    tmp_path: Path, server: ValkeyServer, rounds: int, figures: Figures
) -> None:
    left = max(2, rounds)
    while left:
        deaths = min(left, MOST_DEATHS)
        left -= deaths
        folder = tmp_path / str(left)
        folder.mkdir()
        await check_deaths(folder, server, deaths, figures)


async def check_deaths(folder: Path, server: ValkeyServer, deaths: int, figures: Figures) -> None:
    """So many in turn, under one parent."""
    async with open_world(folder, redis=server, heartbeat_s=1.0) as world:
        await world.worker()
        house = await world.front_end(processes=2)
        for turn in range(deaths):
            # New ones each time: those of before are all at the one that lived.
            async with open_crowd(world, streams=2, viewers=VIEWERS) as crowd:
                number = signal.SIGKILL if turn % 2 == 0 else signal.SIGTERM
                victim, other = children(house.pid)
                aftermath = await crowd.cause(ended(victim, number))
                # Those of the other have received deltas meanwhile, on the connection that they had.
                assert 0 < len(aftermath.back_s) < VIEWERS
                assert set(aftermath.closings) == {"torn" if number == signal.SIGKILL else "clean"}
                for back_s in aftermath.back_s:
                    figures.add(f"front-end process {number.name} → next entry", back_s, "s")
                assert max(aftermath.back_s) < BACK_S
                await until_served(house, 3 + turn)
                assert len(after := children(house.pid)) == 2
                assert other in after
        history = await world.check()
    opened = [each for trace in history.viewers.values() for each in trace.happenings if isinstance(each, Opened)]
    assert {each.status for each in opened} == {OK}


async def ended(pid: int, number: signal.Signals) -> None:
    os.kill(pid, number)
    await until_dead([pid], DEADLINE_S)


async def until_served(house: Running, times: int) -> None:
    """Until so many processes have begun to serve since its start."""
    async with asyncio.timeout(DEADLINE_S):
        while house.log.read_text("utf-8").count("front_end_serves") < times:
            await asyncio.sleep(0.02)
