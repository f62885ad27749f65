"""Steadiness: since when has Redis answered this process without a break?

A process takes over another worker's stream only after it has itself seen Redis answer for one whole lease: after a
restart, a failover or a pause every lease looks lapsed although its worker lives (docs/protocol.md §4). The same holds
when this process was the one that stood still.

A probe goes to every server that serves, on a connection of its own, and is never retried. A lost connection, a late
reply, another server or a late turn of our own loop is a break. ``breaks`` counts them, so that writers can verify
their tails after each. A break of one server counts for all of them; which leases it may have cost is not examined.
The probe is a write, as a renewal is: a Redis that serves reads alone (``CLIENT PAUSE WRITE``, a replica, too few
replicas, a full disk) lets leases lapse. It removes a key that never exists, which a full Redis does as well.

A step of Redis's clock is a break as well: leases and idle times are measured by it, so a step forward lets all of them
lapse at once. A probe reads the time too. When it differs by more than a quarter of a lease from what the monotonic
clock of this process predicts, the clock has stepped. The steps are remembered, because times that were written before
one are compared with the clock after it (``leapt_s``, ``has_fallen``).

One probe runs at a time: callers that need one while another is under way share the next. However many callers there
are, the wait is two probes long, and waiting is not a break.

An outage that is not a break for a worker's lease may cost a shorter one of a feed. So silences between two replies are
remembered by their magnitude, and Redis has answered for a lease when no silence was as long as half of it: a writer
that renews every third of it was then never too late because of Redis.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from broadcaster.errors import LogUnavailable
from broadcaster.log.redis.connect import LogConnection, identities, later
from broadcaster.log.redis.topology.placed_client import Identity, ServerSample
from broadcaster.observability.counting import SHORT_S, Buckets, Reading
from broadcaster.observability.logs import get_logger

_log = get_logger(__name__)

PROBES_PER_LEASE: Final = 10
REFRESH_EVERY_S: Final = 1.0
"""How old the topology may be: a primary that was just replaced may not know of it yet."""
SHORTEST_LEASE_S: Final = 2.0
"""Of the leases that ``has_answered_for`` can judge: half of it must be longer than the time between two probes."""
_STEPS_KEPT: Final = 16


class _Step(NamedTuple):
    """A step of a server's clock that this process saw: when, by its own clock, and how far."""

    seen_at: float
    size_s: float


class Steadiness:
    """Probes while ``run`` runs; the other members only read."""

    def __init__(self, connection: LogConnection, *, lease_ttl_s: float) -> None:
        self._lease_ttl_s = lease_ttl_s
        self._every_s = min(lease_ttl_s / PROBES_PER_LEASE, SHORTEST_LEASE_S / 4)
        self._late_s = lease_ttl_s / 4
        self._client = connection.create_client(timeout_s=self._late_s, max_connections=1)
        self._keys = connection.keys
        self._since: float | None = None
        self._answered_at = 0.0
        self._silences: dict[int, float] = {}  # n → when a silence of 2**n to 2**(n + 1) seconds ended last
        self._samples: Mapping[str, ServerSample] = {}
        self._steps: deque[_Step] = deque(maxlen=_STEPS_KEPT)
        self._probe: asyncio.Task[bool] | None = None
        self._next_probe: asyncio.Task[bool] | None = None
        self.breaks = 0
        self.probe_s = Buckets(SHORT_S)
        self.answering = asyncio.Event()

    @property
    def is_steady(self) -> bool:
        """Whether Redis has answered without a break for one lease, and not too long ago: after a stand-still of our
        own, a caller in the first turn comes before the probe that notices it."""
        now = asyncio.get_running_loop().time()
        return (
            self._since is not None
            and now - self._since >= self._lease_ttl_s
            and now - self._answered_at < self._lease_ttl_s / 2
        )

    def pause_s(self, every_s: float) -> float:
        """The pause before the next turn of a caller that acts while Redis is steady: it ends when that begins.

        A worker that replaces a killed one so takes its jobs one lease after its own start, and not a turn later.
        """
        if self._since is None:
            return every_s
        steady_in_s = self._lease_ttl_s - (asyncio.get_running_loop().time() - self._since)
        return min(steady_in_s, every_s) if steady_in_s > 0 else every_s

    @property
    def answered_s(self) -> float:
        """For how long Redis has answered without a break; infinite until this process has observed one."""
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
        """Whether times that Redis has written may lie ahead of its clock, because it stepped back not long ago."""
        now = asyncio.get_running_loop().time()
        return any(now - step.seen_at < -step.size_s + self._lease_ttl_s for step in self._steps if step.size_s < 0)

    def readings(self) -> Sequence[Reading]:
        """Redis as this process sees it, for metrics."""
        is_steady = int(self.is_steady)
        return (
            Reading("broadcaster_redis_steady", is_steady),
            Reading("broadcaster_redis_steady_processes", is_steady),
            Reading("broadcaster_redis_breaks_total", self.breaks),
            Reading("broadcaster_redis_probe_seconds", self.probe_s),
        )

    async def confirm(self) -> None:
        """Probe now, so that a caller that is about to claim knows of a break of the last moment."""
        await self._next_result()

    async def check_unknown(self) -> None:
        """Raises LogUnavailable when "unknown" would not be certain: Redis broke less than one lease ago, and the
        process that still holds what Redis lost may not have restored it. A viewer that is sent "unknown" never
        returns."""
        await self.confirm()
        if self.answered_s < self._lease_ttl_s:
            raise LogUnavailable("the log may have lost it a moment ago, and its worker may be restoring it; try again")

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
                if await self._next_result() and self._since is None:
                    self._begin()
                await asyncio.sleep(self._every_s)
        finally:
            await self._leave()

    async def _next_result(self) -> bool:
        """Whether a probe that begins after this call finds no break; all callers that wait for it share it."""
        task = self._next_probe
        if task is None:
            task = self._next_probe = asyncio.create_task(self._probe_after(self._probe))
        await asyncio.wait({task})
        return not task.cancelled() and task.result()

    async def _probe_after(self, before: asyncio.Task[bool] | None) -> bool:
        if before is not None:
            await asyncio.wait({before})
        self._probe, self._next_probe = self._next_probe, None
        begun_at = asyncio.get_running_loop().time()
        ok = await self._sample()
        now = asyncio.get_running_loop().time()
        self.probe_s.observe(now - begun_at)
        if not ok or (self._since is not None and now - self._answered_at > self._every_s + self._late_s):
            self._broke()
        elif self._since is not None and now > self._answered_at:
            self._silences[math.frexp(now - self._answered_at)[1] - 1] = now
            self._answered_at = now
        return ok

    def _begin(self) -> None:
        self._since = self._answered_at = asyncio.get_running_loop().time()
        self._silences.clear()  # earlier silences do not count
        self.answering.set()

    async def _leave(self) -> None:
        under_way = {task for task in (self._probe, self._next_probe) if task is not None and not task.done()}
        for task in under_way:
            task.cancel()
        if under_way:
            await asyncio.wait(under_way)
        self._probe = self._next_probe = None
        await self._client.aclose()

    async def _sample(self) -> bool:
        try:
            found = await identities(self._client, probe_key=self._probe_key, max_age_s=REFRESH_EVERY_S)
        except Exception as error:
            if not later(error):
                raise
            await self._client.aclose()
            return False
        # redis-py silently reconnects when it finds its connection closed: another id is another connection.
        before, self._samples = self._samples, found
        if self._has_stepped(before):
            return False
        same = _identities_of(found) == _identities_of(before)
        return same or self._since is None

    def _has_stepped(self, before: Mapping[str, ServerSample]) -> bool:
        """A server that replaces another one holds the same leases, and has a clock of its own."""
        gone = [sample for name, sample in before.items() if name not in self._samples]
        steps = [
            sample.step_s(earlier)
            for name, sample in self._samples.items()
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


def _identities_of(samples: Mapping[str, ServerSample]) -> dict[str, Identity]:
    return {name: sample.identity for name, sample in samples.items()}
