"""``json_object`` of a model on the Messages wire: the input of a forced tool is the answer, as its text."""

from typing import Any

import pytest

from broadcaster.core import events as ev
from broadcaster.errors import ProviderFailed
from broadcaster.testing import Script, Send, wire
from tests.worker.providers.provider_support import collect, failing, request_for, scripted, text_of

MODEL = "claude-x"
OPTIONS: dict[str, Any] = {"openai": {"response_format": {"type": "json_object"}}}
TOOLS = [{"name": "f", "input_schema": {"type": "object"}}]


async def answered(*blocks: wire.Block, **fields: Any) -> tuple[list[ev.Event], dict[str, Any]]:
    """The events of an answer of these blocks, and the body of its request."""
    stop_reason = fields.pop("stop_reason", "tool_use")
    async with scripted() as (server, provider):
        server.script(MODEL, Script(Send(*wire.message(*blocks, stop_reason=stop_reason))))
        events = await collect(provider, request_for(MODEL, **{"extra": OPTIONS, **fields}))
        return events, server.requests[0].body


async def test_the_answer_is_exactly_the_json_text_piece_by_piece():
    events, body = await answered(wire.tool_use("json_answer", "", '{"a": ', "[1, 2]", "}"))

    assert [event.delta for event in events if isinstance(event, ev.TextDelta)] == ['{"a": ', "[1, 2]", "}"]
    assert not [event for event in events if isinstance(event, ev.ToolInputStart | ev.ToolInputAvailable)]
    assert isinstance(events[-1], ev.Finish)
    assert events[-1].finish_reason == "stop"
    assert events[-1].provider_metadata == {"anthropic": {"stopReason": "end_turn"}}
    assert next(event for event in events if isinstance(event, ev.Usage)).output_tokens == 12
    assert body["tool_choice"] == {"type": "tool", "name": "json_answer", "disable_parallel_tool_use": True}
    assert [tool["name"] for tool in body["tools"]] == ["json_answer"]


async def test_an_empty_object_is_text_too():
    events, _ = await answered(wire.tool_use("json_answer", ""))
    assert text_of(events) == "{}"


async def test_an_answer_cut_at_its_bound_ends_for_its_length():
    events, _ = await answered(wire.tool_use("json_answer", '{"a": "b'), stop_reason="max_tokens")
    assert text_of(events) == '{"a": "b'
    assert isinstance(events[-1], ev.Finish)
    assert events[-1].finish_reason == "length"


async def test_a_call_of_the_caller_s_own_tool_stays_a_call():
    events, body = await answered(wire.tool_use("f", '{"x": 1}'), tools=TOOLS)

    assert [event.input for event in events if isinstance(event, ev.ToolInputAvailable)] == [{"x": 1}]
    assert isinstance(events[-1], ev.Finish)
    assert events[-1].finish_reason == "tool-calls"
    assert body["tool_choice"] == {"type": "any", "disable_parallel_tool_use": True}
    assert [tool["name"] for tool in body["tools"]] == ["f", "json_answer"]


async def test_a_tool_that_the_caller_forces_or_forbids_is_not_overruled():
    forced = {"type": "tool", "name": "f"}
    _, body = await answered(wire.tool_use("f", "{}"), tools=TOOLS, extra=OPTIONS | {"tool_choice": forced})
    assert (body["tool_choice"], body["tools"]) == (forced, TOOLS)

    tools = [*TOOLS, {"name": "json_answer", "input_schema": {"type": "object"}}]
    events, body = await answered(
        wire.tool_use("json_answer_", "{}"), tools=tools, extra=OPTIONS | {"tool_choice": {"type": "none"}}
    )
    assert text_of(events) == "{}"
    assert body["tool_choice"]["name"] == "json_answer_"


async def test_no_tool_is_forced_on_a_model_that_thinks():
    async with scripted() as (server, provider):
        extra = OPTIONS | {"thinking": {"type": "enabled", "budget_tokens": 1024}}
        failure, _ = await failing(provider, request_for(MODEL, extra=extra))
        assert server.requests == []
    assert isinstance(failure, ProviderFailed)
    assert failure.reason == "provider_bad_request"
    assert "send a json_schema" in failure.detail


@pytest.mark.parametrize("shape", [None, {"type": "text"}])
async def test_without_it_a_tool_of_that_name_is_a_tool(shape: Any):
    extra = {"openai": {"response_format": shape}}
    events, _ = await answered(wire.tool_use("json_answer", '{"x": 1}'), tools=TOOLS, extra=extra)
    assert text_of(events) == ""
    assert [event.input for event in events if isinstance(event, ev.ToolInputAvailable)] == [{"x": 1}]
