"""The three kinds of Redis. All keep what they acknowledged over a restart (``appendfsync always``).

``loses``: whether what was acknowledged may be lost from now on (a failover of an asynchronous replica, ``--lossy``).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Protocol

from redis.exceptions import RedisError

from tests.support.log.redis_cluster import RedisCluster6, start_cluster
from tests.support.log.redis_sentinel import Sentinels, execute_at, start_sentinels
from tests.support.log.valkey import ValkeyServer, server_binary

ANSWER_S: Final = 40.0
_DEBUG: Final = ("--enable-debug-command", "local")


class Servers(Protocol):
    """What the run needs of a Redis, whatever kind it is of."""

    loses: bool

    @property
    def url(self) -> str:
        """As a setting has it."""

    def node_of(self, key: str) -> ValkeyServer:
        """The server that has this key now."""

    def all(self) -> Sequence[ValkeyServer]:
        """All data servers."""

    def heal(self) -> None:
        """Bring back everything that is away, and wait until it is well."""


def port_of(server: ValkeyServer) -> int:
    """Its TCP port."""
    return int(server.url.rpartition(":")[2])


def insist(servers: Servers, key: str, *arguments: str) -> Any:
    """One command to the server of this key, repeated until it answers. Raises RedisError after ``ANSWER_S``."""
    until = time.monotonic() + ANSWER_S
    while True:
        try:
            return execute_at(port_of(servers.node_of(key)), *arguments)
        except (RedisError, LookupError, RuntimeError):
            if time.monotonic() > until:
                raise
            time.sleep(0.1)


async def read_log(servers: Servers, stream: str) -> list[tuple[str, bytes]]:
    """Ids and events of a stream, as the log has them now."""
    rows = await asyncio.to_thread(insist, servers, f"bc:{{{stream}}}:log", "XRANGE", f"bc:{{{stream}}}:log", "-", "+")
    return [(id.decode(), dict(zip(fields[::2], fields[1::2], strict=True))[b"e"]) for id, fields in rows]


class OneServer:
    """One server; with ``clock`` its wall clock is the time in that file (libfaketime)."""

    def __init__(self, folder: Path, *, keeps: bool, clock: Path | None) -> None:
        self.loses = False
        self.clock = clock
        self.server = ValkeyServer(folder, port=0, appendonly=keeps, options=_DEBUG)

    @property
    def url(self) -> str:
        return self.server.url

    def node_of(self, key: str) -> ValkeyServer:
        return self.server

    def all(self) -> Sequence[ValkeyServer]:
        return [self.server]

    def start(self) -> None:
        """Start it, under libfaketime where there is a clock."""
        with _preloaded(self.clock):
            self.server.start()

    def heal(self) -> None:
        with contextlib.suppress(RuntimeError):
            self.server.resume()
            return
        self.start()

    def step_clock(self, seconds: int) -> None:
        """From now on its wall clock is so far from the machine's."""
        assert self.clock is not None
        self.clock.write_text(f"{seconds:+d}\n")


class SentinelServers:
    """A primary, its replica and three sentinels."""

    loses = False

    def __init__(self, sentinels: Sentinels) -> None:
        self.sentinels = sentinels

    @property
    def url(self) -> str:
        return self.sentinels.url

    def node_of(self, key: str) -> ValkeyServer:
        return self.sentinels.primary

    def all(self) -> Sequence[ValkeyServer]:
        return self.sentinels.servers

    def heal(self) -> None:
        for server in self.sentinels.servers:
            _bring_back(server)
        self.sentinels.wait_whole(60.0)


class ClusterServers:
    """Three primaries with a replica each."""

    loses = False

    def __init__(self, cluster: RedisCluster6) -> None:
        self.cluster = cluster

    @property
    def url(self) -> str:
        return self.cluster.url

    def node_of(self, key: str) -> ValkeyServer:
        return self.cluster.primary_of(key)

    def all(self) -> Sequence[ValkeyServer]:
        return self.cluster.nodes

    def heal(self) -> None:
        for node in self.cluster.nodes:
            _bring_back(node)
        self.cluster.wait_ok(60.0)


def _bring_back(server: ValkeyServer) -> None:
    try:
        server.resume()
    except RuntimeError:
        server.start()


def _keep(servers: Sequence[ValkeyServer]) -> None:
    """From now on, over restarts too, they keep what they acknowledged."""
    for server in servers:
        for arguments in (("CONFIG", "SET", "appendfsync", "always"), ("CONFIG", "SET", "appendonly", "yes")):
            execute_at(port_of(server), *arguments)
        server._appendonly = True


@contextmanager
def open_servers(
    kind: str, folder: Path, *, lossy: bool, clock: Path | None, announce: Callable[[int], int]
) -> Iterator[Servers]:
    """A running Redis of this kind (``one``, ``sentinel``, ``cluster``); gone when the block ends.

    ``announce`` gives the port that a node of the latter two announces.
    """
    folder.mkdir()
    if kind == "sentinel":
        with start_sentinels(folder, announce=announce) as sentinels:
            _keep(sentinels.servers)
            yield SentinelServers(sentinels)
    elif kind == "cluster":
        with start_cluster(folder, announce=announce) as cluster:
            _keep(cluster.nodes)
            yield ClusterServers(cluster)
    else:
        one = OneServer(folder, keeps=not lossy, clock=clock)
        one.start()
        try:
            yield one
        finally:
            one.server.stop()


def find_faketime() -> Path | None:
    """libfaketime, where it is there and this engine bears it (Debian's Redis hangs: its allocator reads the time)."""
    if "redis" in server_binary().name:
        return None
    found: Callable[[Path], list[Path]] = lambda folder: sorted(folder.glob("**/libfaketimeMT.so.1"))  # noqa: E731
    folders = (Path(__file__).resolve().parents[3] / ".venv" / "faketime", Path("/usr/lib"))
    return next((path for folder in folders if folder.is_dir() for path in found(folder)), None)


def fake_clock(clock: Path) -> dict[str, str]:
    """What a process needs in its environment for its wall clock to be the time in this file."""
    return {
        "LD_PRELOAD": str(find_faketime()),
        "FAKETIME_TIMESTAMP_FILE": str(clock),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }


@contextmanager
def _preloaded(clock: Path | None) -> Iterator[None]:
    """The environment of a server that is started inside: ValkeyServer gives it its own."""
    added = {} if clock is None else fake_clock(clock)
    os.environ.update(added)
    try:
        yield
    finally:
        for name in added:
            del os.environ[name]
