"""Connections to Redis that hang, break, lag, are half open, or lose pushes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from typing import Final

from tests.hunt.draw import Step
from tests.hunt.faults.base import FaultBase
from tests.hunt.system.relay import DOWN, UP, HuntRelay
from tests.hunt.system.servers import SentinelServers

LAG_S: Final = 4.0
# Sentinels give a server up after a second: a link that is slower than this may cost it its role.
MOST_NODE_LAG_S: Final = 0.2


class RelayFaults(FaultBase):
    """Before one server each process has a relay of its own; else each node has one, for all that connect to it."""

    @asynccontextmanager
    async def _relayed(self, step: Step, title: str, *, fails_over: bool = False) -> AsyncIterator[HuntRelay | None]:
        """The relay of this step, healed at the end; None: another fault of the nodes is under way."""
        at = int(step.who * len(self._world.relays))
        relay = self._world.relays[at]
        kind, _, rest = title.partition(" ")
        name = f"relay-{kind} {at} {rest}"
        if self._world.setup.topology == "one":
            async with self._window(name):
                yield relay
                relay.heal()
            return
        async with self._redis(name) as mine:
            if not mine:
                yield None
                return
            loses = fails_over and isinstance(self._world.servers, SentinelServers)
            with self._loss() if loses else nullcontext():
                yield relay
                relay.heal()
                await asyncio.to_thread(self._world.servers.heal)

    async def hang_relay(self, step: Step) -> None:
        directions = ((UP,), (DOWN,), (UP, DOWN))[int(step.much * 3)]
        for_s = 0.5 + 8 * (step.much * 3 % 1)
        title = f"hangs {'+'.join(directions)} {for_s:.2f} s"
        async with self._relayed(step, title, fails_over=True) as relay:
            if relay is not None:
                relay.hang(*directions)
                await asyncio.sleep(for_s)

    async def cut_relay(self, step: Step) -> None:
        async with self._relayed(step, "cut") as relay:
            if relay is not None:
                relay.cut()

    async def lag_relay(self, step: Step) -> None:
        direction = UP if step.much < 0.5 else DOWN
        lag_s = 0.05 + 0.5 * (step.much * 2 % 1)
        async with self._relayed(step, f"lags {direction}") as relay:
            if relay is not None:
                is_node = self._world.setup.topology != "one"
                relay.lag(direction, min(lag_s, MOST_NODE_LAG_S) if is_node else lag_s)
                await asyncio.sleep(LAG_S)

    async def forget_relay(self, step: Step) -> None:
        """Connections are half open: Redis has lost them, their clients have not."""
        for_s = 1 + 7 * step.much
        async with self._relayed(step, f"forgets {for_s:.2f} s") as relay:
            if relay is not None:
                relay.forget((0.5, 1.0)[step.seed % 2], step.seed)
                await asyncio.sleep(for_s)

    async def lose_pushes(self, step: Step) -> None:
        """Messages of live channels are lost wherever they pass, and their connections stay."""
        for_s = 2 + 6 * step.much
        share = (0.1, 0.5)[step.seed % 2]
        async with self._window(f"pushes-lost {share} {for_s:.2f} s"):
            for relay in self._world.relays:
                relay.lose(share, step.seed)
            await asyncio.sleep(for_s)
            for relay in self._world.relays:
                relay.lose(0.0, step.seed)
