"""Which node serves what, now: one server, the primary that sentinels name, or the primaries of a cluster.

It serves our own connections (the feed's, the control listener's); commands go through redis-py, which finds its own
way. Names of nodes are stable for as long as a node is the same server.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Protocol

from broadcaster.log.feed_address import Dialer, NodeAddress
from broadcaster.log.redis_url import Kind, RedisUrl
from broadcaster.log.topology_cluster import ClusterTopology
from broadcaster.log.topology_sentinel import SentinelTopology
from broadcaster.log.topology_watch import TopologyTimes


class Topology(Protocol):
    """The primaries that serve now."""

    @property
    def nodes(self) -> tuple[str, ...]:
        """Their names; none while nobody is known to serve."""
        ...

    def node_of(self, key: str) -> str | None:
        """The node that serves a key or a sharded channel; None: nobody serves that slot now."""
        ...

    def dialer(self, node: str) -> Dialer:
        """How a node is dialled; KeyError when it is none of ``nodes``."""
        ...

    def on_change(self, callback: Callable[[], None]) -> None:
        """Have it called in the loop whenever nodes or slots have changed."""
        ...

    def suspect(self) -> None:
        """Somebody met MOVED, a lost connection, a deaf one: look again soon."""
        ...

    async def run(self) -> None:
        """Keep it current until cancelled."""
        ...


class SingleTopology:
    """One server for ever. There is nothing to watch."""

    def __init__(self, address: Dialer, *, name: str) -> None:
        self._address = address
        self._name = name

    @property
    def nodes(self) -> tuple[str, ...]:
        """The one."""
        return (self._name,)

    def node_of(self, key: str) -> str | None:
        """The one."""
        return self._name

    def dialer(self, node: str) -> Dialer:
        """Its address."""
        return {self._name: self._address}[node]

    def on_change(self, callback: Callable[[], None]) -> None:
        """Nothing changes."""

    def suspect(self) -> None:
        """There is nobody else."""

    async def run(self) -> None:
        """Nothing to do."""


def create_topology(url: RedisUrl, *, times: TopologyTimes | None = None, rng: random.Random | None = None) -> Topology:
    """The topology behind a URL. Of Sentinel and Cluster nothing is known until ``run`` has had its first answer."""
    times, rng = times or TopologyTimes(), rng or random.Random()
    match url.kind:
        case Kind.SINGLE:
            address = NodeAddress.from_url(url.url)
            return SingleTopology(address, name=address.path or f"{address.host}:{address.port}")
        case Kind.SENTINEL:
            return SentinelTopology(url, times=times, rng=rng)
        case Kind.CLUSTER:
            return ClusterTopology(url, times=times, rng=rng)
