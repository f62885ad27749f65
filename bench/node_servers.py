"""The two libraries of node that people use for this: better-sse, and resumable-stream behind node's own server."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from bench.processes import Child, free_ports
from bench.programs import PEERS, find_node
from bench.servers import OneProcess, WithRedis


class BetterSse(OneProcess):
    """better-sse: channels in memory."""

    name = "better-sse"
    carries = 30_000.0

    def __init__(self) -> None:
        super().__init__()
        self._node, self._modules = find_node(self.name)
        self._events_port = 0

    def start(self, folder: Path) -> None:
        """See Server."""
        self.port, self._events_port = free_ports(2)
        self.child = Child(
            [self._node, PEERS / "better_sse.mjs", str(self.port), str(self._events_port)],
            log=folder / f"{self.name}.log",
            environment={"NODE_ROOT": str(self._modules), "NODE_ENV": "production"},
        )
        self.child.wait_for_port(self._events_port)

    def path(self, run: str) -> str:
        """See Server."""
        return f"/{run}/{{i}}"

    def publish_to(self, run: str, count: int) -> Sequence[str]:
        """See Server."""
        return ["--lines", "--port", str(self._events_port)]


class ResumableStream(WithRedis):
    """resumable-stream: the first viewer's process produces, the others read through Redis."""

    name = "resumable-stream"
    carries = 16_000.0
    program: ClassVar[str] = "resumable_stream.mjs"

    def __init__(self) -> None:
        super().__init__()
        self._node, self._modules = find_node(self.name)
        self._events_port = 0

    def start(self, folder: Path) -> None:
        """See Server."""
        self.start_redis(folder)
        self.port, self._events_port = free_ports(2)
        self.child = Child(
            [self._node, PEERS / self.program, str(self.port), str(self._events_port)],
            log=folder / f"{self.name}.log",
            environment={
                "NODE_ROOT": str(self._modules),
                "NODE_ENV": "production",
                "REDIS_SOCKET": self.redis_socket,
            },
        )
        self.child.wait_for_port(self._events_port)

    def path(self, run: str) -> str:
        """See Server."""
        return f"/{run}/{{i}}"

    def publish_to(self, run: str, count: int) -> Sequence[str]:
        """See Server."""
        return ["--lines", "--port", str(self._events_port)]
