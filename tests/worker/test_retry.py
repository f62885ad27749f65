"""An answer through its tries: real servers, real SDKs, and what a viewer sees of all the trouble: nothing."""

from __future__ import annotations

import asyncio

import pytest
from structlog.testing import capture_logs

from broadcaster.core import events as ev
from broadcaster.core.providers.retrying import RetryBounds
from broadcaster.errors import UnknownModel
from broadcaster.testing import Answer as Refuse
from broadcaster.testing import (
    BadJson,
    Cut,
    Gate,
    Hang,
    Headers,
    Reset,
    Script,
    Send,
    Step,
    Wait,
    wire,
)
from tests.worker.providers.provider_support import CHAT, WIRES, Wire, on_every_wire, text_of
from tests.worker.retry_support import GOOD, MODEL, opened, signature
from worker.retry import MAX_PENDING_EVENTS


def count_of(events: list[ev.Event], kind: type) -> int:
    return sum(isinstance(event, kind) for event in events)


# ------------------------------------------------------------------------------------------- before the first content


TROUBLE: dict[str, tuple[Step, ...]] = {
    "429": (Refuse(429),),
    "529": (Refuse(529),),
    "500": (Refuse(500),),
    "503": (Refuse(503),),
    "cut": (Cut(),),
    "reset": (Reset(),),
    "cut after the headers": (Headers(), Cut()),
    "end after the headers": (Headers(),),
    "bad JSON": (BadJson(),),
    "no event stream": (Headers({"content-type": "text/html"}),),
}


@on_every_wire
@pytest.mark.parametrize("steps", TROUBLE.values(), ids=TROUBLE)
async def test_trouble_before_the_first_content_leaves_no_trace(on: Wire, steps: tuple[Step, ...]):
    async with opened(on, 1) as world:
        world.servers[0].script(MODEL, Script(*steps), Script(*steps), GOOD)
        events = await world.run()
        assert (text_of(events), count_of(events, ev.Start), count_of(events, ev.Finish)) == ("Hello world", 1, 1)
        assert world.requested == [3]


def opening(on: Wire) -> Send:
    """All of an answer that comes before its first text."""
    composer = on.scripted.compose(MODEL)
    start = composer.start()
    return Send(*start, *([wire.block_start(0, {"type": "text", "text": ""})] if on.name == "anthropic" else []))


@on_every_wire
@pytest.mark.parametrize("how", ["cut", "error"])
async def test_an_answer_that_only_opened_is_no_answer_yet(on: Wire, how: str):
    async with opened(on, 1) as world:
        end = Cut() if how == "cut" else on.fail(on.scripted.overloaded, "Overloaded")
        world.servers[0].script(MODEL, Script(opening(on), end), GOOD)
        events = await world.run()
        assert (text_of(events), count_of(events, ev.Start), count_of(events, ev.StartStep)) == ("Hello world", 1, 1)
        assert (count_of(events, ev.TextStart), world.requested) == (1, [2])


@on_every_wire
async def test_silence_is_cut_short_by_the_read_timeout_and_retried(on: Wire):
    async with opened(on, 1, read_timeout_s=1) as world:
        world.servers[0].script(MODEL, Script(Hang()), Script(Headers(), Hang()), GOOD)
        assert text_of(await world.run()) == "Hello world"


async def test_a_refused_connection_leads_to_the_next_provider():
    async with opened() as world:
        await world.servers[0].__aexit__(None, None, None)
        assert text_of(await world.run()) == "Hello world"
        await world.servers[0].__aenter__()


@on_every_wire
async def test_when_its_tries_are_used_up_the_next_target_answers_and_signs(on: Wire):
    async with opened(on) as world:
        world.servers[0].script(MODEL, Script(Refuse(529)))
        events = await world.run()
        assert (text_of(events), world.requested) == ("Hello world", [3, 1])
        assert signature(events) == {"provider": "two", "model": MODEL, "tries": 4}


async def test_a_target_may_name_the_model_and_a_models_name_may_hold_slashes():
    async with opened(targets=["one", "two/meta/llama-4"]) as world:
        world.servers[0].script(MODEL, Script(Refuse(500)))
        events = await world.run()
        assert world.servers[1].requests[0].body["model"] == "meta/llama-4"
        assert signature(events) == {"provider": "two", "model": "meta/llama-4", "tries": 4}


async def test_an_answer_at_the_first_try_is_not_signed():
    async with opened() as world:
        assert signature(await world.run()) is None
        assert world.requested == [1, 0]


async def test_a_retry_is_recorded_in_the_answer_too():
    async with opened() as world:
        world.servers[0].script(MODEL, Script(Refuse(500)), GOOD)
        assert signature(await world.run()) == {"provider": "one", "model": MODEL, "tries": 2}


async def test_when_no_target_answers_the_last_failure_is_the_end_with_the_number_of_tries():
    async with opened() as world:
        world.servers[0].script(MODEL, Script(Refuse(529)))
        world.servers[1].script(MODEL, Script(Refuse(500)))
        failure = await world.fail()
        assert (failure.reason, world.requested, world.given) == ("provider_error", [3, 3], [])
        assert failure.detail.endswith("; tried 6 times")
        assert failure.__context__ is None


async def test_a_bad_request_is_tried_nowhere_else():
    async with opened() as world:
        world.servers[0].script(MODEL, Script(Refuse(400)))
        assert (await world.fail()).reason == "provider_bad_request"
        assert world.requested == [1, 0]


async def test_refused_credentials_are_not_retried_there():
    async with opened() as world:
        world.servers[0].script(MODEL, Script(Refuse(401)))
        assert text_of(await world.run()) == "Hello world"
        assert world.requested == [1, 1]


async def test_the_providers_own_delay_is_waited_for():
    async with opened(count=1) as world:
        world.servers[0].script(MODEL, Script(Refuse(429, headers={"retry-after-ms": "300"})), GOOD)
        began = asyncio.get_running_loop().time()
        await world.run(bounds=RetryBounds(retries=1, cap_s=1))
        assert asyncio.get_running_loop().time() - began >= 0.3


async def test_a_delay_beyond_the_cap_is_not_waited_for():
    async with opened() as world:
        world.servers[0].script(MODEL, Script(Refuse(429, headers={"retry-after": "21"})))
        assert text_of(await world.run(bounds=RetryBounds(retries=2, cap_s=20))) == "Hello world"
        assert world.requested == [1, 1]


async def test_a_delay_beyond_the_answers_own_time_is_not_waited_for():
    async with opened() as world:
        world.servers[0].script(MODEL, Script(Refuse(429, headers={"retry-after": "9"})))
        assert text_of(await world.run(bounds=RetryBounds(retries=2, cap_s=20), left_s=8)) == "Hello world"


async def test_if_no_other_target_could_answer_the_long_delay_is_reported():
    async with opened(count=1) as world:
        world.servers[0].script(MODEL, Script(Refuse(429, headers={"retry-after": "3600"})))
        failure = await world.fail(bounds=RetryBounds(retries=2, cap_s=20))
        assert "it asks for a pause of 3600 s" in failure.detail
        assert world.requested == [1]


async def test_a_model_without_a_route_is_requested_nowhere():
    async with opened() as world:
        with pytest.raises(UnknownModel):
            await world.run(model="gpt-x")


async def test_a_provider_whose_key_is_missing_leads_to_the_next(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("KEY_A", raising=False)
    async with opened(keys=("KEY_A",)) as world:
        failure = await world.fail()
        assert failure.reason == "provider_auth"
        assert "set KEY_A" in failure.detail
        assert world.requested == [0, 0]


# ------------------------------------------------------------------------------------------------ after first content


@on_every_wire
@pytest.mark.parametrize("how", ["cut", "reset", "end", "error", "bad JSON"])
async def test_after_the_first_content_nothing_is_retried(on: Wire, how: str):
    ends: dict[str, tuple[Step, ...]] = {
        "cut": (Cut(),),
        "reset": (Reset(),),
        "end": (),
        "error": (on.fail(on.scripted.overloaded, "Overloaded"),),
        "bad JSON": (BadJson(),),
    }
    async with opened(on) as world:
        gate = Gate()
        world.servers[0].script(MODEL, Script(on.half(), Wait(gate), *ends[how]))
        failing = asyncio.create_task(world.fail())
        async with asyncio.timeout(20):
            while text_of(world.given) != "half an answer":
                await asyncio.sleep(0.005)
        gate.open()
        failure = await failing
        assert failure.retryable
        assert world.requested == [1, 0]


async def test_an_empty_answer_is_an_answer():
    async with opened() as world:
        composer = CHAT.scripted.compose(MODEL)
        world.servers[0].script(MODEL, Script(Send(*composer.start(), *composer.finish())))
        events = await world.run()
        assert (text_of(events), world.requested) == ("", [1, 0])


async def test_content_comes_at_once_and_brings_its_opening_along():
    async with opened(count=1) as world:
        conversation = world.servers[0].conversation(MODEL)
        running = asyncio.create_task(world.run())
        await conversation.send_text("a")
        async with asyncio.timeout(20):
            while not world.given:
                await asyncio.sleep(0.005)
        assert [type(event) for event in world.given] == [ev.Start, ev.StartStep, ev.TextStart, ev.TextDelta]
        await conversation.finish()
        await running


async def test_no_more_is_kept_back_than_an_opening_can_be():
    blocks = [wire.block_start(number, {"type": "text", "text": ""}) for number in range(MAX_PENDING_EVENTS)]
    frames = [wire.message_start(), *blocks]
    async with opened(WIRES[0], 1) as world:
        world.servers[0].script(MODEL, Script(Send(*frames), Hang()))
        running = asyncio.create_task(world.run())
        async with asyncio.timeout(20):
            while not world.given:
                await asyncio.sleep(0.005)
        running.cancel()
        await asyncio.wait([running])


# --------------------------------------------------------------------------------------------------------------- stop


async def test_cancelling_ends_a_pause_at_once():
    async with opened() as world:
        world.servers[0].script(MODEL, Script(Refuse(429, headers={"retry-after": "15"})))
        running = asyncio.create_task(world.run(bounds=RetryBounds(retries=2, cap_s=20)))
        with capture_logs() as logs:
            async with asyncio.timeout(20):
                while not any(each["event"] == "provider_retry" for each in logs):
                    await asyncio.sleep(0.005)
        running.cancel()
        done, _ = await asyncio.wait([running], timeout=10)  # of the 15 s that the provider demands
        assert done
        assert running.cancelled()
        assert world.requested == [1, 0]


async def test_every_try_is_in_the_log():
    async with opened() as world:
        world.servers[0].script(MODEL, Script(Refuse(529)))
        world.servers[1].script(MODEL, Script(Refuse(400)))
        with capture_logs() as logs:
            await world.fail()
        assert [(each["event"], each["provider"], each["reason"], each["tries"]) for each in logs] == [
            ("provider_retry", "one", "provider_overloaded", 1),
            ("provider_retry", "one", "provider_overloaded", 2),
            ("provider_fallback", "one", "provider_overloaded", 3),
            ("provider_given_up", "two", "provider_bad_request", 4),
        ]
        assert {each["stream"] for each in logs} == {"gen_1"}
