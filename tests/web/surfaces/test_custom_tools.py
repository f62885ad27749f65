"""Custom tools, whose input is any text: both APIs that have them, in front of models on every wire."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest

from broadcaster.testing import ScriptedProvider, chat_wire, responses_wire
from broadcaster.web.services import Services
from tests.support.apps.wired_world import (
    CHAT,
    MESSAGES,
    RESPONSES,
    ROUTES,
    Part,
    WiredModel,
    call,
    on_every_wire,
    own,
    posted,
    text,
)
from tests.support.memory.memory_world import MemoryWorld, memory_services

Json = dict[str, Any]

PATCH = '*** Begin Patch\n+ "é"\n*** End Patch'
GRAMMAR = {"type": "grammar", "syntax": "lark", "definition": "start: X"}
OF_RESPONSES: Json = {"type": "custom", "name": "apply_patch", "description": "Edits.", "format": GRAMMAR}
OF_CHAT: Json = {"type": "custom", "custom": {"name": "apply_patch", "description": "Edits."}}
REQUEST = {"role": "user", "content": "Edit it"}


@pytest.fixture
async def services(world: MemoryWorld, server: ScriptedProvider) -> AsyncIterator[Services]:
    async with memory_services(world, routes=ROUTES) as opened:
        yield opened


def called(on: WiredModel) -> Part:
    """The call as the model's wire has it."""
    halves = PATCH[:9], PATCH[9:]
    if on is RESPONSES:
        return own(responses_wire.custom_tool_call("apply_patch", *halves, id="call_a"))
    if on is MESSAGES:
        arguments = json.dumps({"input": PATCH})
        return call("apply_patch", "", arguments[:20], arguments[20:], id="call_a")
    named: Json = {"id": "call_a", "type": "custom", "custom": {"name": "apply_patch", "input": halves[0]}}
    return own(chat_wire.ChatPart([named, {"custom": {"input": halves[1]}}], is_tool_call=True))


def scripted(server: ScriptedProvider, on: WiredModel) -> None:
    server.script(on.model, on.script(called(on)), on.script(text("Done.")))


def sent_back(server: ScriptedProvider, on: WiredModel) -> list[Json]:
    """The call and its result in the newest request to the model."""
    body = server.requests[-1].body
    if on is RESPONSES:
        return [item for item in body["input"] if "call_id" in item]
    if on is CHAT:
        *_, answer, result = body["messages"]
        return [*answer["tool_calls"], result]
    return [part for message in body["messages"][-2:] for part in message["content"]]


def expected(on: WiredModel) -> list[Json]:
    """What each wire needs of them."""
    custom = {"name": "apply_patch", "input": PATCH}
    if on is RESPONSES:
        item = {"type": "custom_tool_call", "call_id": "call_a", **custom}
        return [item, {"type": "custom_tool_call_output", "call_id": "call_a", "output": "edited"}]
    if on is CHAT:
        made = {"id": "call_a", "type": "custom", "custom": custom}
        return [made, {"role": "tool", "tool_call_id": "call_a", "content": "edited"}]
    use = {"type": "tool_use", "id": "call_a", "name": "apply_patch", "input": {"input": PATCH}}
    return [use, {"type": "tool_result", "tool_use_id": "call_a", "content": "edited"}]


@on_every_wire
@pytest.mark.parametrize("way", ["the items", "the response's id", "the item's id"])
async def test_a_response_calls_a_custom_tool_with_its_text_whichever_model_calls_it(
    client: httpx2.AsyncClient, server: ScriptedProvider, on: WiredModel, way: str
) -> None:
    scripted(server, on)
    first = await posted(client, "/v1/responses", model=on.model, input=[REQUEST], tools=[OF_RESPONSES])
    (item,) = first["output"]
    known = {name: item[name] for name in item if name != "id"}
    assert known == {
        "type": "custom_tool_call",
        "call_id": "call_a",
        "name": "apply_patch",
        "input": PATCH,
        "status": "completed",
    }

    output = {"type": "custom_tool_call_output", "call_id": "call_a", "output": "edited"}
    later: Json = {"input": [REQUEST, item, output]}
    if way == "the response's id":
        later = {"input": [output], "previous_response_id": first["id"]}
    elif way == "the item's id":
        later = {"input": [REQUEST, {"type": "item_reference", "id": item["id"]}, output]}
    await posted(client, "/v1/responses", model=on.model, tools=[OF_RESPONSES], **later)
    assert sent_back(server, on) == expected(on)


@on_every_wire
async def test_a_streamed_response_has_the_events_of_a_custom_tool(
    client: httpx2.AsyncClient, server: ScriptedProvider, on: WiredModel
) -> None:
    scripted(server, on)
    events = await posted(client, "/v1/responses", model=on.model, input=[REQUEST], tools=[OF_RESPONSES], stream=True)
    by_type = {event["type"]: event for event in events}
    name = "response.custom_tool_call_input"
    assert "".join(event["delta"] for event in events if event["type"] == f"{name}.delta") == PATCH
    assert by_type[f"{name}.done"]["input"] == PATCH
    assert by_type["response.output_item.added"]["item"]["type"] == "custom_tool_call"
    assert not [each for each in by_type if "function_call" in each]


@on_every_wire
@pytest.mark.parametrize("stream", [False, True])
async def test_a_completion_calls_a_custom_tool_with_its_text_whichever_model_calls_it(
    client: httpx2.AsyncClient, server: ScriptedProvider, on: WiredModel, stream: bool
) -> None:
    scripted(server, on)
    request: Json = {"model": on.model, "messages": [REQUEST], "tools": [OF_CHAT]}
    first = await posted(client, "/v1/chat/completions", **request, stream=stream)
    custom = {"name": "apply_patch", "input": PATCH}
    if stream:
        deltas = [each for chunk in first for each in chunk["choices"][0]["delta"].get("tool_calls", ())]
        assert (deltas[0]["id"], deltas[0]["type"]) == ("call_a", "custom")
        given = "".join(each["custom"]["input"] for each in deltas)
        assert {"name": deltas[0]["custom"]["name"], "input": given} == custom
        return
    message = first["choices"][0]["message"]
    assert message["tool_calls"] == [{"id": "call_a", "type": "custom", "custom": custom}]

    result = {"role": "tool", "tool_call_id": "call_a", "content": "edited"}
    later = {**request, "messages": [REQUEST, message, result]}
    await posted(client, "/v1/chat/completions", **later)
    assert sent_back(server, on) == expected(on)
