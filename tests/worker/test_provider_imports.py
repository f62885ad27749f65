"""A worker imports a provider's SDK while it serves: its loop turns meanwhile, and it keeps its leases."""

from __future__ import annotations

import asyncio
import importlib
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
import redis

from broadcaster.core.events import Finish
from broadcaster.core.providers.model_routing import ModelRoutes
from broadcaster.log.redis.connect import LogConnection
from broadcaster.log.streams.control import ControlListener
from broadcaster.process.tasks import running
from tests.support.log.log_world import World, until
from tests.worker.test_attempt import HALF, HandProvider
from tests.worker.test_runner import Control
from worker.attempt import AttemptTimes
from worker.engine import Engine, RunnerTimes
from worker.providers.registry import Providers
from worker.runner import Runner
from worker.slots import Slots

LEASE_S = 3.0
RENEWALS = 2
TURNS = 100
COMPUTES_AT_MOST_S = 10.0
"""An import that holds the loop ends, too: then the test fails."""

SDK = "an_sdk_that_computes_while_it_is_imported"
SOURCE = f"""
import time
from {__name__} import SEEN
end = time.monotonic() + {COMPUTES_AT_MOST_S}
while not SEEN.is_set() and time.monotonic() < end:
    pass
"""
SEEN = threading.Event()
"""Enough was seen of the loop: the import may end."""


@pytest.fixture
def imports_sdk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], HandProvider]:
    """Makes a provider, as those of the registry are made: its SDK is imported first, by Python code that computes."""
    SEEN.clear()
    (tmp_path / f"{SDK}.py").write_text(SOURCE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(sys.modules, SDK, importlib)  # whatever is imported is removed after the test
    monkeypatch.delitem(sys.modules, SDK)

    def make() -> HandProvider:
        importlib.import_module(SDK)
        return HandProvider()

    return make


async def test_the_loop_turns_while_an_sdk_is_imported(imports_sdk: Callable[[], HandProvider]) -> None:
    making = asyncio.create_task(Providers(ModelRoutes({"m": "slow"}), {"slow": imports_sdk}).named("slow"))
    turns = 0  # during the import
    while not making.done():
        await asyncio.sleep(0)
        turns += SDK in sys.modules
        if turns >= TURNS:
            SEEN.set()
    await making
    assert SDK in sys.modules
    assert turns >= TURNS


class LeaseWatch:
    """Watches a lease from a thread with a connection of its own: a loop that stands still cannot hide its end.

    It lets the import end when the lease was renewed ``RENEWALS`` times.
    """

    def __init__(self, connection: LogConnection, stream_id: str) -> None:
        self._redis: Any = redis.Redis.from_url(connection.url)
        self._key = connection.keys.lease(stream_id)
        self._is_over = threading.Event()
        self._seen: list[bool] = []

    def watch(self) -> list[bool]:
        """Whether the lease was held, in every look from its grant to ``end``."""
        renewals = left_ms = 0
        with self._redis:
            while not self._is_over.wait(0.01):
                before_ms, left_ms = left_ms, int(self._redis.pttl(self._key))
                is_held = left_ms >= 0
                if is_held and self._seen and left_ms > before_ms:
                    renewals += 1
                if renewals == RENEWALS:
                    SEEN.set()
                if is_held or self._seen:
                    self._seen.append(is_held)
        return self._seen

    def end(self) -> None:
        """The watch is over."""
        self._is_over.set()


async def test_a_generation_with_a_short_lease_is_not_lost_while_its_providers_sdk_is_imported(
    connection: LogConnection, imports_sdk: Callable[[], HandProvider]
) -> None:
    world = World(connection, lease_ms=int(LEASE_S * 1000))
    await world.queue.create_group()
    generation = await world.create()
    reader = world.reader()
    providers = Providers(ModelRoutes({"m": "slow"}), {"slow": imports_sdk})
    async with world.appender() as appender:
        engine = Engine(
            *(world.queue, reader, world.claims, world.streams, appender, keeper := world.keeper(appender)),
            world.steadiness,
            cast("ControlListener", Control()),
            providers,
        )
        times = RunnerTimes(LEASE_S, 0.0, AttemptTimes(generation_timeout_s=60, append_deadline_s=60))
        slots = Slots(concurrency=1, buffer_bytes=10**9, max_bytes=world.max_bytes, tenant_share=1)
        runner = Runner(engine, slots, times=times, max_bytes=world.max_bytes)
        watch = LeaseWatch(connection, generation)
        watching = asyncio.create_task(asyncio.to_thread(watch.watch))
        async with running(keeper.run()), running(runner.take_new()):
            await until(lambda: generation in runner.attempts)
            provider = cast("HandProvider", await providers.named("slow"))
            watch.end()
            provider.given.put_nowait(HALF)
            provider.given.put_nowait([Finish(finish_reason="stop")])
            provider.given.put_nowait(None)
            await until(lambda: generation not in runner.attempts)
        await reader.aclose()
    held = await watching
    assert held
    assert all(held), f"the lease was over in {held.count(False)} of {len(held)} looks"
    meta = await world.streams.meta(generation)
    assert meta is not None
    assert (meta.status, meta.attempts) == ("finished", 1)
