"""The end of a generation: what is counted and kept, whatever else fails then."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest
from redis.exceptions import NoPermissionError

from broadcaster.core.events import Finish, StartStep, TextDelta, TextStart, ToolInputAvailable, ToolInputStart, Usage
from broadcaster.core.providers.model_routing import ModelRoutes
from broadcaster.errors import LogUnavailable
from broadcaster.log.access.daily_usage import DailyUsage
from broadcaster.log.redis.connect import LogConnection
from broadcaster.log.redis.steadiness import Steadiness
from broadcaster.log.streams.control import ControlListener
from broadcaster.observability.limits import REACHED
from broadcaster.process.tasks import end_tasks
from tests.support.log.log_world import World, until
from tests.worker.test_attempt import HandProvider
from tests.worker.test_runner import Control
from tests.worker.test_take_over import CountedSlots, Steady
from worker import runner as runner_module
from worker.attempt import AttemptTimes
from worker.engine import Engine, RunnerTimes
from worker.providers.registry import Providers
from worker.runner import Runner
from worker.tools import ToolBox
from worker.tools.agent import AgentSetup
from worker.tools.tool_runner import ToolBounds, ToolRunner


class CountedUsage:
    """The counts of tokens, in the test's hands."""

    def __init__(self, *, error: Exception | None = None, hangs: bool = False) -> None:
        self.added: list[Any] = []
        self.counted: list[Any] = []
        self.opened = asyncio.Event()
        self._error = error
        self._hangs = hangs

    async def add(self, spender: Any, usage: Any) -> None:
        self.added.append(usage)
        if self._hangs:
            await self.opened.wait()
        if self._error is not None:
            raise self._error
        self.counted.append(usage)


@pytest.fixture
async def world(connection: LogConnection) -> World:
    world = World(connection)
    await world.queue.create_group()
    return world


@asynccontextmanager
async def generating(
    world: World,
    usage: CountedUsage,
    *,
    provider: HandProvider | None = None,
    timeout_s: float = 60,
    request: Mapping[str, Any] | None = None,
    box: ToolBox | None = None,
) -> AsyncIterator[tuple[Runner, HandProvider, str]]:
    """A runner that runs one generation, whose provider is the test."""
    provider, reader = provider or HandProvider(), world.reader()
    async with world.appender() as appender:
        engine = Engine(
            world.queue,
            reader,
            world.claims,
            world.streams,
            appender,
            world.keeper(appender),
            cast("Steadiness", Steady()),
            cast("ControlListener", Control()),
            Providers(ModelRoutes({"m": "hand"}), {"hand": lambda: provider}),
            agent=None if box is None else AgentSetup(ToolRunner(box, ToolBounds()), world.streams, max_steps=5),
            usage=cast("DailyUsage", usage),
        )
        times = RunnerTimes(0.3, 60.0, AttemptTimes(generation_timeout_s=timeout_s, append_deadline_s=60))
        slots = CountedSlots(concurrency=1, buffer_bytes=2 * world.max_bytes, max_bytes=world.max_bytes)
        runner = Runner(engine, slots, times=times, max_bytes=world.max_bytes)
        stream_id = await world.create(request=request)
        taking = asyncio.create_task(runner.take_new())
        await until(lambda: set(runner.attempts) == {stream_id})
        await end_tasks(taking)  # as before a drain: what is given back must not be taken once more
        try:
            yield runner, provider, stream_id
        finally:
            runner.draining.set()
            await reader.aclose()


async def test_a_queue_that_is_away_costs_neither_the_count_of_tokens_nor_the_room_of_the_kept_buffer(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = CountedUsage()
    async with generating(world, usage) as (runner, provider, _):

        async def fails(*_: Any, **__: Any) -> None:
            raise LogUnavailable("the server of the queue is away")

        monkeypatch.setattr(world.queue, "settle", fails)
        provider.given.put_nowait([TextStart(id="0"), TextDelta(id="0", delta="x" * 10_000)])
        provider.given.put_nowait([Usage(input_tokens=1, output_tokens=1), Finish()])
        slots = cast("CountedSlots", runner.slots)
        await until(lambda: not runner.attempts and slots.free == 1)
        assert len(usage.added) == 1
        assert sum(slots._used_bytes.values()) >= 10_000


async def test_a_full_stream_is_not_counted_as_one_that_took_too_long(world: World) -> None:
    before = dict(REACHED)
    async with generating(world, CountedUsage()) as (runner, provider, stream_id):
        provider.given.put_nowait([TextStart(id="0"), TextDelta(id="0", delta="x" * (world.max_bytes + 1))])
        await until(lambda: not runner.attempts)
        assert b"stream_full" in (await world.texts(stream_id))[-1]
    reached = {name: count - before.get(name, 0) for name, count in REACHED.items() if count != before.get(name, 0)}
    assert "GENERATION_TIMEOUT_S" not in reached
    assert reached["MAX_BYTES"] == 1


@pytest.mark.parametrize(
    "usage",
    [CountedUsage(hangs=True), CountedUsage(error=LogUnavailable("away")), CountedUsage(error=NoPermissionError("no"))],
    ids=["hangs", "away", "refused"],
)
async def test_a_job_is_settled_whatever_becomes_of_the_count_of_its_tokens(world: World, usage: CountedUsage) -> None:
    async with generating(world, usage) as (runner, provider, stream_id):
        provider.given.put_nowait([Usage(input_tokens=1, output_tokens=1), Finish()])
        await until(lambda: not runner.attempts and len(usage.added) == 1)
        async with asyncio.timeout(20):
            while await world.redis.zscore(world.keys.open, stream_id) is not None:
                await asyncio.sleep(0.01)


async def test_a_drain_gives_back_what_runs_while_the_count_of_tokens_hangs(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner_module, "HAND_BACK_S", 2.0)
    async with generating(world, CountedUsage(hangs=True)) as (runner, provider, stream_id):
        provider.given.put_nowait([TextStart(id="0"), TextDelta(id="0", delta="half")])
        await until(lambda: runner.attempts[stream_id].writer.acked_seq == 2)
        await runner.drain(grace_s=0, hurried=asyncio.Event())
        (_, fields), *others = await world.redis.xrange(world.keys.ready_hi)
        assert (fields[b"id"].decode(), others) == (stream_id, [])


async def test_a_drain_waits_for_the_counts_of_what_it_gives_back(world: World) -> None:
    usage = CountedUsage(hangs=True)
    async with generating(world, usage) as (runner, provider, stream_id):
        provider.given.put_nowait([TextStart(id="0"), TextDelta(id="0", delta="half")])
        await until(lambda: runner.attempts[stream_id].writer.acked_seq == 2)
        draining = asyncio.create_task(runner.drain(grace_s=0, hurried=asyncio.Event()))
        await until(lambda: not runner.attempts and len(usage.added) == 1)
        async with asyncio.timeout(20):
            while not await world.redis.xlen(world.keys.ready_hi):
                await asyncio.sleep(0.01)
        usage.opened.set()
        await draining
        assert len(usage.counted) == 1


@pytest.mark.second_engine
async def test_a_drain_gives_back_a_generation_with_the_output_of_a_tool_that_has_returned(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner_module, "CONFIRM_S", 20.0)
    monkeypatch.setattr(runner_module, "HAND_BACK_S", 30.0)
    box, returned = ToolBox(), asyncio.Event()

    @box.tool
    async def weather(city: str) -> str:
        """The weather in a city."""
        await world.redis.config_set("maxmemory", 1)  # the log takes nothing more
        returned.set()
        return f"{city} is sunny"

    request = {"messages": [], "tools": [{"name": "weather"}]}
    async with generating(world, CountedUsage(), request=request, box=box) as (runner, provider, stream_id):
        begun = ToolInputStart(tool_call_id="c", tool_name="weather")
        called = ToolInputAvailable(tool_call_id="c", tool_name="weather", input={"city": "Paris"})
        provider.given.put_nowait([StartStep(), begun, called, Usage(input_tokens=1)])
        provider.given.put_nowait([Finish(finish_reason="tool-calls")])
        try:
            await until(returned.is_set)
            writer = runner.attempts[stream_id].writer
            await until(lambda: runner._engine.appender.counts.outcomes["unavailable"] > 0)
            draining = asyncio.create_task(runner.drain(grace_s=0, hurried=asyncio.Event()))
            await until(lambda: not runner.attempts)
        finally:
            await world.redis.config_set("maxmemory", 0)
        await draining
        assert writer.acked_seq == writer.last_seq
        assert b"Paris is sunny" in b"".join(await world.texts(stream_id))
        assert await world.redis.xlen(world.keys.ready_hi) == 1
