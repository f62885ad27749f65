"""One hunt: the seed draws a system and what happens to it, then everything is healed, must end, and is judged.

1. The same seed brings the same system, traffic and faults in the same order; the system's own timing is its own.
2. When the time is over every fault is undone. Whatever was begun must end within ``SETTLE_S``, at every viewer.
3. Only what a viewer was notified of is excused.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
import traceback
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from tests.hunt.clients.traffic import Traffic
from tests.hunt.draw import Setup, Step, draw_setup, draw_step, weights_of
from tests.hunt.faults import Faults
from tests.hunt.judging.answers import Violation, ending_of, events_of
from tests.hunt.judging.verdict import Verdict, judge_all
from tests.hunt.system.servers import find_faketime, insist, read_log
from tests.hunt.system.wire import Broken, call
from tests.hunt.world import World, open_world

SETTLE_S: Final = 75.0
POLL_S: Final = 0.2
# When the FLUSHALL comes that every lossy hunt has, unless one was drawn before.
FLUSH_SHARES: Final = (0.3, 0.6)


@dataclass(frozen=True)
class Options:
    """The arguments of the command line."""

    seed: int
    seconds: float
    topology: str = "drawn"
    lossy: bool = False
    is_forked: bool | None = None  # None: as the seed draws it


async def hunt(folder: Path, options: Options) -> Verdict:
    """One hunt in this empty folder."""
    rng = random.Random(options.seed)
    setup = draw_setup(rng, topology=options.topology, lossy=options.lossy, has_faketime=find_faketime() is not None)
    if options.is_forked is not None:
        setup = replace(setup, is_forked=options.is_forked, skews=(0, 0))
    setup = replace(setup, seed=options.seed)
    print(f"hunt: {setup}", flush=True)
    async with open_world(folder, setup, rng) as world:
        world.report("the system runs")
        async with asyncio.TaskGroup() as tasks:
            running = _Running(world, setup, tasks)
            await running.run(rng, options.seconds)
            await running.finish()
        settled_s = await _settle(world)
        await _find_unnamed(world)
        return await judge_all(world, settled_s)


class _Running:
    """Draws steps and begins them; what is under way is counted."""

    def __init__(self, world: World, setup: Setup, tasks: asyncio.TaskGroup) -> None:
        self._world = world
        self._traffic = Traffic(world)
        self._faults = Faults(world)
        self._weights = weights_of(setup)
        self._tasks = tasks
        self._under_way: set[str] = set()
        self._count = 0

    async def run(self, rng: random.Random, seconds: float) -> None:
        """Until the time is over."""
        began = time.monotonic()
        flush_at = began + seconds * random.Random(self._world.setup.seed).uniform(*FLUSH_SHARES)
        while time.monotonic() < began + seconds:
            step = draw_step(rng, *self._weights)
            await asyncio.sleep(step.wait_s)
            if self._needs_a_flush and time.monotonic() > flush_at:
                step = step._replace(name="flush_all")
            source = self._traffic if step.name in self._weights[0] else self._faults
            deed: Callable[[Step], Coroutine[Any, Any, None]] = getattr(source, step.name)
            self._count += 1
            self._tasks.create_task(self._account(f"{step.name} {self._count}", deed(step)))

    @property
    def _needs_a_flush(self) -> bool:
        """A hunt in which Redis forgets has at least one FLUSHALL, however short it is."""
        return self._world.setup.lossy and not self._world.done["fault FLUSHALL"]

    async def _account(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        """A deed that fails is a fault of the hunt, or a process that does not start: both end as a violation."""
        self._under_way.add(name)
        try:
            await work
        except Exception as error:
            self._world.report(f"{name} failed: {error!r}")
            detail = "".join(traceback.format_exception(error)[-3:])
            self._world.found.append(Violation("deed", name, detail))
        finally:
            self._under_way.discard(name)

    async def finish(self) -> None:
        """Nothing new is begun: what was begun ends, and every fault is undone."""
        self._world.report("quiet")
        self._world.writing.is_quiet = True
        until = time.monotonic() + SETTLE_S
        faults = set(self._weights[1])
        while any(name.split()[0] in faults for name in self._under_way) and time.monotonic() < until:
            await asyncio.sleep(POLL_S)
        await _heal(self._world)
        await self._faults.empty()
        while self._under_way and time.monotonic() < until + SETTLE_S:
            await asyncio.sleep(POLL_S)
        for name in self._under_way:
            self._world.found.append(Violation("deed", name, "it never ended"))


async def _heal(world: World) -> None:
    """Everything is there and well."""
    for relay in world.relays:
        relay.heal()
    await asyncio.to_thread(world.servers.heal)
    for life in (*world.workers, *world.front_ends):
        life.thaw()
        if not life.is_running:
            await life.start()
    world.report("healed")


async def _settle(world: World) -> float:
    """Until everything has ended; the seconds that it took, at most ``SETTLE_S``."""
    began = time.monotonic()
    while time.monotonic() < began + SETTLE_S:
        waiting = [v for v in world.viewers if v.ended_at is None and not v.has_left and not v.wrong]
        if not waiting and not [stream for stream in _streams(world) if not await _is_over(world, stream)]:
            break
        await asyncio.sleep(POLL_S)
    await _webhooks(world, until=began + SETTLE_S)
    return time.monotonic() - began


async def _webhooks(world: World, *, until: float) -> None:
    expected = {answer.id for answer in world.answers if answer.id is not None and answer.order.has_webhook}
    expected -= world.forgotten
    expected = {
        answer.id for answer in world.answers if answer.id in expected and answer.order.way in ("generations", "stream")
    }
    while expected - world.receiver.taken.keys() and time.monotonic() < until and world.keeps:
        await asyncio.sleep(POLL_S)


def _streams(world: World) -> list[str]:
    answers = [answer.id for answer in world.answers if answer.id is not None]
    leased = [feed.id for feed in world.leased if feed.contacts]
    return [*answers, *(feed.id for feed in world.feeds if feed.is_closed), *leased]


async def _is_over(world: World, stream: str) -> bool:
    if stream in world.over:
        return True
    key = f"bc:{{{stream}}}:log"
    rows = await asyncio.to_thread(insist, world.servers, key, "XREVRANGE", key, "+", "-", "COUNT", "1")
    if not rows:
        return not world.keeps or stream in world.forgotten
    fields = rows[0][1]
    event = dict(zip(fields[::2], fields[1::2], strict=True))[b"e"]
    if ending_of([json.loads(event)]) is None:
        return False
    world.over.add(stream)
    return True


async def _find_unnamed(world: World) -> None:
    """Answers whose id the caller never learned, and keys that began more than one generation."""
    listed: dict[str, list[str]] = {}
    before = ""
    for _ in range(20):
        with suppress(Broken):
            reply = await call(world.urls[0], "GET", f"/v1/generations?limit=100{before}")
            if reply.status != 200:
                break
            for each in reply.json["generations"]:
                listed.setdefault(each["model"], []).append(each["id"])
            if reply.json["next_before"] is None:
                break
            before = f"&before={reply.json['next_before']}"
    for answer in world.answers:
        ids = listed.get(answer.name, [])
        if len(ids) > 1 and world.keeps:
            world.found.append(Violation("idempotency", answer.name, f"one key began {ids}"))
        answer.id = answer.id or (ids[0] if ids else None)


async def dump(world: World, stream: str) -> list[str]:
    """The log of a stream, for people: an entry a line, long ones cut."""
    log = await read_log(world.servers, stream)
    return [f"{id} {json.dumps(event)[:300]}" for (id, _), event in zip(log, events_of(log), strict=True)]
