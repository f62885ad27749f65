"""Steadiness: since when has Redis answered this process without a break?

Nobody takes over another worker's stream before it has itself seen Redis answer for one whole lease: after a restart,
a failover or a pause every lease looks lapsed although its worker lives (protocol §4). The same holds when this
process was the one that stood still.

A probe on a connection of its own to every server that serves, never retried: a lost connection, a late answer, another
server or a late turn of our own loop is a break. ``breaks`` counts them, so that writers can verify their tails after
each. "Redis" are all of them: which leases a break may have cost is not asked. The probe is a write, as a renewal is: a
Redis that answers reads alone (``CLIENT PAUSE WRITE``, a replica, too few replicas, a full disk) lets leases lapse. It
removes a key that is never there, which a full Redis does as well.

A clock of Redis that steps is a break as well: leases and idle times are measured by it, so a step forward lets all of
them lapse at once. A probe asks for the time too. When it is further from what the monotonic clock of this process lets
expect than a quarter of a lease, the clock has stepped. The steps are remembered, because times that were written
before one are compared with the clock after it (``leapt_s``, ``has_fallen``).

One probe at a time: who asks for one while one is under way waits for the next, with everybody else who does. However
many ask, the wait is two probes long, and waiting is no break.

What is no break for a worker's lease may cost a shorter one of a feed. So silences between two answers are remembered
by their magnitude, and a lease has been answered for when none of them was as long as half of it: whoever renews every
third of it was then never too late for Redis's sake.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Mapping
from typing import Final, NamedTuple

from broadcaster.errors import LogUnavailable
from broadcaster.log.connect import LogConnection, identities, later
from broadcaster.log.routed import Identity, Sight
from broadcaster.logs import get_logger

_log = get_logger(__name__)

PROBES_PER_LEASE: Final = 10
LOOK_EVERY_S: Final = 1.0
"""How often it is asked who serves: a primary that was replaced in a hurry may not know of it yet."""
SHORTEST_LEASE_S: Final = 2.0
"""Of the leases that ``has_answered_for`` can judge: half of it must be longer than the time between two probes."""
_STEPS_KEPT: Final = 16


class _Step(NamedTuple):
    """A step of a server's clock that this process saw: when, by its own clock, and how far."""

    seen_at: float
    size_s: float


class Steadiness:
    """Runs while ``run`` runs; the rest only reads."""

    def __init__(self, connection: LogConnection, *, lease_ttl_s: float) -> None:
        self._lease_ttl_s = lease_ttl_s
        self._every_s = min(lease_ttl_s / PROBES_PER_LEASE, SHORTEST_LEASE_S / 4)
        self._late_s = lease_ttl_s / 4
        self._client = connection.create_client(timeout_s=self._late_s, max_connections=1)
        self._keys = connection.keys
        self._since: float | None = None
        self._answered_at = 0.0
        self._silences: dict[int, float] = {}  # n → when a silence of 2**n to 2**(n + 1) seconds ended last
        self._sights: Mapping[str, Sight] = {}
        self._steps: deque[_Step] = deque(maxlen=_STEPS_KEPT)
        self._probe: asyncio.Task[bool] | None = None
        self._next_probe: asyncio.Task[bool] | None = None
        self.breaks = 0
        self.answering = asyncio.Event()

    @property
    def is_steady(self) -> bool:
        """Whether Redis has answered without a break for one lease, and not too long ago: who asks in the first turn
        after a stand-still of our own comes before the probe that notices it."""
        now = asyncio.get_running_loop().time()
        return (
            self._since is not None
            and now - self._since >= self._lease_ttl_s
            and now - self._answered_at < self._lease_ttl_s / 2
        )

    @property
    def answered_s(self) -> float:
        """For how long Redis has answered without a break; infinite until one is seen: who has just begun saw none."""
        if self.breaks == 0:
            return math.inf
        return 0.0 if self._since is None else asyncio.get_running_loop().time() - self._since

    def leapt_s(self, within_s: float) -> float:
        """By how much an age that began within this time may look too large: the clock has stepped forward since."""
        now = asyncio.get_running_loop().time()
        leapt_s = most_s = 0.0
        for step in reversed(self._steps):
            if now - step.seen_at > within_s:
                break
            leapt_s += step.size_s
            most_s = max(most_s, leapt_s)
        return most_s

    @property
    def has_fallen(self) -> bool:
        """Whether times that Redis has written may lie ahead of its clock: that has stepped back, not long ago."""
        now = asyncio.get_running_loop().time()
        return any(now - step.seen_at < -step.size_s + self._lease_ttl_s for step in self._steps if step.size_s < 0)

    async def confirm(self) -> None:
        """Probe now: whoever is about to claim must know of a break of the last moment."""
        await self._ask()

    async def check_unknown(self) -> None:
        """Raises LogUnavailable when nothing is unknown for sure: Redis broke less than one lease ago, and who holds
        what it has lost may not have written it down again yet. A viewer that is told "unknown" never comes back."""
        await self.confirm()
        if self.answered_s < self._lease_ttl_s:
            raise LogUnavailable("the log may have lost it a moment ago, and its worker be writing it again; try again")

    def has_answered_for(self, lease_s: float) -> bool:
        """Whether Redis has answered without a break, and at least every half of it, for a lease of this length."""
        now = asyncio.get_running_loop().time()
        if self._since is None or now - self._since < lease_s or now - self._answered_at >= lease_s / 2:
            return False
        return all(
            2.0 ** (magnitude + 1) <= lease_s / 2 or now - ended_at >= lease_s
            for magnitude, ended_at in self._silences.items()
        )

    async def run(self) -> None:
        """Probe until cancelled."""
        try:
            while True:
                if await self._ask() and self._since is None:
                    self._begin()
                await asyncio.sleep(self._every_s)
        finally:
            await self._leave()

    async def _ask(self) -> bool:
        """What a probe finds that begins after this call, shared by all who wait for it: whether nothing broke."""
        task = self._next_probe
        if task is None:
            task = self._next_probe = asyncio.create_task(self._probe_after(self._probe))
        await asyncio.wait({task})
        return not task.cancelled() and task.result()

    async def _probe_after(self, before: asyncio.Task[bool] | None) -> bool:
        if before is not None:
            await asyncio.wait({before})
        self._probe, self._next_probe = self._next_probe, None
        ok = await self._look()
        now = asyncio.get_running_loop().time()
        if not ok or (self._since is not None and now - self._answered_at > self._every_s + self._late_s):
            self._broke()
        elif self._since is not None and now > self._answered_at:
            self._silences[math.frexp(now - self._answered_at)[1] - 1] = now
            self._answered_at = now
        return ok

    def _begin(self) -> None:
        self._since = self._answered_at = asyncio.get_running_loop().time()
        self._silences.clear()  # what came before is not counted on
        self.answering.set()

    async def _leave(self) -> None:
        under_way = {task for task in (self._probe, self._next_probe) if task is not None and not task.done()}
        for task in under_way:
            task.cancel()
        if under_way:
            await asyncio.wait(under_way)
        self._probe = self._next_probe = None
        await self._client.aclose()

    async def _look(self) -> bool:
        try:
            found = await identities(self._client, probe_key=self._probe_key, look_within_s=LOOK_EVERY_S)
        except Exception as error:
            if not later(error):
                raise
            await self._client.aclose()
            return False
        # redis-py reconnects without a word when it finds its connection closed: another id is another connection.
        before, self._sights = self._sights, found
        if self._has_stepped(before):
            return False
        same = _identities_of(found) == _identities_of(before)
        return same or self._since is None

    def _has_stepped(self, before: Mapping[str, Sight]) -> bool:
        """A server that replaces another one holds the same leases, and has a clock of its own."""
        gone = [sight for name, sight in before.items() if name not in self._sights]
        steps = [
            sight.step_s(earlier)
            for name, sight in self._sights.items()
            for earlier in ([before[name]] if name in before else gone)
        ]
        step_s = max(steps, key=abs, default=0.0)
        if abs(step_s) <= self._late_s:
            return False
        self._steps.append(_Step(asyncio.get_running_loop().time(), step_s))
        _log.warning("redis_clock_stepped", step_s=round(step_s, 3))
        return True

    def _probe_key(self, number: int) -> str:
        return self._keys.probe(f"steadiness-{number}")

    def _broke(self) -> None:
        self.answering.clear()
        if self._since is not None:
            self._since = None
            self.breaks += 1
            _log.warning("redis_unsteady", breaks=self.breaks)


def _identities_of(sights: Mapping[str, Sight]) -> dict[str, Identity]:
    return {name: sight.identity for name, sight in sights.items()}
