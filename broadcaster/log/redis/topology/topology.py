"""Which server serves what, now: one server, the primary that Sentinels name, or the primaries of a cluster.

A process has one topology for each ``LogConnection``. Calls (``Placement``) and the subscriber connections
(``Topology``) follow the same object. Names of nodes are stable for as long as a node is the same server.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Protocol

from redis.asyncio.connection import AbstractConnection

from broadcaster.log.redis.address import Dialer, NodeAddress
from broadcaster.log.redis.topology.cluster import ClusterTopology
from broadcaster.log.redis.topology.refresh import PACE_S, TopologyClient, TopologyTimes
from broadcaster.log.redis.topology.sentinel import SentinelTopology
from broadcaster.log.redis.url import RedisKind, RedisUrl


class Topology(Protocol):
    """The primaries that serve now, as subscriptions need them."""

    @property
    def nodes(self) -> tuple[str, ...]:
        """Their names; empty while no server is known to serve."""

    def node_of(self, key: str) -> str | None:
        """The node that serves a key or a sharded channel; None: no server is known to."""

    def dialer(self, node: str) -> Dialer:
        """How a node is dialled; KeyError when it is not one of ``nodes``."""

    def on_change(self, callback: Callable[[], None]) -> None:
        """Have it called in the loop whenever nodes or slots have changed."""

    def suspect(self) -> None:
        """Refresh soon: there was a MOVED, a lost connection, or one that delivers nothing."""

    async def run(self) -> None:
        """Keep it current until cancelled."""


class Placement(Protocol):
    """The same as calls need it. The names of servers are ``host:port``."""

    def register(self, client: TopologyClient) -> None:
        """Call the client whenever other servers serve; it is referenced weakly."""

    @property
    def nodes(self) -> tuple[str, ...]:
        """The primaries that serve now; empty before the first refresh."""

    @property
    def replicas(self) -> tuple[str, ...]:
        """The servers that stand by, as far as they are known."""

    @property
    def has_served(self) -> bool:
        """Whether any server has been known to serve yet."""

    @property
    def is_whole(self) -> bool:
        """Whether every key has a server."""

    def node_of(self, key: bytes) -> str | None:
        """The server of the key; None: no server is known to serve it."""

    def is_doubtful(self, node: str | None) -> bool:
        """Whether to refresh before a call is sent to the node."""

    def doubt(self, node: str) -> None:
        """The node did not reply, or reported that it no longer serves."""

    def move(self, slot: int, *, source: str, target: str) -> None:
        """``source`` has redirected a call: ``target`` serves the slot."""

    async def refresh(self, *, max_age_s: float = PACE_S) -> None:
        """Find out which servers serve, unless the last refresh ended less than ``max_age_s`` ago."""

    async def verify(self, connection: AbstractConnection) -> None:
        """Accept a new connection to a server; raises ConnectionError when the server is not one that serves."""

    async def aclose(self) -> None:
        """Close the connections for queries."""


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
        """There is no other server."""

    async def run(self) -> None:
        """Nothing to do."""

    async def aclose(self) -> None:
        """Nothing is open."""


def create_topology(
    url: RedisUrl, *, times: TopologyTimes | None = None, rng: random.Random | None = None
) -> SingleTopology | SentinelTopology | ClusterTopology:
    """The topology behind a URL; no I/O. Of Sentinels and a cluster nothing is known before the first refresh."""
    times, rng = times or TopologyTimes(), rng or random.Random()
    match url.kind:
        case RedisKind.SINGLE:
            address = NodeAddress.from_url(url.url)
            return SingleTopology(address, name=address.path or f"{address.host}:{address.port}")
        case RedisKind.SENTINEL:
            return SentinelTopology(url, times=times, rng=rng)
        case RedisKind.CLUSTER:
            return ClusterTopology(url, times=times, rng=rng)
