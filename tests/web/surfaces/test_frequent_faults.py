"""What compatible servers often get wrong, every API in front of every wire: ends, counts, thoughts, calls, seals."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest

from broadcaster.testing import ScriptedProvider, responses_wire, wire
from broadcaster.web.services import Services
from tests.support.apps.wired_world import (
    MESSAGES,
    RESPONSES,
    ROUTES,
    WiredModel,
    call,
    on_every_wire,
    own,
    posted,
    text,
    thought,
)
from tests.support.memory.memory_world import MemoryWorld, memory_services

Json = dict[str, Any]

CALLS = (
    call("weather", '{"city": ', '"Paris"', "}", id="call_a"),
    call("weather", '{"city": ', '"Rome"', "}", id="call_b"),
)
"""Two calls, each with arguments in three pieces."""
MADE = [("call_a", "weather", '{"city": "Paris"}'), ("call_b", "weather", '{"city": "Rome"}')]
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}}
REQUEST = [{"role": "user", "content": "The weather?"}]


@pytest.fixture
async def services(world: MemoryWorld, server: ScriptedProvider) -> AsyncIterator[Services]:
    async with memory_services(world, routes=ROUTES) as opened:
        yield opened


async def chat(client: httpx2.AsyncClient, **body: Any) -> Any:
    return await posted(client, "/v1/chat/completions", **{"messages": REQUEST, **body})


async def responses(client: httpx2.AsyncClient, **body: Any) -> Any:
    return await posted(client, "/v1/responses", **{"input": "The weather?", **body})


async def messages(client: httpx2.AsyncClient, **body: Any) -> Any:
    return await posted(client, "/v1/messages", **{"messages": REQUEST, "max_tokens": 64, **body})


CHAT_TOOLS = [{"type": "function", "function": {"name": "weather", "parameters": SCHEMA}}]
RESPONSES_TOOLS = [{"type": "function", "name": "weather", "parameters": SCHEMA}]
MESSAGES_TOOLS = [{"name": "weather", "input_schema": SCHEMA}]


def choices_of(chunks: list[Json]) -> list[Json]:
    return [choice for chunk in chunks for choice in chunk["choices"]]


# ----------------------------------------------------------------------------------------------- ends, counts, thoughts


@on_every_wire
async def test_a_completion_that_ends_with_calls_reports_that_reason(
    client: httpx2.AsyncClient, server: ScriptedProvider, on: WiredModel
) -> None:
    server.script(on.model, on.script(text("One moment."), *CALLS))
    (whole,) = (await chat(client, model=on.model, tools=CHAT_TOOLS))["choices"]
    streamed = choices_of(await chat(client, model=on.model, tools=CHAT_TOOLS, stream=True))
    assert whole["finish_reason"] == "tool_calls"
    assert [each["finish_reason"] for each in streamed] == [None] * (len(streamed) - 1) + ["tool_calls"]
    assert streamed[-1]["delta"] == {}


@on_every_wire
@pytest.mark.parametrize("include_usage", [True, False, None])
async def test_the_counts_of_a_streamed_completion_come_once_behind_its_end_and_only_if_requested(
    client: httpx2.AsyncClient, on: WiredModel, include_usage: bool | None
) -> None:
    options = {} if include_usage is None else {"stream_options": {"include_usage": include_usage}}
    *before, finish, last = await chat(client, model=on.model, stream=True, **options)
    if include_usage:
        assert all(chunk["usage"] is None for chunk in (*before, finish))
        assert finish["choices"][0]["finish_reason"] == "stop"
        assert (last["choices"], last["object"]) == ([], "chat.completion.chunk")
        assert last["usage"]["total_tokens"] == 25 + 2
    else:
        assert not any("usage" in chunk for chunk in (*before, finish, last))
        assert last["choices"][0]["finish_reason"] == "stop"
    assert (await chat(client, model=on.model))["usage"]["total_tokens"] == 25 + 2


@on_every_wire
async def test_thoughts_have_the_name_under_which_clients_of_each_api_read_them(
    client: httpx2.AsyncClient, server: ScriptedProvider, on: WiredModel
) -> None:
    server.script(on.model, on.script(thought("Let me ", "think."), text("Hello")))
    (choice,) = (await chat(client, model=on.model))["choices"]
    deltas = [each["delta"] for each in choices_of(await chat(client, model=on.model, stream=True))]
    for name in ("reasoning_content", "reasoning"):
        assert choice["message"][name] == "Let me think.", name
        assert "".join(delta.get(name) or "" for delta in deltas) == "Let me think.", name
    assert not any(delta.get("content") and delta.get("reasoning_content") for delta in deltas)

    (block, _) = (await messages(client, model=on.model))["content"]
    assert (block["type"], block["thinking"]) == ("thinking", "Let me think.")
    (item, _) = (await responses(client, model=on.model))["output"]
    (part,) = item["summary"] or item["content"]
    assert (item["type"], part["text"]) == ("reasoning", "Let me think.")
    assert part["type"] == ("summary_text" if on is RESPONSES else "reasoning_text")


# --------------------------------------------------------------------------------------------------------------- calls


@on_every_wire
async def test_calls_reach_a_chat_client_in_fragments_under_an_index_with_one_id_each(
    client: httpx2.AsyncClient, server: ScriptedProvider, on: WiredModel
) -> None:
    server.script(on.model, on.script(*CALLS))
    fragments = [
        fragment
        for choice in choices_of(await chat(client, model=on.model, tools=CHAT_TOOLS, stream=True))
        for fragment in choice["delta"].get("tool_calls", ())
    ]
    made = []
    for index in range(len(CALLS)):
        first, *rest = (each for each in fragments if each["index"] == index)
        assert (first["type"], first["function"]["arguments"]) == ("function", "")
        assert len(rest) == 3
        assert all(each.keys() <= {"index", "function"} for each in rest)
        assert all(each["function"].keys() == {"arguments"} for each in rest)
        made.append((first["id"], first["function"]["name"], "".join(each["function"]["arguments"] for each in rest)))
    assert made == MADE
    (whole,) = (await chat(client, model=on.model, tools=CHAT_TOOLS))["choices"]
    called = whole["message"]["tool_calls"]
    assert [(each["id"], each["function"]["name"], each["function"]["arguments"]) for each in called] == MADE
    assert whole["message"]["content"] is None


@on_every_wire
async def test_calls_reach_a_messages_client_in_fragments_one_block_at_a_time(
    client: httpx2.AsyncClient, server: ScriptedProvider, on: WiredModel
) -> None:
    server.script(on.model, on.script(*CALLS))
    events = await messages(client, model=on.model, tools=MESSAGES_TOOLS, stream=True)
    blocks = [event for event in events if event["type"].startswith("content_block")]
    assert [event["index"] for event in blocks] == sorted(event["index"] for event in blocks)
    made = []
    for index in range(len(CALLS)):
        start, *deltas, stop = (event for event in blocks if event["index"] == index)
        assert (start["type"], stop["type"]) == ("content_block_start", "content_block_stop")
        assert start["content_block"]["input"] == {}
        pieces = [event["delta"]["partial_json"] for event in deltas]
        assert len([piece for piece in pieces if piece]) == 3
        made.append((start["content_block"]["id"], start["content_block"]["name"], "".join(pieces)))
    assert made == MADE
    (delta,) = (event["delta"] for event in events if event["type"] == "message_delta")
    assert delta["stop_reason"] == "tool_use"
    whole = await messages(client, model=on.model, tools=MESSAGES_TOOLS)
    assert [(block["id"], block["name"], block["input"]) for block in whole["content"]] == [
        (id, name, json.loads(arguments)) for id, name, arguments in MADE
    ]


@on_every_wire
async def test_calls_reach_a_responses_client_in_fragments_of_items_of_their_own(
    client: httpx2.AsyncClient, server: ScriptedProvider, on: WiredModel
) -> None:
    server.script(on.model, on.script(*CALLS))
    events = await responses(client, model=on.model, tools=RESPONSES_TOOLS, stream=True)
    made = []
    for index in range(len(CALLS)):
        added, *deltas, done, item = (event for event in events if event.get("output_index") == index)
        assert (added["type"], item["type"]) == ("response.output_item.added", "response.output_item.done")
        assert {event["item_id"] for event in (*deltas, done)} == {added["item"]["id"]}
        pieces = [event["delta"] for event in deltas]
        assert len([piece for piece in pieces if piece]) == 3
        assert "".join(pieces) == done["arguments"] == item["item"]["arguments"]
        made.append((item["item"]["call_id"], item["item"]["name"], done["arguments"]))
    assert made == MADE
    assert events[-1]["response"]["output"] == [
        event["item"] for event in events if event["type"] == "response.output_item.done"
    ]


@on_every_wire
async def test_the_answers_of_two_calls_reach_the_model_under_their_ids_from_every_api(
    client: httpx2.AsyncClient, server: ScriptedProvider, on: WiredModel
) -> None:
    """What a client read as calls, it sends back with their answers; the wire pairs them by their ids."""
    answers = {"call_a": "sunny", "call_b": "rainy"}
    scripts = on.script(*CALLS), on.script(text("Thanks."))

    server.script(on.model, *scripts)
    (choice,) = (await chat(client, model=on.model, tools=CHAT_TOOLS))["choices"]
    result = [{"role": "tool", "tool_call_id": id, "content": answer} for id, answer in answers.items()]
    await chat(client, model=on.model, tools=CHAT_TOOLS, messages=[*REQUEST, choice["message"], *result])
    sent = [answered_in(server.requests[-1].body)]

    server.script(on.model, *scripts)
    message = await messages(client, model=on.model, tools=MESSAGES_TOOLS)
    results = [{"type": "tool_result", "tool_use_id": id, "content": answer} for id, answer in answers.items()]
    content = [{"role": "assistant", "content": message["content"]}, {"role": "user", "content": results}]
    await messages(client, model=on.model, tools=MESSAGES_TOOLS, messages=[*REQUEST, *content])
    sent.append(answered_in(server.requests[-1].body))

    server.script(on.model, *scripts)
    response = await responses(client, model=on.model, tools=RESPONSES_TOOLS)
    outputs = [{"type": "function_call_output", "call_id": id, "output": answer} for id, answer in answers.items()]
    await responses(client, model=on.model, tools=RESPONSES_TOOLS, input=[*as_input(), *response["output"], *outputs])
    sent.append(answered_in(server.requests[-1].body))

    assert sent == [{id: (arguments, answers[id]) for id, _, arguments in MADE}] * 3


def as_input() -> list[Json]:
    return [{"type": "message", **each} for each in REQUEST]


def answered_in(body: Json) -> dict[str, tuple[str, str]]:
    """The calls of a request on any wire, by their ids: their arguments, and their answers."""
    made: dict[str, str] = {}
    answers: dict[str, str] = {}
    for each in body.get("input") or body["messages"]:
        match each:
            case {"type": "function_call"}:
                made[each["call_id"]] = each["arguments"]
            case {"type": "function_call_output"}:
                answers[each["call_id"]] = each["output"]
            case {"role": "tool"}:
                answers[each["tool_call_id"]] = each["content"]
            case {"tool_calls": calls}:
                made |= {one["id"]: one["function"]["arguments"] for one in calls}
            case {"content": [*parts]}:
                for part in parts:
                    if part["type"] == "tool_use":
                        made[part["id"]] = json.dumps(part["input"])
                    elif part["type"] == "tool_result":
                        answers[part["tool_use_id"]] = part["content"]
    return {id: (json.dumps(json.loads(arguments)), answers[id]) for id, arguments in made.items()}


# --------------------------------------------------------------------------------------------------------------- seals

SEAL = "gAAAA+/=\u00e9-" + "x" * 500
SEALED = {
    RESPONSES: [own(responses_wire.reasoning("I ", "thought.", encrypted_content=SEAL)), *CALLS],
    MESSAGES: [own(wire.thinking("I ", "thought.", signature=SEAL)), own(wire.redacted_thinking(SEAL)), *CALLS],
}


@pytest.mark.parametrize("by_id", [True, False])
@pytest.mark.parametrize("on", SEALED, ids=str)
async def test_a_sealed_thought_goes_back_to_its_provider_byte_for_byte_from_responses(
    client: httpx2.AsyncClient, server: ScriptedProvider, on: WiredModel, by_id: bool
) -> None:
    server.script(on.model, on.script(*SEALED[on]), on.script(text("Hello")))
    first = await responses(
        client, model=on.model, tools=RESPONSES_TOOLS, include=["reasoning.encrypted_content"], store=False
    )
    outputs = [{"type": "function_call_output", "call_id": id, "output": "sunny"} for id, _, _ in MADE]
    earlier = {"previous_response_id": first["id"]} if by_id else {}
    repeated = outputs if by_id else [*as_input(), *first["output"], *outputs]
    await responses(client, model=on.model, tools=RESPONSES_TOOLS, input=repeated, **earlier)
    check_sealed(server, on)


async def test_a_sealed_thought_goes_back_to_its_provider_byte_for_byte_from_messages(
    client: httpx2.AsyncClient, server: ScriptedProvider
) -> None:
    server.script(MESSAGES.model, MESSAGES.script(*SEALED[MESSAGES]), MESSAGES.script(text("Hello")))
    first = await messages(client, model=MESSAGES.model, tools=MESSAGES_TOOLS)
    results = [{"type": "tool_result", "tool_use_id": id, "content": "sunny"} for id, _, _ in MADE]
    content = [{"role": "assistant", "content": first["content"]}, {"role": "user", "content": results}]
    await messages(client, model=MESSAGES.model, tools=MESSAGES_TOOLS, messages=[*REQUEST, *content])
    check_sealed(server, MESSAGES)


def check_sealed(server: ScriptedProvider, on: WiredModel) -> None:
    """The newest request holds the thought as the provider sent it, in front of the calls that it led to."""
    body = server.requests[-1].body
    if on is MESSAGES:
        (content,) = (each["content"] for each in body["messages"] if each["role"] == "assistant")
        assert [part["type"] for part in content] == ["thinking", "redacted_thinking", "tool_use", "tool_use"]
        assert (content[0]["thinking"], content[0]["signature"], content[1]["data"]) == ("I thought.", SEAL, SEAL)
        return
    kinds = [item.get("type") for item in body["input"]]
    at = kinds.index("reasoning")
    assert kinds[at : at + 3] == ["reasoning", "function_call", "function_call"]
    sealed = body["input"][at]
    assert (sealed["id"], sealed["encrypted_content"]) == ("rs_scripted_0", SEAL)
    assert sealed["summary"] == [{"type": "summary_text", "text": "I thought."}]
    assert body["store"] is False


@on_every_wire
@pytest.mark.parametrize("of", SEALED, ids=str)
async def test_a_thought_of_another_provider_is_not_sent_to_a_model_on_another_wire(
    client: httpx2.AsyncClient, server: ScriptedProvider, of: WiredModel, on: WiredModel
) -> None:
    server.script(of.model, of.script(*SEALED[of]), of.script(SEALED[of][0]))
    first = await responses(client, model=of.model)
    second = await responses(client, model=of.model, input="Well?", previous_response_id=first["id"])
    await responses(client, model=on.model, input="And now?", previous_response_id=second["id"])
    body = server.requests[-1].body
    assert (SEAL in json.dumps(body, ensure_ascii=False)) == (of is on)
    assert ("reasoning" in str(body)) == (of is on is RESPONSES)
    assert all(each.get("content") or each.get("tool_calls") for each in body.get("messages", ()))
