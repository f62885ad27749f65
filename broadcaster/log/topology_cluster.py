"""The primaries of a cluster, by the slot: asked of any of its nodes.

Rules
1. Some nodes are asked at once, drawn from all that are known (replicas too) and the seeds of the URL: a node that
   hangs delays nobody, and a cluster whose nodes have all been replaced is found again by the seeds' names.
2. The first node that says ``cluster_state:ok`` is believed. Without one (a slot that nobody serves, a majority away)
   the first answer counts: who is in it may well answer, and each connection finds that out for itself.
3. A node's view may be old (gossip takes a second or so). Then whoever follows it meets MOVED and suspects it again.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from typing import Final

from broadcaster.errors import LogUnavailable
from broadcaster.log.feed_address import Dialer
from broadcaster.log.key_slots import SlotMap, slot_of
from broadcaster.log.node_talk import NODE_ERRORS, Address, address_of, name_of, open_talk, told_fault
from broadcaster.log.redis_url import RedisUrl
from broadcaster.log.topology_watch import Changes, TopologyTimes, TopologyWatch, cancel_all
from broadcaster.logs import get_logger

_log = get_logger(__name__)

_AT_ONCE: Final = 3
_MOST_ASKED: Final = 12
_OK: Final = b"cluster_state:ok"


class ClusterTopology:
    """Implements ``Topology`` over CLUSTER SLOTS, which 7.0 and all later ones answer."""

    def __init__(self, url: RedisUrl, *, times: TopologyTimes, rng: random.Random) -> None:
        self._url = url
        self._times = times
        self._rng = rng
        self._map = SlotMap()
        self._changes = Changes()
        self._watch = TopologyWatch(self._look, times=times, rng=rng)

    @property
    def nodes(self) -> tuple[str, ...]:
        """Primaries that serve slots."""
        return self._map.primaries

    def node_of(self, key: str) -> str | None:
        """Who serves the key's slot."""
        return self._map.owners[slot_of(key.encode())]

    def dialer(self, node: str) -> Dialer:
        """Its announced address, with the URL's credentials."""
        if node not in self._map.replicas:
            raise KeyError(node)
        return self._url.node(*address_of(node))

    def on_change(self, callback: Callable[[], None]) -> None:
        """See ``Topology``."""
        self._changes.on_change(callback)

    def suspect(self) -> None:
        """See ``Topology``."""
        self._watch.suspect()

    async def run(self) -> None:
        """See ``Topology``."""
        await self._watch.run()

    async def _look(self) -> None:
        """Rules 1 and 2. Raises LogUnavailable when nobody answered."""
        replicas = [each for beside in self._map.replicas.values() for each in beside]
        known = {*map(address_of, (*self._map.primaries, *replicas)), *self._url.hosts}
        order = self._rng.sample(sorted(known), len(known))[:_MOST_ASKED]
        faults: list[str] = []
        second_best: SlotMap | None = None
        for begin in range(0, len(order), _AT_ONCE):
            seen, is_ok = await self._ask_some(order[begin : begin + _AT_ONCE], faults)
            if seen is not None and is_ok:
                self._take(seen)
                return
            second_best = second_best or seen
        if second_best is None:
            raise LogUnavailable("; ".join(faults))
        self._take(second_best)

    async def _ask_some(self, addresses: Sequence[Address], faults: list[str]) -> tuple[SlotMap | None, bool]:
        """The best view of these nodes, and whether it is of a cluster that is well."""
        questions = [asyncio.create_task(self._ask(address)) for address in addresses]
        second_best: SlotMap | None = None
        try:
            for question in asyncio.as_completed(questions):
                try:
                    seen, is_ok = await question
                except LogUnavailable as error:
                    faults.append(error.detail)
                    continue
                if is_ok:
                    return seen, True
                second_best = second_best or seen
        finally:
            await cancel_all(questions)
        return second_best, False

    async def _ask(self, address: Address) -> tuple[SlotMap, bool]:
        """What one node sees, and whether it is well. Raises LogUnavailable, also when it knows of no cluster."""
        within_s = self._times.ask_s
        try:
            async with asyncio.timeout(within_s), open_talk(self._url.node(*address), within_s=within_s) as talk:
                state = await talk.ask("CLUSTER", "INFO", within_s=within_s)
                reply = await talk.ask("CLUSTER", "SLOTS", within_s=within_s)
            seen = SlotMap.read(reply, asked=name_of(address))
        except (*NODE_ERRORS, ValueError, TypeError, LookupError) as error:
            raise LogUnavailable(told_fault(address, error)) from error
        if not seen.primaries:
            raise LogUnavailable(f"{name_of(address)}: it serves no cluster")
        return seen, _OK in state

    def _take(self, seen: SlotMap) -> None:
        before, self._map = self._map, seen
        if before.owners != seen.owners:
            _log.info("topology_changed", nodes=seen.primaries, unserved=seen.owners.count(None))
            self._changes.tell()
