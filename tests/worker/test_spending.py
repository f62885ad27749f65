"""What an attempt has spent: the input of every request that a provider accepted, however its answer ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from broadcaster.core import events as ev
from broadcaster.core.events import decode_event
from broadcaster.core.providers.metering import estimated_input_tokens, estimated_request_tokens
from broadcaster.core.requests.passed_calls import COUNT_TOKENS, EMBEDDINGS, passed_request
from broadcaster.errors import ProviderFailed
from broadcaster.log.redis.connect import LogConnection
from broadcaster.testing import Answer as Refuse
from broadcaster.testing import Cut, Hang, Headers, Script, Send, Step
from tests.support.log.log_world import World, until
from tests.worker.providers.provider_support import CHAT, Wire, on_every_wire, on_openai_wires, request_for, text_of
from tests.worker.retry_support import MODEL, opened
from tests.worker.retry_support import World as Tries
from tests.worker.test_attempt import HandProvider
from tests.worker.test_ends import CountedUsage, generating
from worker.attempt import GenerationAttempt
from worker.retry import ModelAnswer
from worker.runner import Runner

DEADLINE_S = 20.0
MESSAGES = [{"role": "user", "content": "word " * 10_000}]
INPUT = estimated_request_tokens(MESSAGES)
SPENT = ev.Usage(input_tokens=INPUT, output_tokens=1, estimated=True)
PROMPT_TOKENS = estimated_request_tokens(request_for(MODEL).messages)


class SilentCounts(HandProvider):
    """A provider that has not reported its counts."""

    def usage_so_far(self) -> ev.Usage:
        return ev.Usage(output_tokens=1, estimated=True)


@pytest.fixture
async def world(connection: LogConnection) -> World:
    world = World(connection)
    await world.queue.create_group()
    return world


# ------------------------------------------------------------------------------------------------------- every ending


async def _stop(attempt: GenerationAttempt, runner: Runner) -> None:
    attempt.writer.stop_requested.set()


async def _drain(attempt: GenerationAttempt, runner: Runner) -> None:
    await runner.drain(grace_s=0, hurried=asyncio.Event())


async def _lose(attempt: GenerationAttempt, runner: Runner) -> None:
    attempt.writer.lose()


async def _outgrow(attempt: GenerationAttempt, runner: Runner) -> None:
    attempt.fail_for_memory()


ENDS: dict[str, Any] = {
    "a stop": _stop,
    "a drain": _drain,
    "a lost lease": _lose,
    "memory runs short": _outgrow,
    "the answer fails": ProviderFailed("overloaded", reason="provider_overloaded"),
    "the answer ends without its end": None,
}
UNWRITTEN = ("a drain", "a lost lease")


@pytest.mark.parametrize("how", ENDS)
async def test_an_answer_that_ends_before_its_counts_has_spent_its_input(world: World, how: str) -> None:
    usage, end = CountedUsage(), ENDS[how]
    request = {"messages": MESSAGES}
    async with generating(world, usage, provider=SilentCounts(), request=request) as (runner, provider, stream_id):
        provider.given.put_nowait([ev.TextStart(id="0"), ev.TextDelta(id="0", delta="half")])
        attempt = runner.attempts[stream_id]
        await until(lambda: attempt.writer.acked_seq == 2)
        if callable(end):
            await end(attempt, runner)
        else:
            provider.given.put_nowait(end)
        await until(lambda: len(usage.counted) == 1)
        assert usage.counted == [SPENT]
        assert _written(await world.texts(stream_id)) == ([] if how in UNWRITTEN else [SPENT])


async def test_an_answer_that_took_too_long_has_spent_its_input(world: World) -> None:
    usage, request = CountedUsage(), {"messages": MESSAGES}
    async with generating(world, usage, provider=SilentCounts(), timeout_s=1, request=request) as (_, _, stream_id):
        await until(lambda: len(usage.counted) == 1)
        assert usage.counted == _written(await world.texts(stream_id)) == [SPENT]


def _written(texts: list[bytes]) -> list[ev.Event]:
    """The counts in a log."""
    return [event for event in map(decode_event, texts) if isinstance(event, ev.Usage)]


# --------------------------------------------------------------------------------------------------- on the real wires


@asynccontextmanager
async def answering(tries: Tries, until_: Callable[[ModelAnswer], bool]) -> AsyncIterator[ModelAnswer]:
    """An answer that has come so far; it is cancelled afterwards, as a stop does."""
    answer = tries.answer()
    running = asyncio.create_task(answer.run(tries.given.extend))
    await until(lambda: until_(answer))
    try:
        yield answer
    finally:
        running.cancel()
        await asyncio.wait({running}, timeout=DEADLINE_S)


@on_openai_wires
async def test_a_stop_counts_the_input_that_the_wire_reports_at_its_end(on: Wire) -> None:
    async with opened(on, 1) as tries:
        tries.servers[0].script(MODEL, Script(on.half(), Hang()))
        async with answering(tries, lambda _: text_of(tries.given) == "half an answer") as answer:
            pass
        usage = answer.usage_so_far()
        assert usage is not None
        assert (usage.input_tokens, usage.output_tokens, usage.estimated) == (PROMPT_TOKENS, 4, True)
        assert tries.providers.counts.tokens["one", "claude*", "input"] == PROMPT_TOKENS


@on_every_wire
async def test_a_stop_before_the_first_event_counts_the_input(on: Wire) -> None:
    async with opened(on, 1) as tries:
        tries.servers[0].script(MODEL, Script(Headers(), Hang()))
        async with answering(tries, lambda answer: answer.usage_so_far() is not None) as answer:
            pass
        assert answer.usage_so_far() == ev.Usage(input_tokens=PROMPT_TOKENS, output_tokens=0, estimated=True)


async def test_a_whole_answer_without_counts_has_the_same_estimate_in_its_events() -> None:
    async with opened(CHAT, 1) as tries:
        composer = CHAT.scripted.compose(MODEL)
        events = [*composer.text("Hello"), *composer.finish()]
        tries.servers[0].script(MODEL, Script(Send(*(event for event in events if not _has_counts(event)))))
        answer = tries.answer()
        last = await answer.run(tries.given.extend)
        expected = ev.Usage(input_tokens=PROMPT_TOKENS, output_tokens=2, estimated=True)
        assert [event for event in last if isinstance(event, ev.Usage)] == [answer.usage_so_far()] == [expected]


@on_every_wire
async def test_the_providers_own_count_of_the_input_stays(on: Wire) -> None:
    async with opened(on, 1) as tries:
        answer = tries.answer()
        last = await answer.run(tries.given.extend)
        (usage,) = (event for event in last if isinstance(event, ev.Usage))
        assert usage == answer.usage_so_far()
        assert (usage.input_tokens, usage.estimated) == (25, False)


REFUSALS: dict[str, Callable[[Wire], tuple[Step, ...]]] = {
    "by its status": lambda on: (Refuse(400),),
    "in its first event": lambda on: (on.fail(on.scripted.overloaded, "Overloaded"),),
    "by a cut": lambda on: (Headers(), Cut()),
}


@on_every_wire
@pytest.mark.parametrize("how", REFUSALS)
async def test_a_try_that_fails_before_any_event_counts_no_input(on: Wire, how: str) -> None:
    async with opened(on, 1) as tries:
        tries.servers[0].script(MODEL, Script(*REFUSALS[how](on)))
        answer = tries.answer()
        with pytest.raises(ProviderFailed):
            await answer.run(tries.given.extend)
        usage = answer.usage_so_far()
        assert usage is None or usage.input_tokens is None
        assert tries.providers.counts.tokens["one", "claude*", "input"] == 0


def _has_counts(event: Any) -> bool:
    return isinstance(event, dict) and bool(event.get("usage"))


# ----------------------------------------------------------------------------------------------------- of passed calls


def test_a_passed_call_has_the_input_of_its_body() -> None:
    body = {"model": "m", "input": "x" * 400}
    assert estimated_input_tokens(passed_request(EMBEDDINGS, body)) == estimated_request_tokens(body)


def test_a_count_of_tokens_costs_none() -> None:
    assert estimated_input_tokens(passed_request(COUNT_TOKENS, {"model": "m", "messages": MESSAGES})) is None


# -------------------------------------------------------------------------------------------------------- of recordings


def test_a_recording_costs_as_much_as_a_file_however_many_bytes_it_has() -> None:
    audio = {"type": "input_audio", "input_audio": {"data": "A" * 4_000_000, "format": "wav"}}
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 4_000_000}}
    costs = [estimated_request_tokens([{"role": "user", "content": [part]}]) for part in (audio, image)]
    assert abs(costs[0] - costs[1]) < 20


def test_a_field_of_a_tool_that_is_called_data_is_text() -> None:
    call = {"type": "tool_use", "name": "save", "input": {"data": "x" * 40_000, "format": "csv"}}
    assert estimated_request_tokens([{"role": "assistant", "content": [call]}]) > 10_000
