"""Workers and front-ends that are killed, frozen and ended."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Final

from tests.hunt.draw import Step
from tests.hunt.faults.base import FaultBase
from tests.hunt.judging.answers import Violation
from tests.hunt.system.lag import MOST_LAG_S
from tests.hunt.system.processes import Life

FREEZE_LEASES: Final = 3.0


class ProcessFaults(FaultBase):
    """See the module's text."""

    async def kill_worker(self, step: Step) -> None:
        await self._replace(self._world.workers, step, is_killed=True)

    async def end_worker(self, step: Step) -> None:
        await self._replace(self._world.workers, step, is_killed=False)

    async def kill_front_end(self, step: Step) -> None:
        await self._replace(self._world.front_ends, step, is_killed=True)

    async def end_front_end(self, step: Step) -> None:
        await self._replace(self._world.front_ends, step, is_killed=False)

    async def _replace(self, lives: Sequence[Life], step: Step, *, is_killed: bool) -> None:
        life = lives[int(step.who * len(lives))]
        if life.is_busy:
            return
        life.is_busy = True
        async with self._window(f"{'SIGKILL' if is_killed else 'SIGTERM'} {life.name}"):
            if is_killed:
                await life.kill()
                if life in self._world.workers:
                    self._world.worker_kills.append(time.monotonic())
            else:
                await self._end(life)
            await asyncio.sleep(step.much * 2)
            await life.start()
        life.is_busy = False

    async def _end(self, life: Life) -> None:
        began = time.monotonic()
        wrong = await life.end()
        if wrong is None:
            return
        late_s = self._world.lag.longest(began, time.monotonic())
        if late_s > MOST_LAG_S:
            self._world.report(f"{wrong}, and the driver was {late_s:.2f} s late")
        else:
            self._world.found.append(Violation("end", life.name, wrong))

    async def freeze_worker(self, step: Step) -> None:
        await self._freeze(self._world.workers, step)

    async def freeze_front_end(self, step: Step) -> None:
        await self._freeze(self._world.front_ends, step)

    async def _freeze(self, lives: Sequence[Life], step: Step) -> None:
        life = lives[int(step.who * len(lives))]
        if life.is_busy:
            return
        life.is_busy = True
        for_s = FREEZE_LEASES * self._lease_s * step.much
        async with self._window(f"SIGSTOP {life.name} {for_s:.2f} s"):
            life.freeze()
            await asyncio.sleep(for_s)
            life.thaw()
        life.is_busy = False

    async def kill_member(self, step: Step) -> None:
        """One of the processes of a front-end that has several."""
        several = [life for life in self._world.front_ends if "2" in life.arguments and not life.is_busy]
        if several:
            async with self._window(f"SIGKILL a-child-of {several[0].name}"):
                several[0].kill_member(step.who)
