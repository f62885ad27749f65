"""Items of LangGraph in its modes and as events, and models that run at the same time, become one answer.

The released package runs in tests/frameworks/publishing; the classes here have its shapes.
"""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from broadcaster.core.fold import Fold
from tests.library.sources.test_frameworks import AIMessageChunk, ToolMessage, events_of, types_of

ANSWER = ("start", "start-step", "text-start", "text-delta", "text-end", "usage", "finish-step", "finish")


def last(**fields: Any) -> AIMessageChunk:
    return AIMessageChunk(chunk_position="last", **fields)


def at(task: str, chunk: Any) -> Any:
    return (chunk, {"langgraph_checkpoint_ns": task})


def happened(event: str, run: str = "run-1", *, tags: tuple[str, ...] = (), **data: Any) -> dict[str, Any]:
    return {"event": event, "run_id": run, "name": "any", "tags": list(tags), "metadata": {}, "data": data}


SHAPES = {
    "modes": lambda mode, data: (mode, data),
    "modes and subgraphs": lambda mode, data: (("node:1",), mode, data),
    "version 2": lambda mode, data: {"type": mode, "ns": ("node:1",), "data": data},
}


@pytest.mark.parametrize("shape", SHAPES)
async def test_messages_are_text_and_other_modes_are_data_in_their_place(shape: str) -> None:
    item = SHAPES[shape]
    events = await events_of(
        [
            item("messages", (AIMessageChunk("It is warm."), {})),
            item("custom", {"type": "data-progress", "id": "copy", "data": {"done": 1, "total": 2}}),
            item("custom", "half-way"),
            item("custom", {"type": "data-progress", "id": 7}),
            item("custom", {"type": "data-two words", "data": 1}),
            item("custom", {"type": "data-note", "data": 1, "more": 2}),
            item("messages", (last(), {})),
            item("updates", {"agent": {"count": {1}}}),
        ]
    )
    data = [event for event in events if event["type"].startswith("data-")]
    namespace = [] if shape == "modes" else ["node:1"]
    assert [event["type"] for event in events if event not in data] == [*ANSWER]
    assert data == [
        {"type": "data-progress", "id": "copy", "data": {"done": 1, "total": 2}},
        {"type": "data-langgraph-custom", "data": {"ns": namespace, "data": "half-way"}},
        {"type": "data-langgraph-custom", "data": {"ns": namespace, "data": {"type": "data-progress", "id": 7}}},
        {"type": "data-langgraph-custom", "data": {"ns": namespace, "data": {"type": "data-two words", "data": 1}}},
        {
            "type": "data-langgraph-custom",
            "data": {"ns": namespace, "data": {"type": "data-note", "data": 1, "more": 2}},
        },
        {"type": "data-langgraph-updates", "data": {"ns": namespace, "data": {"agent": {"count": [1]}}}},
    ]


async def test_the_text_of_what_a_node_raised_is_not_shown_to_viewers() -> None:
    task = {"id": "1", "name": "n", "error": "SECRET", "result": {}}
    fine = {"id": "2", "name": "m", "error": None, "result": {"error": "an output"}}
    events = await events_of(
        [
            ("tasks", task),
            ("tasks", fine),
            ("debug", {"type": "task_result", "payload": task}),
            ("debug", {"type": "checkpoint", "payload": {"tasks": [task, fine]}}),
            ("checkpoints", {"values": {"error": "an output"}, "tasks": [task]}),
        ]
    )
    failed = task | {"error": "the node failed"}
    assert [event["data"]["data"] for event in events if "data" in event] == [
        failed,
        fine,
        {"type": "task_result", "payload": failed},
        {"type": "checkpoint", "payload": {"tasks": [failed, fine]}},
        {"values": {"error": "an output"}, "tasks": [failed]},
    ]


async def test_messages_of_subgraphs_are_text() -> None:
    events = await events_of([(("node:1",), (AIMessageChunk("It is warm."), {})), ((), (last(), {}))])
    assert types_of(events) == [*ANSWER]


async def test_events_of_models_and_tools_are_an_answer_and_those_of_chains_are_left_out() -> None:
    call = {"name": "weather", "args": "{}", "id": "call_1", "index": 0}
    events = await events_of(
        [
            happened("on_chain_start", "graph", input={"messages": []}),
            happened("on_chat_model_stream", "run-1", chunk=AIMessageChunk(tool_call_chunks=[call])),
            happened("on_chat_model_end", "run-1", output=AIMessageChunk("again")),
            happened("on_tool_end", "run-2", output=ToolMessage("21 degrees", "call_1")),
            happened("on_tool_end", "run-3", output="of a tool that no model has called"),
            happened("on_tool_error", "run-4", error=ValueError("secret"), tool_call_id="call_2"),
            happened("on_chat_model_stream", "run-5", tags=("nostream",), chunk=AIMessageChunk("hidden", id="h")),
            happened("on_chat_model_end", "run-5", tags=("nostream",), output=AIMessageChunk("hidden", id="h")),
            happened("on_chat_model_end", "run-6", output=last(content="It is warm.", id="lc_run--6")),
            {**happened("on_custom_event", "run-7"), "data": {"type": "data-step", "data": 1}},
            happened("on_chain_end", "graph", output={"messages": []}),
        ]
    )
    assert types_of(events) == [
        *("start", "start-step", "tool-input-start", "tool-input-delta", "tool-input-available"),
        *("usage", "finish-step", "tool-output-available", "tool-output-error"),
        *("start-step", "text-start", "text-delta", "data-step", "text-end", "usage", "finish-step", "finish"),
    ]
    assert events[8]["errorText"] == "the tool raised ValueError"
    assert [event["delta"] for event in events if event["type"] == "text-delta"] == ["It is warm."]


async def test_models_that_run_at_the_same_time_have_parts_and_calls_of_their_own() -> None:
    def fragment(args: str, id: str | None = None, name: str | None = None) -> Any:
        return [{"name": name, "args": args, "id": id, "index": 0}]

    events = await events_of(
        [
            at("left", AIMessageChunk("It ", id="l")),
            at("right", AIMessageChunk("Il ", id="r")),
            at("left", AIMessageChunk("is ", id="l")),
            at("left", AIMessageChunk(id="l", tool_call_chunks=fragment('{"a"', "call_l", "f"))),
            at("right", AIMessageChunk(id="r", tool_call_chunks=fragment('{"b"', "call_r", "g"))),
            at("left", AIMessageChunk(id="l", tool_call_chunks=fragment(":1}"))),
            at("left", last(id="l")),
            at("tools", ToolMessage("done", "call_l")),
            at("right", AIMessageChunk(id="r", tool_call_chunks=fragment(":2}"))),
            at("right", last(id="r")),
            at("end", AIMessageChunk("Whole.", id="e")),
        ]
    )
    fold = Fold()
    for event in events:
        fold.apply(msgspec.json.encode(event))
    assert [part["text"] for part in fold.state.parts if part["type"] == "text"] == ["It is ", "Il ", "Whole."]
    inputs = {event["toolCallId"]: event["input"] for event in events if event["type"] == "tool-input-available"}
    assert inputs == {"call_l": {"a": 1}, "call_r": {"b": 2}}
    order = [(event["type"], event.get("toolCallId")) for event in events]
    assert order.index(("tool-input-available", "call_l")) < order.index(("tool-output-available", "call_l"))
    assert types_of(events).count("start-step") == 2


async def test_a_node_that_calls_its_model_anew_beside_another_node_has_calls_of_each_message() -> None:
    def call(id: str, name: str, args: str) -> Any:
        return [{"name": name, "args": args, "id": id, "index": 0}]

    events = await events_of(
        [
            at("slow", AIMessageChunk("It ", id="s")),
            at("quick", AIMessageChunk(id="q1", tool_call_chunks=call("c1", "search", '{"q":1}'))),
            at("quick", last(id="q1")),
            at("quick", AIMessageChunk(id="q2", tool_call_chunks=call("c2", "fetch", '{"u":2}'))),
            at("quick", last(id="q2")),
            at("quick", ToolMessage("found", "c1")),
            at("slow", AIMessageChunk("is.", id="s")),
            at("slow", last(id="s")),
        ]
    )
    calls = [
        (event["toolCallId"], event["toolName"], event["input"])
        for event in events
        if event["type"] == "tool-input-available"
    ]
    assert calls == [("c1", "search", {"q": 1}), ("c2", "fetch", {"u": 2})]
    assert [event["delta"] for event in events if event["type"] == "text-delta"] == ["It ", "is."]
    assert types_of(events).count("start-step") == 1
