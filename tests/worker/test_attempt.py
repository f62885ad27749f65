"""The attempt's table of ends, on a real log and a provider in the test's hands."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest

from broadcaster.core.events import Abort, Error, Event, Finish, TextDelta, Usage, decode_event
from broadcaster.core.providers.model_routing import ModelRoutes
from broadcaster.errors import ProviderFailed
from broadcaster.log.redis.connect import LogConnection
from broadcaster.log.streams import terminals
from broadcaster.log.streams.reader import Meta
from broadcaster.log.streams.writer import StreamWriter
from tests.support.log.log_world import World, until
from worker.attempt import AttemptEnd, AttemptTimes, GenerationAttempt, provider_request
from worker.providers.base import ProviderRequest, ProviderStream
from worker.providers.registry import Providers


class HandProvider:
    """Gives what the test puts in; an exception put in is raised; None ends the stream."""

    def __init__(self) -> None:
        self.given: asyncio.Queue[list[Event] | Exception | None] = asyncio.Queue()
        self.closed = asyncio.Event()
        self.may_close = asyncio.Event()
        self.may_close.set()
        self.requested = 0
        self.refusal: ProviderFailed | None = None

    @asynccontextmanager
    async def stream(self, request: ProviderRequest) -> AsyncIterator[ProviderStream]:
        self.requested += 1
        if self.refusal is not None:
            raise self.refusal
        try:
            yield self
        finally:
            await self.may_close.wait()
            self.closed.set()

    async def __aiter__(self) -> AsyncIterator[list[Event]]:
        while (given := await self.given.get()) is not None:
            if isinstance(given, Exception):
                raise given
            yield given

    received_bytes = 0

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

    def __init__(self, world: World, attempt: GenerationAttempt, providers: Providers) -> None:
        self.world, self.attempt, self.providers = world, attempt, providers
        self.task = asyncio.create_task(attempt.run())

    async def events(self) -> list[Event]:
        return [decode_event(raw) for raw in await self.world.texts(self.attempt.writer.stream_id)]


@pytest.fixture
async def running(connection: LogConnection, provider: HandProvider) -> AsyncIterator[Running]:
    async with _running(connection, provider, model="m", timeout_s=60) as opened:
        yield opened


@asynccontextmanager
async def _running(
    connection: LogConnection,
    provider: HandProvider,
    *,
    model: str,
    timeout_s: float,
    begun_s: float = 0,
    max_bytes: int = 100_000,
    **policy: Any,
) -> AsyncIterator[Running]:
    """``begun_s`` is how long ago the generation was first started."""
    world = World(connection, max_bytes=max_bytes)
    async with world.appender() as appender:
        stream_id, claim = await world.granted()
        writer: StreamWriter = await world.writer(stream_id, claim, appender, world.keeper(appender))
        meta = replace(await world.generations.get(stream_id, tenant="local"), **policy)
        meta = replace(meta, started_ms=claim.epoch - int(begun_s * 1000))
        providers = Providers(ModelRoutes({model: "hand"}), {"hand": lambda: provider})
        times = AttemptTimes(generation_timeout_s=timeout_s, append_deadline_s=5)
        yield Running(world, GenerationAttempt(meta, writer, providers=providers, times=times), providers)


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


async def test_an_unexpected_error_is_reported_without_its_text(running: Running, provider: HandProvider) -> None:
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


async def test_a_drain_does_not_give_back_a_stream_that_its_bound_has_ended(
    connection: LogConnection, provider: HandProvider
) -> None:
    async with _running(connection, provider, model="m", timeout_s=60, max_bytes=1000) as running:
        provider.may_close.clear()
        provider.given.put_nowait([TextDelta(id="0", delta="x" * 2000)])
        await until(lambda: running.attempt.writer.is_complete)
        running.attempt.hand_back()
        provider.may_close.set()
        assert await running.task is AttemptEnd.OVER
        assert (await running.world.texts(running.attempt.writer.stream_id))[-1] == terminals.STREAM_FULL


async def test_the_deadline_ends_a_silent_provider(connection: LogConnection, provider: HandProvider) -> None:
    async with _running(connection, provider, model="m", timeout_s=0.05) as running:
        await running.task
        last = (await running.events())[-1]
        assert isinstance(last, Error)
        assert last.code == "generation_timeout"
        assert provider.closed.is_set()


async def test_the_deadline_is_for_all_attempts_together(connection: LogConnection, provider: HandProvider) -> None:
    async with _running(connection, provider, model="m", timeout_s=60, begun_s=59.9) as running:
        async with asyncio.timeout(20):
            await running.task
        last = (await running.events())[-1]
        assert isinstance(last, Error)
        assert last.code == "generation_timeout"
        assert provider.requested == 1


async def test_a_generation_taken_over_after_its_deadline_calls_no_provider_any_more(
    connection: LogConnection, provider: HandProvider
) -> None:
    async with _running(connection, provider, model="m", timeout_s=60, begun_s=61) as running:
        assert await running.task is AttemptEnd.OVER
        (last,) = await running.events()
        assert isinstance(last, Error)
        assert last.code == "generation_timeout"
        assert provider.requested == 0


PAUSED = ProviderFailed("no", reason="provider_rate_limited", retryable=True, retry_after_s=15)


async def in_pause(running: Running, provider: HandProvider) -> None:
    """Until the attempt waits for its next try."""
    await until(lambda: provider.requested == 1)
    assert not running.task.done()


async def test_a_stop_ends_a_pause_at_once(running: Running, provider: HandProvider) -> None:
    provider.refusal = PAUSED
    await in_pause(running, provider)
    running.attempt.writer.stop_requested.set()
    async with asyncio.timeout(20):
        assert await running.task is AttemptEnd.OVER
    assert await running.events() == [Abort(reason="stopped")]


async def test_a_drain_ends_a_pause_and_gives_back_what_no_viewer_has_seen(
    running: Running, provider: HandProvider
) -> None:
    provider.refusal = PAUSED
    await in_pause(running, provider)
    running.attempt.hand_back()
    async with asyncio.timeout(20):
        assert await running.task is AttemptEnd.HANDED_BACK
    assert await running.events() == []


async def test_a_fence_ends_a_pause(running: Running, provider: HandProvider) -> None:
    provider.refusal = PAUSED
    await in_pause(running, provider)
    running.attempt.writer.lose()
    async with asyncio.timeout(20):
        assert await running.task is AttemptEnd.LOST
    assert (provider.requested, await running.events()) == (1, [])


async def test_the_deadline_ends_a_pause(connection: LogConnection, provider: HandProvider) -> None:
    provider.refusal = ProviderFailed("no", reason="provider_overloaded", retryable=True)
    async with _running(connection, provider, model="m", timeout_s=60, begun_s=59.9) as running:
        async with asyncio.timeout(20):
            await running.task
        last = (await running.events())[-1]
        assert isinstance(last, Error)
        assert last.code in ("generation_timeout", "provider_overloaded")  # its tries may be over sooner


# Over at once: it requests a longer pause than a retry may wait.
LATE = ProviderFailed("no", reason="provider_rate_limited", retryable=True, retry_after_s=60)
CUT = ProviderFailed("cut", reason="provider_disconnected", retryable=True)


@pytest.mark.parametrize(
    ("policy", "first", "failure", "end"),
    [
        ("retry", HALF, CUT, AttemptEnd.RETRY),
        ("fail", HALF, CUT, AttemptEnd.OVER),
        ("retry", HALF, ProviderFailed("no", reason="provider_bad_request"), AttemptEnd.OVER),
        ("retry", [], LATE, AttemptEnd.OVER),
    ],
    ids=["wanted", "not wanted", "for good", "nothing seen"],
)
async def test_a_broken_answer_leads_to_another_attempt_if_the_caller_chose_it_and_it_could_help(
    connection: LogConnection,
    provider: HandProvider,
    policy: str,
    *,
    first: list[Event],
    failure: ProviderFailed,
    end: AttemptEnd,
) -> None:
    if first:
        provider.given.put_nowait(first)
    provider.given.put_nowait(failure)
    async with _running(connection, provider, model="m", timeout_s=5, on_provider_loss=policy) as running:
        assert await running.task is end
        if end is AttemptEnd.RETRY:
            assert await running.attempt.fail() is AttemptEnd.OVER
        last = (await running.events())[-1]
        assert isinstance(last, Error)
        assert last.code == failure.reason


async def test_an_attempt_in_the_place_of_a_broken_one_is_handed_back_with_it_and_pauses_first(
    connection: LogConnection, provider: HandProvider
) -> None:
    provider.given.put_nowait(HALF)
    provider.given.put_nowait(PAUSED)
    async with _running(connection, provider, model="m", timeout_s=60, on_provider_loss="retry") as running:
        assert await running.task is AttemptEnd.RETRY
        first = running.attempt
        running.attempt.hand_back()
        second = GenerationAttempt(
            first.meta, first.writer, providers=running.providers, times=AttemptTimes(60, 5), after=first
        )
        async with asyncio.timeout(20):
            assert await second.run() is AttemptEnd.HANDED_BACK
        assert provider.requested == 1


async def test_an_attempt_in_the_place_of_a_broken_one_has_the_time_that_is_left_to_that(running: Running) -> None:
    """Redis's clock has stepped since the generation began: this worker measures its time itself."""
    first = running.attempt
    stepped = replace(first.meta, started_ms=first.writer.epoch - 3_600_000)
    second = GenerationAttempt(
        stepped, first.writer, providers=running.providers, times=AttemptTimes(60, 5), after=first
    )
    assert second.deadline == first.deadline
    running.task.cancel()


async def test_a_model_without_a_route_ends_with_unknown_model(
    connection: LogConnection, provider: HandProvider
) -> None:
    async with _running(connection, provider, model="other", timeout_s=5) as running:
        await running.task
        last = (await running.events())[-1]
        assert isinstance(last, Error)
        assert last.code == "unknown_model"


def test_the_provider_gets_its_own_fields_and_never_the_callers_metadata() -> None:
    stored = b'{"messages":[{"role":"user","content":"hi"}],"max_tokens":7,"top_p":0.5,"metadata":{"user":"u1"}}'
    request = provider_request(Meta.from_hash("gen_1", {b"model": b"m", b"request": stored}))
    assert (request.model, request.max_tokens, request.extra) == ("m", 7, {"top_p": 0.5})
    assert list(request.messages) == [{"role": "user", "content": "hi"}]


def test_a_field_that_a_surface_stores_for_itself_is_sent_to_no_provider():
    stored = b'{"messages":[],"max_tokens":7,"metadata":{"a":1},"surface":{"name":"x","shown":{"instructions":"y"}}}'
    request = provider_request(Meta.from_hash("gen_1", {b"model": b"m", b"request": stored}))
    assert request.extra == {}
