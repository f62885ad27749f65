"""One generation with tools, on a real log, from a scripted provider through a real SDK, attempt by attempt."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from broadcaster.core import events as ev
from broadcaster.core.events import Event, decode_event
from broadcaster.core.fold import Fold, FoldState
from broadcaster.core.providers.model_routing import ModelRoutes
from broadcaster.core.providers.retrying import RetryBounds
from broadcaster.log.jobs.claims import Outcome
from broadcaster.log.jobs.generations import GenerationRequest
from broadcaster.log.redis.connect import LogConnection
from broadcaster.log.streams.appender import Appender
from broadcaster.testing import Conversation, Script, ScriptedProvider, Send
from broadcaster.testing.http1 import RecordedRequest
from tests.support.log.log_world import TENANT, World, until
from tests.worker.providers.provider_support import ANTHROPIC, MODEL, Wire, provider_at
from worker.attempt import AttemptEnd, AttemptTimes, GenerationAttempt
from worker.providers.registry import Providers
from worker.tools import ToolBox
from worker.tools.agent import AgentSetup
from worker.tools.tool_runner import ToolBounds, ToolRunner

DEADLINE_S = 20.0
DONE = Script.of_text("It is ", "sunny.")
PARIS = ("weather", '{"city":"Paris"}')
OSLO = ("weather", '{"city":"Oslo"}')
QUESTION = [{"role": "user", "content": "What is the weather?"}]


def calls(on: Wire, *requested: tuple[str, str], text: str = "", finish: str | None = None) -> Script:
    """A step with text and calls of tools: name and JSON arguments of each."""
    composer = on.scripted.compose(MODEL)
    events = composer.text(text) if text else []
    for number, (name, arguments) in enumerate(requested):
        half = len(arguments) // 2
        block = on.scripted.tool_call(name, arguments[:half], arguments[half:], id=f"call_{number}")
        events += composer.part(block)
    return Script(Send(*events, *composer.finish(finish)))


@dataclass
class Running:
    """One attempt under way."""

    attempt: GenerationAttempt
    task: asyncio.Task[AttemptEnd]

    async def over(self) -> AttemptEnd:
        async with asyncio.timeout(DEADLINE_S):
            return await self.task


@dataclass
class AgentWorld:
    """The generation and everything around it; ``box`` may be filled until its first attempt begins."""

    world: World
    appender: Appender
    server: ScriptedProvider
    providers: Providers
    on: Wire
    stream_id: str
    box: ToolBox = field(default_factory=ToolBox)
    bounds: ToolBounds = field(default_factory=ToolBounds)
    max_steps: int = 5
    policy: dict[str, Any] = field(default_factory=dict)
    started: list[Running] = field(default_factory=list)

    def script(self, *scripts: Script) -> None:
        """What the provider answers to the first call, the second, …"""
        self.server.script(MODEL, *scripts)

    def conversation(self) -> Conversation:
        return self.server.conversation(MODEL)

    async def begin(self) -> Running:
        """A worker claims the generation and runs it."""
        claim = await self.world.claim(self.stream_id)
        assert claim.outcome is Outcome.GRANTED
        writer = await self.world.writer(self.stream_id, claim, self.appender, self.world.keeper(self.appender))
        meta = replace(await self.world.generations.get(self.stream_id, tenant=TENANT), **self.policy)
        agent = AgentSetup(ToolRunner(self.box, self.bounds), self.world.streams, self.max_steps)
        attempt = GenerationAttempt(
            meta,
            writer,
            providers=self.providers,
            times=AttemptTimes(generation_timeout_s=DEADLINE_S, append_deadline_s=5),
            retry=RetryBounds(retries=0, cap_s=0.01),
            agent=agent,
        )
        running = Running(attempt, asyncio.create_task(attempt.run()))
        self.started.append(running)
        return running

    async def run(self) -> list[Event]:
        """One attempt to its end; all events of the log."""
        running = await self.begin()
        assert await running.over() is AttemptEnd.OVER
        return await self.events()

    async def lose(self, running: Running) -> None:
        """The worker is gone: nothing more of it is written, and its lease lapses."""
        await until(lambda: running.attempt.writer.acked_seq == running.attempt.writer.last_seq)
        running.attempt.writer.lose()
        assert await running.over() is AttemptEnd.LOST
        await self.world.lapse(self.stream_id)

    async def record(self, events: Sequence[Event]) -> None:
        """What a worker has written that is gone now."""
        claim = await self.world.claim(self.stream_id)
        writer = await self.world.writer(self.stream_id, claim, self.appender, self.world.keeper(self.appender))
        writer.write(events)
        await writer.confirmed()
        writer.lose()
        await self.world.lapse(self.stream_id)

    async def events(self) -> list[Event]:
        return [decode_event(raw) for raw in await self.world.texts(self.stream_id)]

    async def state(self) -> FoldState:
        fold = Fold()
        for raw in await self.world.texts(self.stream_id):
            fold.apply(raw)
        return fold.state

    async def until_logged(self, kind: type, count: int = 1) -> None:
        """Until the log has so many events of a type."""
        async with asyncio.timeout(DEADLINE_S):
            while sum(isinstance(each, kind) for each in await self.events()) < count:
                await asyncio.sleep(0.005)

    async def requests(self, count: int) -> list[RecordedRequest]:
        return await self.server.wait_requests(count)


@asynccontextmanager
async def agent_world(
    connection: LogConnection, *, on: Wire = ANTHROPIC, tools: Sequence[Any] = ({"name": "weather"},), **entry: Any
) -> AsyncIterator[AgentWorld]:
    """A queued generation that names these tools; more fields of its request by keyword."""
    world = World(connection, lease_ms=5000)
    request = {"messages": QUESTION, "max_tokens": 64, "tools": list(tools), **entry}
    created = await world.generations.create(GenerationRequest(model=MODEL, request=request), tenant=TENANT)
    async with (
        ScriptedProvider() as server,
        provider_at(server.base_url + on.prefix, on) as provider,
        world.appender() as appender,
    ):
        providers = Providers(ModelRoutes({"*": "scripted"}), {"scripted": lambda: provider})
        opened = AgentWorld(world, appender, server, providers, on, created.id)
        try:
            yield opened
        finally:
            for running in opened.started:
                running.task.cancel()
            await asyncio.gather(*(running.task for running in opened.started), return_exceptions=True)


def outputs(events: Sequence[Event]) -> list[ev.ToolOutputAvailable | ev.ToolOutputError]:
    """The outputs in the events."""
    return [each for each in events if isinstance(each, ev.ToolOutputAvailable | ev.ToolOutputError)]


def kinds(events: Sequence[Event]) -> list[str]:
    """The types of the events, deltas left out."""
    names = [str(each.type if isinstance(each, ev.DataEvent) else type(each).__name__) for each in events]
    return [name for name in names if not name.endswith("Delta")]


def add_weather(given: AgentWorld) -> list[str]:
    """The tool of most tests; returns the cities of its calls."""
    cities: list[str] = []

    @given.box.tool
    async def weather(city: str) -> dict[str, Any]:
        """The weather in a city."""
        cities.append(city)
        return {"city": city, "celsius": 21}

    return cities
