"""The agent loop when something goes wrong: with a call, its tool, its provider, or by a stop."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import pytest
from pydantic import BaseModel, computed_field

from broadcaster.core import events as ev
from broadcaster.core.providers.model_routing import ModelRoutes
from broadcaster.log.redis.connect import LogConnection
from broadcaster.testing import Answer as Refuse
from broadcaster.testing import Cut, Script, Send, chat_wire
from tests.support.log.log_world import until
from tests.worker.providers.provider_support import (
    ANTHROPIC,
    CHAT,
    MODEL,
    Wire,
    on_every_wire,
    provider_at,
    scripted,
    text_of,
)
from tests.worker.tools.agent_support import DONE, OSLO, PARIS, add_weather, agent_world, calls, kinds, outputs
from worker.attempt import AttemptEnd
from worker.providers.registry import Providers
from worker.tools import ToolError


async def test_the_model_gets_the_errors_in_its_arguments_and_the_answer_continues(
    connection: LogConnection,
) -> None:
    async with agent_world(connection) as given:
        cities = add_weather(given)
        given.script(calls(ANTHROPIC, ("weather", '{"town":"Paris"}')), calls(ANTHROPIC, PARIS), DONE)
        events = await given.run()
        refused, good = outputs(events)
        assert isinstance(refused, ev.ToolOutputError)
        assert "city: Field required" in refused.error_text
        assert isinstance(good, ev.ToolOutputAvailable)
        assert cities == ["Paris"]
        result = (await given.requests(2))[1].body["messages"][-1]["content"][0]
        assert result["is_error"] is True
        assert result["content"] == refused.error_text


@on_every_wire
async def test_arguments_that_are_not_json_are_reported_to_the_model(connection: LogConnection, on: Wire) -> None:
    async with agent_world(connection, on=on) as given:
        cities = add_weather(given)
        given.script(calls(on, ("weather", '{"city":')), DONE)
        events = await given.run()
        (refused,) = outputs(events)
        assert isinstance(refused, ev.ToolOutputError)
        assert "not valid JSON" in refused.error_text
        assert cities == []
        assert isinstance(events[-1], ev.Finish)


async def test_an_unknown_name_is_reported_to_the_model(connection: LogConnection) -> None:
    async with agent_world(connection) as given:
        add_weather(given)
        given.script(calls(ANTHROPIC, ("whether", "{}")), DONE)
        (refused,) = outputs(await given.run())
        assert isinstance(refused, ev.ToolOutputError)
        assert refused.error_text == "there is no tool of this name; there are: weather"


async def test_the_text_of_a_tool_error_is_passed_on_and_that_of_any_other_is_not(connection: LogConnection) -> None:
    async with agent_world(connection) as given:

        @given.box.tool
        async def weather(city: str) -> str:
            """Fails."""
            raise ToolError("no such city") if city == "Paris" else RuntimeError("password=hunter2")

        given.script(calls(ANTHROPIC, PARIS, OSLO), DONE)
        events = await given.run()
        results = {each.tool_call_id: each for each in outputs(events)}
        assert results["call_0"] == ev.ToolOutputError(tool_call_id="call_0", error_text="no such city")
        assert results["call_1"] == ev.ToolOutputError(tool_call_id="call_1", error_text="the tool failed")
        assert b"hunter2" not in b"".join(await given.world.texts(given.stream_id))


class Torn(BaseModel):
    """A value of which one property fails."""

    city: str

    @computed_field  # type: ignore[prop-decorator]
    @property
    def degrees(self) -> float:
        """Raises ZeroDivisionError."""
        return 1 / len("")


async def test_a_value_that_fails_while_it_is_encoded_leaves_the_other_calls_of_its_step_alone(
    connection: LogConnection,
) -> None:
    async with agent_world(connection) as given:

        @given.box.tool
        async def weather(city: str) -> Any:
            """Paris returns a torn value; Oslo answers after it."""
            if city == "Paris":
                return Torn(city=city)
            await given.until_logged(ev.ToolOutputError)
            return city

        given.script(calls(ANTHROPIC, PARIS, OSLO), DONE)
        events = await given.run()
        assert outputs(events) == [
            ev.ToolOutputError(tool_call_id="call_0", error_text="the tool failed"),
            ev.ToolOutputAvailable(tool_call_id="call_1", output="Oslo"),
        ]
        assert isinstance(events[-1], ev.Finish)


async def test_a_tool_that_takes_too_long_is_cancelled_and_the_model_informed(connection: LogConnection) -> None:
    async with agent_world(connection) as given:
        cancelled = asyncio.Event()

        @given.box.tool(timeout_s=0.05)
        async def weather(city: str) -> str:
            """Never answers."""
            try:
                await asyncio.Event().wait()
            finally:
                cancelled.set()
            return city

        given.script(calls(ANTHROPIC, PARIS), DONE)
        events = await given.run()
        assert cancelled.is_set()
        (late,) = outputs(events)
        assert isinstance(late, ev.ToolOutputError)
        assert late.error_text == "the tool did not answer within 0.05 s"
        assert isinstance(events[-1], ev.Finish)


async def test_a_stop_in_the_middle_of_a_tool_cancels_it_and_keeps_the_text(connection: LogConnection) -> None:
    async with agent_world(connection) as given:
        begun, cancelled = asyncio.Event(), asyncio.Event()

        @given.box.tool
        async def weather(city: str) -> str:
            """Runs until it is cancelled."""
            begun.set()
            try:
                await asyncio.Event().wait()
            finally:
                cancelled.set()
            return city

        given.script(calls(ANTHROPIC, PARIS, text="Let me look."))
        running = await given.begin()
        await begun.wait()
        running.attempt.writer.stop_requested.set()
        assert await running.over() is AttemptEnd.OVER
        assert cancelled.is_set()
        *_, usage, last = await given.events()
        assert last == ev.Abort(reason="stopped")
        assert isinstance(usage, ev.Usage)
        assert (await given.state()).text == "Let me look."


async def test_a_tool_that_will_not_be_cancelled_does_not_hold_up_a_stop(
    connection: LogConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worker.tools.tool_runner.LET_GO_S", 0.05)
    async with agent_world(connection) as given:
        begun, let_go = asyncio.Event(), asyncio.Event()

        @given.box.tool
        async def weather(city: str) -> str:
            """Receives nothing."""
            begun.set()
            while not let_go.is_set():
                try:
                    await let_go.wait()
                except asyncio.CancelledError:
                    continue
            return city

        given.script(calls(ANTHROPIC, PARIS))
        running = await given.begin()
        await begun.wait()
        running.attempt.writer.stop_requested.set()
        try:
            assert await running.over() is AttemptEnd.OVER
        finally:
            let_go.set()
        assert (await given.events())[-1] == ev.Abort(reason="stopped")


async def test_a_tool_that_the_worker_does_not_have_ends_the_generation_before_any_provider_is_called(
    connection: LogConnection,
) -> None:
    async with agent_world(connection) as given:
        (last,) = await given.run()
        assert isinstance(last, ev.Error)
        assert last.code == "unknown_tool"
        assert given.server.requests == []


async def test_calls_of_a_step_that_was_cut_off_are_not_run(connection: LogConnection) -> None:
    async with agent_world(connection) as given:
        cities = add_weather(given)
        given.script(calls(ANTHROPIC, PARIS, finish="max_tokens"))
        events = await given.run()
        assert cities == []
        assert isinstance(events[-1], ev.Finish)
        assert events[-1].finish_reason == "length"


async def test_a_provider_that_fails_in_a_later_step_ends_the_answer_with_its_reason_and_all_counts(
    connection: LogConnection,
) -> None:
    async with agent_world(connection) as given:
        add_weather(given)
        given.script(calls(ANTHROPIC, PARIS), Script(ANTHROPIC.half(), Cut()))
        events = await given.run()
        *_, usage, last = events
        assert isinstance(last, ev.Error)
        assert last.code == "provider_disconnected"
        first = next(each for each in events if isinstance(each, ev.Usage))
        assert isinstance(usage, ev.Usage)
        assert usage.estimated
        assert usage.input_tokens is not None
        assert first.input_tokens is not None
        assert usage.input_tokens > first.input_tokens
        assert text_of(events).endswith("half an answer")


async def test_a_step_that_falls_back_to_claude_returns_the_calls_under_ids_that_claude_accepts(
    connection: LogConnection,
) -> None:
    async with (
        agent_world(connection, on=CHAT) as given,
        provider_at(given.server.base_url + CHAT.prefix, CHAT) as kimi,
        scripted(ANTHROPIC) as (claude, fallback),
    ):
        routes = ModelRoutes({"*": ["kimi", "claude"]})
        given.providers = Providers(routes, {"kimi": lambda: kimi, "claude": lambda: fallback})
        add_weather(given)
        composer = CHAT.scripted.compose(MODEL)
        parts = [chat_wire.tool_call(*each, id=f"functions.weather:{at}") for at, each in enumerate((PARIS, OSLO))]
        step = [event for part in parts for event in composer.part(part)]
        given.script(Script(Send(*step, *composer.finish())), Script(Refuse(529)))
        events = await given.run()
        _, answer, returned = claude.requests[0].body["messages"]
        ids = [part["id"] for part in answer["content"]]
        assert all(re.fullmatch("[a-zA-Z0-9_-]+", id) for id in ids)
        assert len(set(ids)) == 2
        assert [part["tool_use_id"] for part in returned["content"]] == ids
        assert {each.tool_call_id for each in outputs(events)} == {"functions.weather:0", "functions.weather:1"}
        assert isinstance(events[-1], ev.Finish)


async def test_a_drain_lets_go_of_a_tool_without_ending_the_stream(connection: LogConnection) -> None:
    async with agent_world(connection) as given:
        begun = asyncio.Event()

        @given.box.tool
        async def weather(city: str) -> str:
            """Runs until it is cancelled."""
            begun.set()
            await asyncio.Event().wait()
            return city

        given.script(calls(ANTHROPIC, PARIS))
        running = await given.begin()
        await begun.wait()
        running.attempt.hand_back()
        assert await running.over() is AttemptEnd.HANDED_BACK
        await until(lambda: running.attempt.writer.acked_seq == running.attempt.writer.last_seq)
        assert kinds(await given.events())[-1] == "data-tool-begun"
