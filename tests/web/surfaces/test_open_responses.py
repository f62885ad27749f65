"""The cases of Open Responses' compliance suite, of models on every wire: what we answer obeys its schema."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest

from broadcaster.testing import Cut, Script, ScriptedProvider, Send, responses_wire
from broadcaster.web.services import Services
from tests.support.apps.wired_world import (
    RESPONSES,
    ROUTES,
    WiredModel,
    call,
    on_every_wire,
    text,
    thought,
)
from tests.support.memory.memory_world import MemoryWorld, memory_services
from tests.web.surfaces.open_responses import ResponseObject, check_response, check_stream

WEATHER = {
    "type": "function",
    "name": "get_weather",
    "description": "Get the current weather for a location",
    "parameters": {"type": "object", "properties": {"location": {"type": "string"}}, "required": ["location"]},
}
ARGUMENTS = ('{"location": ', '"Paris"}')
PIXEL = "R0lGODlhAQABAAAAACH5BAEKAAEALAAAAAABAAEAAAICTAEAOw=="


FILE = "JVBERi0xLjQK"


def message(role: str, content: Any, **fields: Any) -> dict[str, Any]:
    return {"type": "message", "role": role, "content": content, **fields}


@pytest.fixture
async def services(world: MemoryWorld, server: ScriptedProvider) -> AsyncIterator[Services]:
    async with memory_services(world, routes=ROUTES) as opened:
        yield opened


async def whole(client: httpx2.AsyncClient, **body: Any) -> ResponseObject:
    answer = await client.post("/v1/responses", json=body)
    assert answer.status_code == 200, answer.text
    response = check_response(answer.json())
    assert (response.status, response.error, response.incomplete_details) == ("completed", None, None)
    return response


async def streamed(client: httpx2.AsyncClient, **body: Any) -> ResponseObject:
    answer = await client.post("/v1/responses", json={**body, "stream": True})
    assert answer.status_code == 200, answer.text
    blocks = [block.split("\n") for block in answer.text.split("\n\n") if block and not block.startswith(":")]
    events = [json.loads(data.removeprefix("data: ")) for _, data in blocks]
    assert [name for name, _ in blocks] == [f"event: {event['type']}" for event in events]
    return check_stream(events)


def text_of(response: ResponseObject) -> str:
    dumped = response.model_dump()
    return "".join(part["text"] for item in dumped["output"] if item["type"] == "message" for part in item["content"])


@on_every_wire
async def test_a_text_is_a_whole_response_streamed_and_not(client: httpx2.AsyncClient, on: WiredModel) -> None:
    requested = {"model": on.model, "input": [message("user", "Say hello in two words.")]}
    for response in (await whole(client, **requested), await streamed(client, **requested)):
        assert text_of(response) == "Hello there"


@on_every_wire
async def test_a_system_prompt_and_earlier_turns_reach_the_model(
    client: httpx2.AsyncClient, server: ScriptedProvider, on: WiredModel
) -> None:
    response = [
        message("system", "You are a pirate."),
        message("user", "My name is Alice."),
        message("assistant", "Hello Alice!"),
        message("user", "What is my name?"),
    ]
    assert text_of(await whole(client, model=on.model, input=response)) == "Hello there"
    sent = json.dumps(server.requests[-1].body)
    assert all(json.dumps(each["content"])[1:-1] in sent for each in response)


@on_every_wire
async def test_a_tool_is_called_and_its_output_answered_streamed_and_not(
    client: httpx2.AsyncClient, server: ScriptedProvider, on: WiredModel
) -> None:
    called = on.script(thought("Let me ", "look."), text("One moment."), call("get_weather", *ARGUMENTS, id="call_9"))
    response = {"model": on.model, "input": [message("user", "The weather?")], "tools": [WEATHER]}
    for pending in (whole, streamed):
        server.script(on.model, called, on.script(text("Sunny.")))
        first = await pending(client, **response, tool_choice={"type": "function", "name": "get_weather"})
        assert [item.type for item in first.output] == ["reasoning", "message", "function_call"]
        (made,) = (item.model_dump() for item in first.output if item.type == "function_call")
        assert (made["call_id"], made["arguments"]) == ("call_9", "".join(ARGUMENTS))
        output = {"type": "function_call_output", "call_id": made["call_id"], "output": "64 degrees and clear"}
        second = await pending(client, model=on.model, input=[output], previous_response_id=first.id)
        assert (text_of(second), second.previous_response_id) == ("Sunny.", first.id)
        sent = json.dumps(server.requests[-1].body)
        assert "The weather?" in sent
        assert "64 degrees and clear" in sent


@on_every_wire
async def test_an_image_and_a_file_reach_the_model(
    client: httpx2.AsyncClient, server: ScriptedProvider, on: WiredModel
) -> None:
    parts = [
        {"type": "input_text", "text": "What do you see?"},
        {"type": "input_image", "image_url": f"data:image/gif;base64,{PIXEL}"},
        {"type": "input_file", "filename": "a.pdf", "file_data": f"data:application/pdf;base64,{FILE}"},
    ]
    await whole(client, model=on.model, input=[message("user", parts)])
    sent = json.dumps(server.requests[-1].body)
    assert PIXEL in sent
    assert FILE in sent


@on_every_wire
async def test_an_earlier_response_is_built_on(
    client: httpx2.AsyncClient, server: ScriptedProvider, on: WiredModel
) -> None:
    first = await whole(client, model=on.model, input="Remember the word papaya.")
    second = await whole(client, model=on.model, input="Which word?", previous_response_id=first.id)
    assert (text_of(second), second.previous_response_id) == ("Hello there", first.id)
    assert "papaya" in json.dumps(server.requests[-1].body)


PHASES = [("I should answer with the number.", "commentary"), ("The number is four.", "final_answer")]


@on_every_wire
async def test_the_phases_of_earlier_answers_reach_a_model_that_labels_them_and_no_other(
    client: httpx2.AsyncClient, server: ScriptedProvider, on: WiredModel
) -> None:
    response = [
        *(message("assistant", texts, phase=phase) for texts, phase in PHASES),
        message("user", "Repeat the number."),
    ]
    assert text_of(await whole(client, model=on.model, input=response)) == "Hello there"
    sent = server.requests[-1].body
    if on is RESPONSES:
        earlier = [item for item in sent["input"] if item["role"] == "assistant"]
        assert [(item["content"][0]["text"], item["phase"]) for item in earlier] == PHASES
    else:
        assert "phase" not in json.dumps(sent)
        assert all(texts in json.dumps(sent) for texts, _ in PHASES)


async def test_a_phase_that_the_model_gave_comes_with_its_message_and_goes_back_by_id(
    client: httpx2.AsyncClient, server: ScriptedProvider
) -> None:
    events = responses_wire.answer(responses_wire.text("Hello"))
    for event in events:
        for item in (event.get("item"), *event.get("response", {}).get("output", ())):
            if item is not None:
                item["phase"] = "final_answer"
    server.script(RESPONSES.model, Script(Send(*events)), RESPONSES.script(text("Again")))
    first = await streamed(client, model=RESPONSES.model, input="Hi")
    assert [item.model_dump()["phase"] for item in first.output] == ["final_answer"]
    await whole(client, model=RESPONSES.model, input="And now?", previous_response_id=first.id)
    assert [item.get("phase") for item in server.requests[-1].body["input"]] == [None, "final_answer", None]


@on_every_wire
async def test_the_request_is_repeated_with_every_field_that_it_has(client: httpx2.AsyncClient, on: WiredModel) -> None:
    schema = {"type": "object", "properties": {}, "additionalProperties": False}
    requested: dict[str, Any] = {
        "instructions": "Be brief.", "temperature": 0, "top_p": 0.5, "presence_penalty": 0.5, "frequency_penalty": -1,
        "max_output_tokens": 64, "max_tool_calls": 3, "metadata": {"a": "b"}, "parallel_tool_calls": False,
        "reasoning": {"effort": "low"}, "truncation": "auto", "store": False, "safety_identifier": "s",
        "prompt_cache_key": "k", "tools": [{"type": "function", "name": "f"}], "tool_choice": "none",
        "text": {"format": {"type": "json_schema", "name": "n", "schema": schema}, "verbosity": "low"},
    }  # fmt: skip
    for pending in (whole, streamed):
        response = (await pending(client, model=on.model, input="Hi", **requested)).model_dump()
        assert {name: response[name] for name in requested.keys() - {"reasoning", "tools", "text"}} == {
            name: requested[name] for name in requested.keys() - {"reasoning", "tools", "text"}
        }
        assert response["reasoning"] == {"effort": "low", "summary": None}
        assert response["tools"] == [
            {**requested["tools"][0], "description": None, "parameters": None, "strict": False}
        ]
        assert response["text"]["verbosity"] == "low"
        assert response["text"]["format"] == {**requested["text"]["format"], "description": None, "strict": False}


@on_every_wire
async def test_an_answer_that_its_bound_cut_is_incomplete_and_reports_why(
    client: httpx2.AsyncClient, server: ScriptedProvider, on: WiredModel
) -> None:
    reason = {"chat": "length", "responses": "max_output_tokens", "messages": "max_tokens"}[on.model]
    server.script(on.model, on.script(text("Hello "), reason=reason))
    answer = await client.post("/v1/responses", json={"model": on.model, "input": "Hi"})
    for response in (check_response(answer.json()), await streamed(client, model=on.model, input="Hi")):
        assert response.status == "incomplete"
        assert response.incomplete_details is not None
        assert response.incomplete_details.reason == "max_output_tokens"
        assert [item.model_dump()["status"] for item in response.output] == ["incomplete"]


@on_every_wire
async def test_an_answer_that_broke_off_failed_and_reports_why(
    client: httpx2.AsyncClient, server: ScriptedProvider, on: WiredModel
) -> None:
    composer = on.wire.compose(on.model)
    server.script(on.model, Script(Send(*composer.text("Hello ")), Cut()))
    answer = await client.post("/v1/responses", json={"model": on.model, "input": "Hi"})
    for response in (check_response(answer.json()), await streamed(client, model=on.model, input="Hi")):
        assert (response.status, response.incomplete_details) == ("failed", None)
        assert response.error is not None
        assert response.error.code == "provider_disconnected"


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", "/v1/responses/compact", 405),  # the path is a response's, which is read and deleted
        ("GET", "/v1/responses/compact", 404),
        ("POST", "/v1/conversations", 404),
    ],
)
async def test_compaction_and_conversations_are_refused_in_the_shape_of_the_api(
    client: httpx2.AsyncClient, *, method: str, path: str, status: int
) -> None:
    answer = await client.request(method, path, json={"model": "chat", "input": "Hi"})
    assert answer.status_code == status
    error = answer.json()["error"]
    assert error.keys() == {"message", "type", "param", "code"}
    assert (error["type"], error["param"]) == ("invalid_request_error", None)
    assert answer.headers["x-should-retry"] == "false"
