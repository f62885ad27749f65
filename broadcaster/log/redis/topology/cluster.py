"""The primaries of a cluster, by the slot: any of its nodes knows them, and a wrong one names the right one.

Rules
1. Three nodes are queried at once, first those that are known and not in doubt (replicas too), then the seeds of the
   URL: a node that hangs delays no refresh, and a cluster whose nodes have all been replaced is found by its seeds.
2. The first node that reports ``cluster_state:ok`` counts. Without one (a slot that is not served, a majority away) the
   first view counts: a node that is in it may well reply, and each connection finds that out for itself. A node that is
   cut off from the majority knows the slots as they were.
3. A node's view may be old (gossip takes a second or so). Then a call or a subscription meets MOVED. A call's MOVED
   counts at once for its slot, and the next refresh confirms or corrects it.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from contextlib import aclosing
from typing import Final, NamedTuple

from redis.asyncio.connection import AbstractConnection

from broadcaster.log.redis.address import Dialer, address_of
from broadcaster.log.redis.topology.key_slots import SlotMap, slot_of
from broadcaster.log.redis.topology.refresh import RefreshedTopology, TopologyTimes
from broadcaster.log.redis.url import RedisUrl

_AT_ONCE: Final = 3
_MOST_TRUSTED: Final = 12
"""How many nodes that are not in doubt a refresh queries before it turns to the seeds."""
_OK: Final = b"cluster_state:ok"


class _View(NamedTuple):
    """The slots as one node knows them, and whether the node reports that the cluster is well."""

    slots: SlotMap
    is_ok: bool


class ClusterTopology(RefreshedTopology[_View]):
    """Implements ``Topology`` and ``Placement`` over CLUSTER SLOTS, which 7.0 and all later ones answer."""

    def __init__(self, url: RedisUrl, *, times: TopologyTimes, rng: random.Random) -> None:
        super().__init__(url, times=times, rng=rng)
        self._seeds = [f"{host}:{port}" for host, port in url.hosts]
        self._map = SlotMap()
        self._has_moved = False  # whether a call's MOVED has changed the map since the last refresh
        self._in_doubt: set[str | None] = {None}

    @property
    def nodes(self) -> tuple[str, ...]:
        """Primaries that serve slots."""
        return self._map.primaries

    @property
    def replicas(self) -> tuple[str, ...]:
        """See ``Placement``."""
        return tuple(sorted({each for replicas in self._map.replicas.values() for each in replicas}))

    @property
    def is_whole(self) -> bool:
        """See ``Placement``."""
        return self._map.is_whole

    def node_of(self, key: str | bytes) -> str | None:
        """The server of the key's slot."""
        return self._map.owners[slot_of(key)]

    def dialer(self, node: str) -> Dialer:
        """Its announced address, with the URL's credentials."""
        if node not in self._map.replicas:
            raise KeyError(node)
        return self._url.node(*address_of(node))

    def is_doubtful(self, node: str | None) -> bool:
        """See ``Placement``."""
        return node in self._in_doubt

    def doubt(self, node: str) -> None:
        """See ``Placement``."""
        self._in_doubt.add(node)
        self.suspect()

    def move(self, slot: int, *, source: str, target: str) -> None:
        """See ``Placement``; the source may have given away more than this slot."""
        self._map.owners[slot] = target
        self._map.replicas.setdefault(target, ())
        self._has_moved = True
        self.doubt(source)

    async def verify(self, connection: AbstractConnection) -> None:
        """Nothing to check: a replica redirects every call to its primary by itself."""

    # -- refreshes

    async def _read(self) -> bool:
        """Rules 1 and 2."""
        candidates = self._candidates()
        second_best: SlotMap | None = None
        for at in range(0, len(candidates), _AT_ONCE):
            best = await self._best(candidates[at : at + _AT_ONCE])
            if best is not None and best.is_ok:
                await self._take(best.slots)
                return True
            if best is not None and second_best is None:
                second_best = best.slots
        if second_best is not None:
            await self._take(second_best)
        return second_best is not None

    def _candidates(self) -> list[str]:
        trusted = [each for each in dict.fromkeys((*self.nodes, *self.replicas)) if each not in self._in_doubt]
        trusted = self._rng.sample(trusted, min(len(trusted), _MOST_TRUSTED))
        in_doubt = [node for node in self._in_doubt if node is not None]
        return list(dict.fromkeys((*trusted, *self._seeds, *in_doubt)))

    async def _best(self, names: Sequence[str]) -> _View | None:
        """The first view of a node that is well, or else any; a slower node is not waited for."""
        second_best: _View | None = None
        async with aclosing(self._replies(names)) as views:
            async for view in views:
                if view.is_ok:
                    return view
                second_best = second_best or view
        return second_best

    async def _take(self, found: SlotMap) -> None:
        has_changed = self._has_moved or found.owners != self._map.owners
        self._map, self._has_moved = found, False
        self._in_doubt = set() if found.is_whole else {None}
        if has_changed:
            self._changed()
        known = {*found.primaries, *self.replicas, *self._seeds}
        await self._forget({*self._servers, *self._queries} - known)

    async def _query(self, name: str) -> _View | None:
        state, slots = await self._send(name, ("CLUSTER", "INFO"), ("CLUSTER", "SLOTS"))
        if not slots:
            self._report(name, "it knows no cluster")
            return None
        try:
            return _View(SlotMap.read(slots, source=name), _OK in (state or b""))
        except (ValueError, TypeError, LookupError) as error:
            self._report(name, f"its slots cannot be read: {error}")
            return None
