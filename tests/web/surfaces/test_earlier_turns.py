"""Conversations that go on, every API in front of every wire: what the next request to the model holds of them."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import httpx2
import pytest

from broadcaster.testing import ScriptedProvider, responses_wire, wire
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

RULES = {"role": "developer", "content": "Only JSON."}
WEATHER = {"type": "function", "name": "weather", "parameters": {"type": "object", "properties": {}}}


@pytest.fixture
async def services(world: MemoryWorld, server: ScriptedProvider) -> AsyncIterator[Services]:
    async with memory_services(world, routes=ROUTES) as opened:
        yield opened


def newest(server: ScriptedProvider) -> str:
    """The newest request to the model, as text."""
    return json.dumps(server.requests[-1].body, ensure_ascii=False)


# ------------------------------------------------------------------------------------------------- the earlier response


@on_every_wire
@pytest.mark.parametrize("instructions", [None, "Be brief."])
async def test_the_developers_first_message_is_part_of_every_later_turn_and_instructions_are_not(
    client: httpx2.AsyncClient, server: ScriptedProvider, on: WiredModel, instructions: str | None
) -> None:
    given = {} if instructions is None else {"instructions": instructions}
    first = [RULES, {"role": "user", "content": "Hi"}]
    response = await posted(client, "/v1/responses", model=on.model, input=first, **given)
    for turn in ("And then?", "And now?"):
        response = await posted(
            client, "/v1/responses", model=on.model, input=turn, previous_response_id=response["id"]
        )
        assert newest(server).count("Only JSON.") == 1
        assert "Be brief." not in newest(server)


async def test_the_developers_first_message_counts_in_every_later_turn(
    client: httpx2.AsyncClient, server: ScriptedProvider
) -> None:
    counts = []
    for first in ([{"role": "user", "content": "Hi"}], [RULES, {"role": "user", "content": "Hi"}]):
        response = await posted(client, "/v1/responses", model=CHAT.model, input=first)
        later = {"model": CHAT.model, "input": "And then?", "previous_response_id": response["id"]}
        counts.append((await posted(client, "/v1/responses/input_tokens", **later))["input_tokens"])
    assert counts[0] < counts[1]


# ---------------------------------------------------------------------------------------------------- what is sent back


@on_every_wire
@pytest.mark.parametrize("by_id", [True, False])
@pytest.mark.parametrize("arguments", ['{"city', "[1]"])
async def test_a_call_whose_arguments_are_no_object_can_be_answered(
    client: httpx2.AsyncClient, server: ScriptedProvider, on: WiredModel, arguments: str, by_id: bool
) -> None:
    server.script(on.model, on.script(call("weather", arguments, id="call_a")), on.script(text("Sorry.")))
    first = await posted(client, "/v1/responses", model=on.model, input="The weather?", tools=[WEATHER])
    (called,) = first["output"]
    assert called["arguments"] == arguments
    output = {"type": "function_call_output", "call_id": "call_a", "output": "these are not arguments"}
    later: Json = {"input": [output], "previous_response_id": first["id"]}
    if not by_id:
        later = {"input": [{"role": "user", "content": "The weather?"}, called, output]}
    await posted(client, "/v1/responses", model=on.model, tools=[WEATHER], **later)
    body = server.requests[-1].body
    if on is MESSAGES:
        assert body["messages"][1]["content"][0]["input"] == {}
    elif on is CHAT:
        assert body["messages"][1]["tool_calls"][0]["function"]["arguments"] == arguments
    else:
        assert body["input"][1]["arguments"] == arguments


EMPTY = {"type": "text", "text": ""}


@pytest.mark.parametrize("answer", ["", " \n", [EMPTY], [{"type": "text", "text": "\n"}, EMPTY]])
async def test_an_answer_without_text_ends_no_conversation_with_claude(
    client: httpx2.AsyncClient, server: ScriptedProvider, answer: Any
) -> None:
    history = [
        {"role": "system", "content": [EMPTY]},
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": answer},
        {"role": "user", "content": [EMPTY, {"type": "text", "text": "Hello?"}]},
    ]
    await posted(client, "/v1/chat/completions", model=MESSAGES.model, messages=history)
    body = server.requests[-1].body
    assert body["messages"] == [
        {"role": "user", "content": "Hi"},
        {"role": "user", "content": [{"type": "text", "text": "Hello?"}]},
    ]
    assert "system" not in body


def ends_of_answers(server: ScriptedProvider) -> list[str]:
    """The last part of each answer in the newest request to Claude."""
    answers = [each for each in server.requests[-1].body["messages"] if each["role"] == "assistant"]
    return [each["content"][-1]["type"] for each in answers]


@pytest.mark.parametrize("before", [[], [{"type": "text", "text": "Let me look."}]])
async def test_a_thought_whose_call_has_no_result_is_not_the_end_of_an_answer_from_a_page(
    client: httpx2.AsyncClient, server: ScriptedProvider, before: list[Json]
) -> None:
    thought = {"type": "reasoning", "text": "Hm.", "providerMetadata": {"anthropic": {"signature": "c2ln"}}}
    stopped = {"type": "tool-weather", "toolCallId": "a", "state": "input-available", "input": {}}
    parts = [{"type": "step-start"}, *before, thought, stopped]
    history = [
        {"id": "m", "role": "user", "parts": [{"type": "text", "text": "The weather?"}]},
        {"id": "n", "role": "assistant", "parts": parts},
    ]
    answer = await client.post("/api/chat", json={"id": "c", "model": MESSAGES.model, "messages": history})
    assert answer.status_code == 200, answer.text
    assert ends_of_answers(server) == [part["type"] for part in before]


async def test_a_thought_whose_call_was_cut_off_is_not_the_end_of_an_answer_from_responses(
    client: httpx2.AsyncClient, server: ScriptedProvider
) -> None:
    parts = own(wire.thinking("Hm.", signature="c2ln")), call("weather", '{"city', id="a")
    server.script(MESSAGES.model, MESSAGES.script(*parts, reason="max_tokens"), MESSAGES.script(text("Hello")))
    first = await posted(client, "/v1/responses", model=MESSAGES.model, input="The weather?", tools=[WEATHER])
    assert [(item["type"], item.get("status")) for item in first["output"]][1:] == [("function_call", "incomplete")]
    await posted(client, "/v1/responses", model=MESSAGES.model, previous_response_id=first["id"])
    assert ends_of_answers(server) == []


THOUGHT = own(responses_wire.reasoning("Hm.", encrypted_content="ZW5j"))
TORN = replace(
    responses_wire.tool_call("weather", id="call_b"),
    events=[{"type": "response.function_call_arguments.delta", "delta": '{"city'}],
    done={"status": "incomplete", "arguments": '{"city'},
)


@pytest.mark.parametrize(
    ("parts", "kept"),
    [
        ([THOUGHT, own(TORN)], []),
        ([THOUGHT], []),
        ([THOUGHT, call("weather", "{}", id="call_a"), THOUGHT, own(TORN)], ["reasoning", "function_call"]),
        ([THOUGHT, text("Let me look."), own(TORN)], ["reasoning", "message"]),
    ],
    ids=["within its call", "behind its reasoning", "within its second call", "behind its text"],
)
async def test_an_answer_that_was_cut_leaves_no_reasoning_without_what_followed_it(
    client: httpx2.AsyncClient, server: ScriptedProvider, parts: list[Part], kept: list[str]
) -> None:
    cut = RESPONSES.script(*parts, reason="max_output_tokens")
    server.script(RESPONSES.model, cut, RESPONSES.script(text("Hello")))
    first = await posted(client, "/v1/responses", model=RESPONSES.model, input="The weather?", tools=[WEATHER])
    assert first["status"] == "incomplete"
    await posted(client, "/v1/responses", model=RESPONSES.model, previous_response_id=first["id"], input="And?")
    _, *answer, last = server.requests[-1].body["input"]
    assert [item["type"] for item in answer] == kept
    assert last["role"] == "user"
