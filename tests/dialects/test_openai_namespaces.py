"""Namespaces of functions, and a search on offer, as Codex sends them to a model of any wire."""

from __future__ import annotations

import json
from typing import Any

import pytest

from broadcaster.core import events as ev
from broadcaster.core.entry import Entry
from broadcaster.dialects.openai.own_fields import plain_messages, plain_tools
from broadcaster.dialects.openai.parameters import BadParameter
from broadcaster.dialects.openai_chat.provider_request import chat_messages, chat_tools
from broadcaster.dialects.openai_responses.encode import ResponsesDialect
from broadcaster.dialects.openai_responses.provider_request import responses_input, responses_tools
from broadcaster.dialects.openai_responses.request import parse_responses_request

Json = dict[str, Any]
PARAMETERS: Json = {"type": "object", "properties": {"target": {"type": "string"}}, "required": ["target"]}


def function(name: str) -> Json:
    return {"type": "function", "name": name, "description": name, "parameters": PARAMETERS, "strict": False}


AGENTS: Json = {
    "type": "namespace",
    "name": "agents",
    "description": "Sub-agents.",
    "tools": [function("spawn"), function("close")],
}
FILES: Json = {"type": "namespace", "name": "files", "description": "Files.", "tools": [function("close")]}
SEARCH: Json = {"type": "web_search", "external_web_access": True}
TOOLS = [function("shell"), AGENTS, FILES, function("close"), SEARCH]
CALL: Json = {"type": "function_call", "call_id": "c", "name": "close", "arguments": '{"target":"a"}'}
HISTORY = [
    {"type": "message", "role": "user", "content": "Close it"},
    {**CALL, "namespace": "agents"},
    {"type": "function_call_output", "call_id": "c", "output": "closed"},
]
NAMES = ["shell", "agents__spawn", "agents__close", "files__close", "close"]


@pytest.fixture
def stored() -> Json:
    """The request as it is stored."""
    return parse_responses_request({"model": "m", "input": HISTORY, "tools": TOOLS}).stored(model="m")


def test_the_responses_wire_receives_the_namespaces_and_the_search_as_they_were(stored: Json) -> None:
    assert responses_tools(stored["tools"]) == TOOLS
    assert responses_input(stored["messages"])[1] == {**CALL, "namespace": "agents"}


def test_chat_completions_receive_functions_that_have_the_namespace_in_their_names(stored: Json) -> None:
    tools = chat_tools(stored["tools"])
    assert [tool["function"]["name"] for tool in tools] == NAMES
    assert {tool["type"] for tool in tools} == {"function"}
    assert tools[2]["function"] == {"name": "agents__close", "description": "close", "parameters": PARAMETERS}
    [call] = chat_messages(stored["messages"], system=None)[1]["tool_calls"]
    assert call == {"id": "c", "type": "function", "function": {"name": "agents__close", "arguments": '{"target":"a"}'}}


def test_messages_receive_tools_that_have_the_namespace_in_their_names(stored: Json) -> None:
    tools = plain_tools(stored["tools"])
    assert [tool["name"] for tool in tools] == NAMES
    assert tools[2] == {"name": "agents__close", "description": "close", "input_schema": PARAMETERS}
    [call] = plain_messages(stored["messages"])[1]["content"]
    assert call == {"type": "tool_use", "id": "c", "name": "agents__close", "input": {"target": "a"}}


@pytest.mark.parametrize(("called", "echo"), [("agents__close", "agents"), ("files__close", "files"), ("close", None)])
def test_a_response_shows_a_call_as_a_call_of_the_function_that_was_offered(called: str, echo: str | None) -> None:
    transcript = ResponsesDialect(echo=json.dumps({"tools": TOOLS})).open("gen_1")
    start = ev.ToolInputStart(tool_call_id="c", tool_name=called)
    whole = ev.ToolInputAvailable(tool_call_id="c", tool_name=called, input={"target": "a"})
    events: list[ev.KnownEvent] = [ev.Start(), start, whole, ev.Finish()]
    entries = [Entry(1, seq, ev.encode_event(event)) for seq, event in enumerate(events, 1)]
    frames = transcript.encode(entries[:2]).decode() + transcript.fork().encode(entries[2:]).decode()
    done = next(each for each in map(_data, frames.split("\n\n")) if each.get("type") == "response.output_item.done")
    assert (done["item"]["name"], done["item"].get("namespace")) == ("close", echo)


def _data(frame: str) -> Json:
    line = next((line for line in frame.split("\n") if line.startswith("data: ")), "data: {}")
    found: Json = json.loads(line.removeprefix("data: "))
    return found


@pytest.mark.parametrize("inner", [[], [{"type": "custom", "name": "x"}], ["x"], [{"type": "function"}], None])
def test_a_namespace_of_anything_but_functions_reaches_the_provider_as_it_came(inner: Any) -> None:
    odd = {"type": "namespace", "name": "odd", "tools": inner}
    stored = parse_responses_request({"model": "m", "input": "Hi", "tools": [odd]}).stored(model="m")
    assert responses_tools(stored["tools"]) == chat_tools(stored["tools"]) == plain_tools(stored["tools"]) == [odd]


@pytest.mark.parametrize("type", ["web_search", "web_search_preview", "web_search_2025_08_26"])
def test_a_search_on_offer_is_left_out_where_only_responses_know_it(type: str) -> None:
    assert chat_tools([{"type": type}]) == plain_tools([{"type": type}]) == []
    of_anthropic = {"type": "web_search_20250305", "name": "web_search"}
    assert plain_tools([of_anthropic]) == [of_anthropic]


def namespace(name: str, *functions: str, description: str = "d") -> Json:
    return {"type": "namespace", "name": name, "description": description, "tools": [*map(function, functions)]}


def test_a_request_stores_the_description_of_a_namespace_once() -> None:
    tools = [namespace("n", *(f"f{at}" for at in range(400)), description="d" * 200_000)]
    stored = parse_responses_request({"model": "m", "input": "Hi", "tools": tools}).request
    assert len(json.dumps(stored)) < 2 * len(json.dumps(tools))
    assert responses_tools(stored["tools"]) == tools


def test_namespaces_of_one_name_stay_apart() -> None:
    tools = [namespace("n", "a", "b"), namespace("n", "c", "d"), function("e"), namespace("n", "f")]
    assert responses_tools(parse_responses_request({"input": "Hi", "tools": tools}).request["tools"]) == tools


def test_a_function_that_lost_the_first_of_its_namespace_is_sent_under_its_joined_name() -> None:
    [_, second] = parse_responses_request({"input": "Hi", "tools": [namespace("n", "a", "b")]}).request["tools"]
    assert [tool["name"] for tool in responses_tools([second])] == ["n__b"]


@pytest.mark.parametrize(
    ("tools", "param"),
    [
        ([namespace("n" * 65, "f")], r"tools\[0\]\.name"),
        ([function("x"), namespace("n", "f", "f" * 65)], r"tools\[1\]\.tools\[1\]\.name"),
    ],
)
def test_a_name_in_a_namespace_that_is_too_long_is_refused(tools: list[Json], param: str) -> None:
    with pytest.raises(BadParameter, match=f"^{param}: .* at most 64 characters, not 65$"):
        parse_responses_request({"input": "Hi", "tools": tools})
    assert parse_responses_request({"input": "Hi", "tools": [namespace("n" * 64, "f" * 64)]}).request["tools"]


@pytest.mark.parametrize(
    "tools",
    [
        [namespace("a", "b__c"), namespace("a__b", "c")],
        [namespace("a__b", "c"), function("a__b__c")],
        [function("a__b__c"), namespace("a__b", "c")],
        [namespace("a__b", "c", "c")],
    ],
)
def test_two_functions_of_one_joined_name_are_refused(tools: list[Json]) -> None:
    with pytest.raises(BadParameter, match="two functions have the name a__b__c") as refused:
        parse_responses_request({"input": "Hi", "tools": tools})
    assert refused.value.param == f"tools[{len(tools) - 1}]"
