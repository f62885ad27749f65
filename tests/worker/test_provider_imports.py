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
from worker.providers.registry import Providers
from worker.runner import Engine, Runner, RunnerTimes
from worker.slots import Slots

LEASE_S = 1.0
COMPUTES_S = 2.0
LONGEST_HOLE_S = 1.0
"""An import gives the interpreter away every 5 ms, except in a call of C code; a busy machine adds to that."""

SDK = "an_sdk_that_computes_while_it_is_imported"
SOURCE = f"import time\nend = time.thread_time() + {COMPUTES_S}\nwhile time.thread_time() < end:\n    pass\n"


@pytest.fixture
def imports_sdk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], HandProvider]:
    """Makes a provider, as those of the registry are made: its SDK is imported first, by Python code that computes."""
    (tmp_path / f"{SDK}.py").write_text(SOURCE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(sys.modules, SDK, importlib)  # whatever is imported is removed after the test
    monkeypatch.delitem(sys.modules, SDK)

    def make() -> HandProvider:
        importlib.import_module(SDK)
        return HandProvider()

    return make


async def test_the_loop_turns_while_an_sdk_is_imported(imports_sdk: Callable[[], HandProvider]) -> None:
    loop = asyncio.get_running_loop()
    making = asyncio.create_task(Providers(ModelRoutes({"m": "slow"}), {"slow": imports_sdk}).named("slow"))
    turned, longest_s = loop.time(), 0.0
    while not making.done():
        await asyncio.sleep(0.001)
        longest_s, turned = max(longest_s, loop.time() - turned), loop.time()
    await making
    assert SDK in sys.modules
    assert longest_s < LONGEST_HOLE_S


class LeaseWatch:
    """Watches a lease from a thread with a connection of its own: a loop that stands still cannot hide its end."""

    def __init__(self, connection: LogConnection, stream_id: str) -> None:
        self._redis: Any = redis.Redis.from_url(connection.url)
        self._key = connection.keys.lease(stream_id)
        self._is_over = threading.Event()
        self._seen: list[bool] = []

    def watch(self) -> list[bool]:
        """Whether the lease was held, in every look from its grant to ``end``."""
        with self._redis:
            while not self._is_over.wait(0.01):
                is_held = bool(self._redis.exists(self._key))
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
