"""The agent loop: a real log, a real SDK on each wire, a scripted provider."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from functools import partial
from typing import Any

import pytest

from broadcaster.core import events as ev
from broadcaster.log.redis.connect import LogConnection
from broadcaster.testing import Script, Send, chat_wire, responses_wire, wire
from tests.support.log.log_world import TENANT
from tests.worker.providers.provider_support import ANTHROPIC, CHAT, MODEL, RESPONSES, Wire, on_every_wire
from tests.worker.tools.agent_support import DONE, OSLO, PARIS, add_weather, agent_world, calls, kinds, outputs
from worker.attempt import AttemptEnd
from worker.providers.openai import OpenAIProvider
from worker.tools import ToolContext
from worker.tools.tool_runner import ToolBounds


@on_every_wire
async def test_an_answer_with_a_tool_is_one_stream_of_two_steps(connection: LogConnection, on: Wire) -> None:
    async with agent_world(connection, on=on) as given:
        cities = add_weather(given)
        given.script(calls(on, PARIS, text="Let me look."), DONE)
        events = await given.run()
        assert cities == ["Paris"]
        names = [name for name in kinds(events) if name != "Usage"]
        assert names == [
            *("Start", "StartStep", "TextStart", "TextEnd", "ToolInputStart", "ToolInputAvailable"),
            *("data-tool-begun", "ToolOutputAvailable", "FinishStep"),
            *("StartStep", "TextStart", "TextEnd", "FinishStep", "Finish"),
        ]
        assert outputs(events) == [
            ev.ToolOutputAvailable(tool_call_id="call_0", output={"city": "Paris", "celsius": 21})
        ]
        assert isinstance(events[-1], ev.Finish)
        assert events[-1].finish_reason == "stop"
        state = await given.state()
        assert state.text == "Let me look.It is sunny."
        assert [part["state"] for part in state.parts if part["type"] == "tool"] == ["output-available"]


async def test_the_model_gets_its_output_and_the_tools_result_as_messages(
    connection: LogConnection,
) -> None:
    async with agent_world(connection) as given:
        add_weather(given)
        thought = wire.thinking("Paris, ", "then.", signature="c2ln")
        blocks = (thought, wire.redacted_thinking("eHg="), wire.text("Let me ", "look."))
        call = wire.tool_use("weather", '{"city":', '"Paris"}', id="toolu_9")
        given.script(Script(Send(*wire.message(*blocks, call))), DONE)
        await given.run()
        first, second = (request.body for request in await given.requests(2))
        assert first["tools"][0]["name"] == "weather"
        assert first["tools"][0]["input_schema"]["required"] == ["city"]
        assert "max_steps" not in first
        assert second["messages"][0] == first["messages"][0]
        assert second["messages"][1:] == [
            {
                "role": "assistant",
                "content": [
                    {"type": "thinking", "thinking": "Paris, then.", "signature": "c2ln"},
                    {"type": "redacted_thinking", "data": "eHg="},
                    {"type": "text", "text": "Let me look."},
                    {"type": "tool_use", "id": "toolu_9", "name": "weather", "input": {"city": "Paris"}},
                ],
            },
            {
                "role": "user",
                "content": [
                    {"type": "tool_result", "tool_use_id": "toolu_9", "content": '{"city":"Paris","celsius":21}'}
                ],
            },
        ]


async def test_the_model_gets_them_as_chat_completions(connection: LogConnection) -> None:
    async with agent_world(connection, on=CHAT) as given:
        add_weather(given)
        given.script(calls(CHAT, PARIS), DONE)
        await given.run()
        body = (await given.requests(2))[1].body
        call, result = body["messages"][1:]
        assert call["tool_calls"][0]["function"] == {"name": "weather", "arguments": '{"city":"Paris"}'}
        assert (result["role"], result["tool_call_id"]) == ("tool", call["tool_calls"][0]["id"])
        assert json.loads(result["content"]) == {"city": "Paris", "celsius": 21}


async def test_the_model_gets_them_as_responses(connection: LogConnection) -> None:
    async with agent_world(connection, on=RESPONSES) as given:
        add_weather(given)
        given.script(calls(RESPONSES, PARIS), DONE)
        await given.run()
        body = (await given.requests(2))[1].body
        call, result = body["input"][1:]
        assert (call["type"], call["name"], call["arguments"]) == ("function_call", "weather", '{"city":"Paris"}')
        assert (result["type"], result["call_id"]) == ("function_call_output", call["call_id"])


async def test_a_call_returns_with_what_the_server_attached_to_it(connection: LogConnection) -> None:
    async with agent_world(connection, on=CHAT) as given:
        add_weather(given)
        signed = {"google": {"thought_signature": "c2ln"}}
        call = chat_wire.tool_call("weather", '{"city":"Paris"}', id="call_0")
        call = replace(call, deltas=[{**call.deltas[0], "extra_content": signed}, *call.deltas[1:]])
        given.script(Script(Send(*chat_wire.answer(call))), DONE)
        await given.run()
        body = (await given.requests(2))[1].body
        assert body["messages"][1]["tool_calls"] == [
            {
                "id": "call_0",
                "type": "function",
                "function": {"name": "weather", "arguments": '{"city":"Paris"}'},
                "extra_content": signed,
            }
        ]


async def test_a_text_returns_with_its_phase(connection: LogConnection) -> None:
    async with agent_world(connection, on=RESPONSES) as given:
        add_weather(given)
        call = responses_wire.tool_call("weather", '{"city":"Paris"}', id="call_0")
        events = responses_wire.answer(responses_wire.text("Let me look."), call)
        for event in events:
            if event.get("item", {}).get("type") == "message":
                event["item"]["phase"] = "commentary"
        given.script(Script(Send(*events)), DONE)
        await given.run()
        _, text, returned, _ = (await given.requests(2))[1].body["input"]
        assert (text["content"][0]["text"], text["phase"]) == ("Let me look.", "commentary")
        assert returned == {
            "type": "function_call",
            "call_id": "call_0",
            "name": "weather",
            "arguments": '{"city":"Paris"}',
        }


@on_every_wire
async def test_the_calls_of_a_step_run_at_once_and_return_in_their_order(connection: LogConnection, on: Wire) -> None:
    async with agent_world(connection, on=on) as given:
        both, oslo_is_done = asyncio.Barrier(2), asyncio.Event()

        @given.box.tool
        async def weather(city: str) -> str:
            """Neither answers before both have begun, and Paris answers last."""
            await both.wait()
            if city == "Paris":
                await oslo_is_done.wait()
            oslo_is_done.set()
            return city

        given.script(calls(on, PARIS, OSLO), DONE)
        events = await given.run()
        assert [each.output for each in outputs(events) if isinstance(each, ev.ToolOutputAvailable)] == [
            "Oslo",
            "Paris",
        ]
        sent = json.dumps((await given.requests(2))[1].body)
        assert sent.rindex("call_0") < sent.rindex("call_1")  # of the results


async def test_usage_counts_all_steps(connection: LogConnection) -> None:
    async with agent_world(connection) as given:
        add_weather(given)
        call = wire.tool_use("weather", '{"city":"Paris"}')
        answers = (wire.message(call, stop_reason="tool_use", output_tokens=7), wire.message(wire.text("Sunny.")))
        given.script(*(Script(Send(*answer)) for answer in answers))
        counts = [each for each in await given.run() if isinstance(each, ev.Usage)]
        first, last = counts[0], counts[-1]
        assert (first.output_tokens, last.output_tokens) == (7, 7 + 12)
        assert last.input_tokens == 2 * wire.DEFAULT_INPUT_TOKENS
        state = await given.state()
        assert state.usage is not None
        assert state.usage["inputTokens"] == last.input_tokens


async def test_no_two_steps_share_the_id_of_a_call(connection: LogConnection) -> None:
    async with agent_world(connection, on=CHAT) as given:
        add_weather(given)
        given.script(calls(CHAT, PARIS), calls(CHAT, OSLO), DONE)
        events = await given.run()
        results = [each.tool_call_id for each in outputs(events)]
        assert len(set(results)) == 2
        assert [each.tool_call_id for each in events if isinstance(each, ev.ToolInputAvailable)] == results
        messages = (await given.requests(3))[2].body["messages"]
        assert [each["tool_call_id"] for each in messages if each["role"] == "tool"] == results


async def test_progress_is_seen_while_the_tool_runs(connection: LogConnection) -> None:
    async with agent_world(connection) as given:
        go_on = asyncio.Event()

        @given.box.tool
        async def weather(city: str, context: ToolContext) -> str:
            """Reports how far it is."""
            await context.progress({"done": 1, "total": 2})
            await go_on.wait()
            return context.idempotency_key

        given.script(calls(ANTHROPIC, PARIS), DONE)
        running = await given.begin()
        await given.until_logged(ev.DataEvent, 2)
        assert (await given.events())[-1] == ev.DataEvent(
            type="data-progress", id="call_0", data={"done": 1, "total": 2}
        )
        go_on.set()
        assert await running.over() is AttemptEnd.OVER
        (output,) = outputs(await given.events())
        assert output == ev.ToolOutputAvailable(tool_call_id="call_0", output=f"{given.stream_id}:1:0")


async def test_the_last_step_that_may_be_ends_with_tool_calls_after_its_outputs(connection: LogConnection) -> None:
    async with agent_world(connection, max_steps=2) as given:
        cities = add_weather(given)
        given.script(calls(ANTHROPIC, PARIS))
        events = await given.run()
        assert cities == ["Paris", "Paris"]
        assert kinds(events)[-3:] == ["ToolOutputAvailable", "FinishStep", "Finish"]
        assert isinstance(events[-1], ev.Finish)
        assert events[-1].finish_reason == "tool-calls"
        assert len(given.server.requests) == 2


async def test_a_request_may_not_have_more_steps_than_the_settings_allow(connection: LogConnection) -> None:
    async with agent_world(connection, max_steps=100) as given:
        add_weather(given)
        given.max_steps = 3
        given.script(calls(ANTHROPIC, PARIS))
        await given.run()
        assert len(given.server.requests) == 3


CALLERS = {"name": "book", "description": "Book it.", "input_schema": {"type": "object"}}


async def test_a_step_that_calls_tools_of_both_runs_ours_and_leaves_the_rest_to_the_caller(
    connection: LogConnection,
) -> None:
    async with agent_world(connection, tools=[{"name": "weather"}, CALLERS]) as given:
        cities = add_weather(given)
        given.script(calls(ANTHROPIC, ("book", "{}"), PARIS))
        events = await given.run()
        assert cities == ["Paris"]
        assert [each.tool_call_id for each in outputs(events)] == ["call_1"]
        assert isinstance(events[-1], ev.Finish)
        assert events[-1].finish_reason == "tool-calls"
        assert len(given.server.requests) == 1
        assert given.server.requests[0].body["tools"][1] == CALLERS


async def test_a_tool_with_a_schema_is_the_callers_even_if_the_worker_has_one_of_its_name(
    connection: LogConnection,
) -> None:
    own = {"name": "weather", "input_schema": {"type": "object"}}
    async with agent_world(connection, tools=[own]) as given:
        cities = add_weather(given)
        given.script(calls(ANTHROPIC, PARIS))
        events = await given.run()
        assert (cities, outputs(events)) == ([], [])
        assert isinstance(events[-1], ev.Finish)


async def test_no_tool_is_forced_after_the_first_step(connection: LogConnection) -> None:
    choice = {"type": "tool", "name": "weather", "disable_parallel_tool_use": True}
    async with agent_world(connection, tool_choice=choice) as given:
        add_weather(given)
        given.script(calls(ANTHROPIC, PARIS), DONE)
        await given.run()
        first, second = (request.body["tool_choice"] for request in await given.requests(2))
        assert first == choice
        assert second == {"type": "auto", "disable_parallel_tool_use": True}


async def test_what_the_choice_allows_stays_allowed_alone_after_the_first_step(connection: LogConnection) -> None:
    allowed = {"mode": "required", "tools": [{"type": "function", "function": {"name": "weather"}}]}
    own = {"tool_choice": {"type": "allowed_tools", "allowed_tools": allowed}}
    choice: dict[str, Any] = {"tool_choice": {"type": "any"}, "openai": own}
    async with agent_world(connection, tools=[{"name": "weather"}, CALLERS], **choice) as given:
        add_weather(given)
        given.script(calls(ANTHROPIC, PARIS), DONE)
        await given.run()
        bodies = [request.body for request in await given.requests(2)]
        assert [[tool["name"] for tool in body["tools"]] for body in bodies] == [["weather"]] * 2
        assert [body["tool_choice"]["type"] for body in bodies] == ["any", "auto"]


async def test_the_next_step_returns_the_reasoning_to_a_server_that_takes_it_back(connection: LogConnection) -> None:
    server = replace(CHAT, provider=partial(OpenAIProvider, "chat", reasoning_field="reasoning_content"))
    async with agent_world(connection, on=server) as given:
        add_weather(given)
        composer = CHAT.scripted.compose(MODEL)
        parts = [CHAT.scripted.reasoning("Let me ", "see."), CHAT.scripted.tool_call(*PARIS, id="call_1")]
        events = [event for part in parts for event in composer.part(part)]
        given.script(Script(Send(*events, *composer.finish())), DONE)
        await given.run()
        _, second = await given.requests(2)
        assert second.body["messages"][1]["reasoning_content"] == "Let me see."


async def test_a_plain_function_runs_in_a_thread_and_its_room_is_free_when_it_returns(
    connection: LogConnection,
) -> None:
    async with agent_world(connection) as given:
        given.bounds = ToolBounds(concurrency=1)
        threads: list[str] = []

        @given.box.tool
        def weather(city: str, context: ToolContext) -> str:
            """Runs beside the loop."""
            with pytest.raises(RuntimeError):
                asyncio.get_running_loop()
            context.progress_nowait({"done": 1})
            threads.append(city)
            return city

        given.script(calls(ANTHROPIC, PARIS, OSLO), DONE)
        events = await given.run()
        assert threads == ["Paris", "Oslo"]
        assert kinds(events).count("data-progress") == 2


async def test_a_tool_runs_only_when_the_log_has_confirmed_that_it_may(connection: LogConnection) -> None:
    async with agent_world(connection) as given:
        known: list[bool] = []

        @given.box.tool
        async def weather(city: str) -> str:
            """Checks whether it is written down."""
            writer = given.started[0].attempt.writer
            known.append(writer.acked_seq == writer.last_seq)
            known.append("data-tool-begun" in kinds(await given.events()))
            return city

        given.script(calls(ANTHROPIC, PARIS), DONE)
        await given.run()
        assert known == [True, True]


async def test_a_tool_knows_on_whose_behalf_it_is_called(connection: LogConnection) -> None:
    async with agent_world(connection, metadata={"user": "u1"}) as given:

        @given.box.tool
        async def weather(city: str, context: ToolContext) -> dict[str, Any]:
            """Returns the caller."""
            return {"tenant": context.tenant, **context.metadata}

        given.script(calls(ANTHROPIC, PARIS), DONE)
        assert outputs(await given.run()) == [
            ev.ToolOutputAvailable(tool_call_id="call_0", output={"tenant": TENANT, "user": "u1"})
        ]
