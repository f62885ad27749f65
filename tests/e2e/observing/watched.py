"""A stack that a real Prometheus scrapes: each process gets a port for its metrics before it is started."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.scraping import port_of
from tests.support.servers.processes import Running, Stack
from tests.support.servers.prometheus import Prometheus, open_prometheus


@dataclass
class Watched:
    """The front-ends and workers of a stack that serve metrics."""

    stack: Stack
    front_ends: list[Running] = field(default_factory=list)
    workers: list[Running] = field(default_factory=list)

    async def front_end(self, **settings: object) -> Running:
        """One more front-end."""
        self.front_ends.append(running := await self.stack.front_end(metrics_port=0, **settings))
        return running

    async def worker(self, **settings: object) -> Running:
        """One more worker."""
        self.workers.append(running := await self.stack.worker(metrics_port=0, **settings))
        return running

    @asynccontextmanager
    async def prometheus(self, folder: Path) -> AsyncIterator[Prometheus]:
        """A Prometheus that scrapes all of them, at a moment when no alert fires."""
        ports = [await _ports(self.front_ends), await _ports(self.workers)]
        async with open_prometheus(folder, front_ends=ports[0], workers=ports[1]) as prometheus:
            await prometheus.until_calm()
            yield prometheus


async def _ports(processes: Sequence[Running]) -> list[int]:
    return [await port_of(each) for each in processes]
