"""Chunks of LangChain and events of Pydantic AI become the events that a worker writes.

The packages need an environment of their own (tests/frameworks runs them); the classes here have their shapes, with the
values that the released packages gave for the scripted provider.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
import pytest

from broadcaster.library.sources.opening import open_source


@dataclass
class AIMessageChunk:
    content: Any = ""
    id: str | None = "lc_run--1"
    tool_call_chunks: Sequence[dict[str, Any]] = ()
    usage_metadata: dict[str, Any] | None = None
    response_metadata: dict[str, Any] = field(default_factory=dict)
    additional_kwargs: dict[str, Any] = field(default_factory=dict)
    chunk_position: str | None = None
    type: str = "AIMessageChunk"


@dataclass
class ToolMessage:
    content: Any
    tool_call_id: str
    status: str = "success"
    type: str = "tool"


@dataclass
class Part:
    part_kind: str
    content: Any = None
    tool_call_id: str = ""
    tool_name: str = ""
    args: Any = None
    signature: str | None = None
    provider_name: str | None = None
    outcome: str = "success"


@dataclass
class Delta:
    content_delta: str | None = None
    args_delta: Any = None


@dataclass
class Happened:
    event_kind: str
    index: int = 0
    part: Part | None = None
    delta: Delta | None = None
    result: Any = None


async def events_of(items: Sequence[Any]) -> list[dict[str, Any]]:
    async def stream() -> AsyncIterator[Any]:
        for item in items:
            yield item

    source = open_source(stream())
    events = [msgspec.to_builtins(piece) async for piece in source]
    await source.aclose()
    return events


def types_of(events: Sequence[dict[str, Any]]) -> list[str]:
    return [event["type"] for event in events]


CALL = ("tool-input-start", "tool-input-delta", "tool-input-delta", "tool-input-available")


async def test_the_chunks_of_a_langchain_model_are_an_answer():
    events = await events_of(
        [
            AIMessageChunk([{"type": "thinking", "thinking": "Let me see.", "index": 0}]),
            AIMessageChunk([{"type": "thinking", "thinking": "", "signature": "abc", "index": 0}]),
            AIMessageChunk([{"type": "text", "text": "It is ", "index": 1}], id="msg_of_the_provider"),
            AIMessageChunk([{"type": "text", "text": "warm.", "index": 1}]),
            AIMessageChunk(tool_call_chunks=[{"name": "weather", "args": "", "id": "call_1", "index": 2}]),
            AIMessageChunk(tool_call_chunks=[{"name": None, "args": '{"city":', "id": None, "index": 2}]),
            AIMessageChunk(tool_call_chunks=[{"name": None, "args": '"Paris"}', "id": None, "index": 2}]),
            AIMessageChunk(response_metadata={"stop_reason": "tool_use", "model_name": "claude-x"}),
            AIMessageChunk(
                usage_metadata={
                    "input_tokens": 30,
                    "output_tokens": 12,
                    "input_token_details": {"cache_read": 5},
                    "output_token_details": {"reasoning": 3},
                },
                chunk_position="last",
            ),
        ]
    )
    assert types_of(events) == [
        *("start", "start-step", "reasoning-start", "reasoning-delta", "reasoning-delta", "reasoning-end"),
        *("text-start", "text-delta", "text-delta", "text-end", *CALL, "usage", "finish-step", "finish"),
    ]
    assert events[4]["providerMetadata"] == {"anthropic": {"signature": "abc"}}
    assert events[13]["input"] == {"city": "Paris"}
    counts = {"inputTokens": 25, "outputTokens": 12, "reasoningTokens": 3, "cachedInputTokens": 5}
    assert events[14] == {"type": "usage", **counts}
    assert events[-1]["finishReason"] == "tool-calls"
    assert events[-1]["messageMetadata"] == {"model": "claude-x"}


@pytest.mark.parametrize(
    ("raw", "reason"),
    [("stop", "stop"), ("max_tokens", "length"), ("eos", "stop"), ("end_turn", "stop"), ("incomprehensible", "other")],
)
async def test_the_finish_reasons_of_servers_are_read_behind_langchain_too(raw: str, reason: str):
    events = await events_of([AIMessageChunk("a", response_metadata={"finish_reason": raw}, chunk_position="last")])
    assert events[-1]["finishReason"] == reason
    assert events[-1]["providerMetadata"] == {"langchain": {"finishReason": raw}}


async def test_the_messages_of_a_langgraph_agent_are_steps_with_the_outputs_of_its_tools():
    events = await events_of(
        [
            (AIMessageChunk(tool_call_chunks=[{"name": "f", "args": "{}", "id": "call_1", "index": 0}]), {}),
            (AIMessageChunk(response_metadata={"finish_reason": "tool_calls"}, chunk_position="last"), {}),
            (ToolMessage("21 degrees", "call_1"), {}),
            (ToolMessage("no such city", "call_2", status="error"), {}),
            (AIMessageChunk("It is warm.", id="lc_run--2"), {}),
            (AIMessageChunk(response_metadata={"finish_reason": "stop"}, id="lc_run--2", chunk_position="last"), {}),
        ]
    )
    assert types_of(events) == [
        *("start", "start-step", "tool-input-start", "tool-input-delta", "tool-input-available"),
        *("usage", "finish-step", "tool-output-available", "tool-output-error"),
        *("start-step", "text-start", "text-delta", "text-end", "usage", "finish-step", "finish"),
    ]
    assert events[-1]["finishReason"] == "stop"


@dataclass
class RunUsage:
    input_tokens: int = 50
    output_tokens: int = 24
    cache_read_tokens: int = 10
    cache_write_tokens: int = 0
    details: dict[str, int] = field(default_factory=lambda: {"reasoning_tokens": 4})


@dataclass
class Response:
    finish_reason: str = "stop"


@dataclass
class Result:
    usage: RunUsage = field(default_factory=RunUsage)
    response: Response = field(default_factory=Response)


def pydantic_run() -> list[Happened]:
    thinking = Part("thinking", content="Let me ", signature="abc", provider_name="anthropic")
    call = Part("tool-call", tool_call_id="call_1", tool_name="weather", args='{"city":"Paris"}')
    returned = Part("tool-return", content="21 degrees", tool_call_id="call_1")
    refused = Part("retry-prompt", content="no such city", tool_call_id="call_2")
    return [
        Happened("part_start", 0, Part("thinking", content="Let me ")),
        Happened("part_delta", 0, delta=Delta("see.")),
        Happened("part_end", 0, thinking),
        Happened("part_start", 1, Part("tool-call", tool_call_id="call_1", tool_name="weather", args="")),
        Happened("part_delta", 1, delta=Delta(args_delta='{"city":')),
        Happened("part_delta", 1, delta=Delta(args_delta='"Paris"}')),
        Happened("part_end", 1, call),
        Happened("function_tool_call", part=call),
        Happened("function_tool_result", part=returned),
        Happened("function_tool_result", part=refused),
        Happened("part_start", 0, Part("text", content="It is ")),
        Happened("final_result"),
        Happened("part_delta", 0, delta=Delta("warm.")),
        Happened("part_end", 0, Part("text", content="It is warm.")),
        Happened("agent_run_result", result=Result()),
    ]


async def test_the_events_of_a_run_of_pydantic_ai_are_steps_of_an_answer():
    events = await events_of(pydantic_run())
    assert types_of(events) == [
        *("start", "start-step", "reasoning-start", "reasoning-delta", "reasoning-delta", "reasoning-end", *CALL),
        *("finish-step", "tool-output-available", "tool-output-error"),
        *("start-step", "text-start", "text-delta", "text-delta", "text-end", "usage", "finish-step", "finish"),
    ]
    assert events[5]["providerMetadata"] == {"anthropic": {"signature": "abc"}}
    assert events[9]["input"] == {"city": "Paris"}
    assert events[12]["errorText"] == "no such city"
    assert events[-1]["finishReason"] == "stop"
    counts = {"inputTokens": 40, "outputTokens": 24, "reasoningTokens": 4, "cachedInputTokens": 10}
    assert events[-3] == {"type": "usage", **counts}


async def test_a_run_of_pydantic_ai_that_is_cut_is_truncated():
    events = await events_of(pydantic_run()[:12])
    assert types_of(events)[-2:] == ["usage", "error"]
    assert events[-1]["code"] == "provider_truncated"
    assert events[-2]["estimated"] is True
