"""The attempt's table of ends, on a real log and a provider in the test's hands."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from broadcaster.core.events import Abort, Error, Event, Finish, TextDelta, Usage, decode_event
from broadcaster.core.routing import Routes
from broadcaster.errors import ProviderFailed
from broadcaster.log.connect import LogConnection
from broadcaster.log.streams import Meta
from broadcaster.log.writer import StreamWriter
from tests.support.log_world import World, until
from worker.attempt import Attempt, AttemptEnd, AttemptTimes, provider_request
from worker.providers.base import ProviderRequest, ProviderStream
from worker.providers.registry import Providers


class HandProvider:
    """Gives what the test puts in; an exception put in is raised; None ends the stream."""

    def __init__(self) -> None:
        self.given: asyncio.Queue[list[Event] | Exception | None] = asyncio.Queue()
        self.closed = asyncio.Event()

    @asynccontextmanager
    async def stream(self, request: ProviderRequest) -> AsyncIterator[ProviderStream]:
        try:
            yield self
        finally:
            self.closed.set()

    async def __aiter__(self) -> AsyncIterator[list[Event]]:
        while (given := await self.given.get()) is not None:
            if isinstance(given, Exception):
                raise given
            yield given

    def usage_so_far(self) -> Usage:
        return Usage(input_tokens=3, output_tokens=1, estimated=True)

    async def start(self) -> None:
        """Nothing is to be made ready."""

    async def aclose(self) -> None:
        """Nothing is open between streams."""


@pytest.fixture
def provider() -> HandProvider:
    return HandProvider()


class Running:
    """One attempt under way."""

    def __init__(self, world: World, attempt: Attempt) -> None:
        self.world, self.attempt, self.task = world, attempt, asyncio.create_task(attempt.run())

    async def events(self) -> list[Event]:
        return [decode_event(raw) for raw in await self.world.texts(self.attempt.writer.stream_id)]


@pytest.fixture
async def running(connection: LogConnection, provider: HandProvider) -> AsyncIterator[Running]:
    async with _running(connection, provider, model="m", timeout_s=60) as opened:
        yield opened


@asynccontextmanager
async def _running(
    connection: LogConnection, provider: HandProvider, *, model: str, timeout_s: float
) -> AsyncIterator[Running]:
    world = World(connection)
    async with world.appender() as appender:
        stream_id, claim = await world.granted()
        writer: StreamWriter = await world.writer(stream_id, claim, appender, world.keeper(appender))
        meta = await world.generations.get(stream_id, tenant="local")
        providers = Providers(Routes({model: "hand"}), {"hand": lambda: provider})
        times = AttemptTimes(generation_timeout_s=timeout_s, append_deadline_s=5)
        yield Running(world, Attempt(meta, writer, providers=providers, times=times))


HALF: list[Event] = [TextDelta(id="0", delta="half")]


async def test_the_providers_own_end_is_the_end(running: Running, provider: HandProvider) -> None:
    provider.given.put_nowait(HALF)
    provider.given.put_nowait([TextDelta(id="0", delta=" whole"), Finish(finish_reason="stop")])
    assert await running.task is AttemptEnd.OVER
    assert (await running.events())[-1] == Finish(finish_reason="stop")
    assert provider.closed.is_set()


async def test_a_stream_that_just_ends_is_never_a_finished_answer(running: Running, provider: HandProvider) -> None:
    provider.given.put_nowait(HALF)
    provider.given.put_nowait(None)
    assert await running.task is AttemptEnd.OVER
    last = (await running.events())[-1]
    assert isinstance(last, Error)
    assert last.code == "provider_truncated"


async def test_a_failing_provider_ends_with_its_reason_and_an_estimated_usage(
    running: Running, provider: HandProvider
) -> None:
    provider.given.put_nowait(HALF)
    provider.given.put_nowait(ProviderFailed("overloaded", reason="provider_overloaded"))
    await running.task
    *_, usage, last = await running.events()
    assert usage == provider.usage_so_far()
    assert last == Error(error_text="overloaded", code="provider_overloaded")


async def test_an_unexpected_error_is_told_without_its_words(running: Running, provider: HandProvider) -> None:
    provider.given.put_nowait(RuntimeError("secret-key-123"))
    await running.task
    last = (await running.events())[-1]
    assert isinstance(last, Error)
    assert last.code == "internal_error"
    assert "secret" not in last.error_text


async def test_a_stop_closes_the_provider_and_keeps_the_partial_answer(
    running: Running, provider: HandProvider
) -> None:
    provider.given.put_nowait(HALF)
    await until(lambda: running.attempt.writer.acked_seq == 1)
    running.attempt.writer.stop_requested.set()
    assert await running.task is AttemptEnd.OVER
    assert provider.closed.is_set()
    assert await running.events() == [*HALF, provider.usage_so_far(), Abort(reason="stopped")]


async def test_a_fenced_attempt_closes_the_provider_and_writes_nothing_more(
    running: Running, provider: HandProvider
) -> None:
    provider.given.put_nowait(HALF)
    await until(lambda: running.attempt.writer.acked_seq == 1)
    running.attempt.writer.lose()
    assert await running.task is AttemptEnd.LOST
    assert provider.closed.is_set()
    assert await running.events() == HALF


async def test_a_drain_lets_go_without_ending_the_stream(running: Running, provider: HandProvider) -> None:
    provider.given.put_nowait(HALF)
    await until(lambda: running.attempt.writer.acked_seq == 1)
    running.attempt.hand_back()
    assert await running.task is AttemptEnd.HANDED_BACK
    assert provider.closed.is_set()
    assert await running.events() == HALF


async def test_the_deadline_ends_a_silent_provider(connection: LogConnection, provider: HandProvider) -> None:
    async with _running(connection, provider, model="m", timeout_s=0.05) as running:
        await running.task
        last = (await running.events())[-1]
        assert isinstance(last, Error)
        assert last.code == "generation_timeout"
        assert provider.closed.is_set()


async def test_a_model_without_a_route_ends_with_unknown_model(
    connection: LogConnection, provider: HandProvider
) -> None:
    async with _running(connection, provider, model="other", timeout_s=5) as running:
        await running.task
        last = (await running.events())[-1]
        assert isinstance(last, Error)
        assert last.code == "unknown_model"


def test_the_provider_is_asked_in_its_own_words_and_never_sees_the_callers_metadata() -> None:
    stored = b'{"messages":[{"role":"user","content":"hi"}],"max_tokens":7,"top_p":0.5,"metadata":{"user":"u1"}}'
    request = provider_request(Meta.from_hash("gen_1", {b"model": b"m", b"request": stored}))
    assert (request.model, request.max_tokens, request.extra) == ("m", 7, {"top_p": 0.5})
    assert list(request.messages) == [{"role": "user", "content": "hi"}]
