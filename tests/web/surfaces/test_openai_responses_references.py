"""Items that a request names by their ids, as the AI SDK does by default: its requests, replayed."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest

from broadcaster.core import events as ev
from broadcaster.web.guards.json_ledger import JsonLedger
from broadcaster.web.surfaces import openai_responses_stored
from tests.support.memory.memory_world import MemoryWorld, memory_services
from tests.support.servers.front_end import in_process, own_app

WEATHER = {"type": "function", "name": "weather", "parameters": {"type": "object", "properties": {}}}
REQUEST = {"role": "user", "content": [{"type": "input_text", "text": "Weather?"}]}
REPEATED = {"role": "user", "content": [{"type": "input_text", "text": "Again?"}]}
CALL = {"type": "function_call", "call_id": "call_a", "name": "weather", "arguments": '{"city":"Rome"}'}
RESULT = {"type": "function_call_output", "call_id": "call_a", "output": "sun"}


def own(**fields: Any) -> dict[str, dict[str, Any]]:
    return {"openai": fields}


TEXT_THEN_TOOL: list[Any] = [
    ev.Start(message_metadata={"model": "o"}),
    ev.StartStep(),
    ev.ReasoningStart(id="r", provider_metadata=own(itemId="rs_a", summaryIndex=0)),
    ev.ReasoningDelta(id="r", delta="Hm"),
    ev.ReasoningEnd(id="r", provider_metadata=own(itemId="rs_a", encryptedContent="ZW5j")),
    ev.TextStart(id="0", provider_metadata=own(itemId="msg_a")),
    ev.TextDelta(id="0", delta="Let me look."),
    ev.TextEnd(id="0", provider_metadata=own(itemId="msg_a")),
    ev.ToolInputStart(tool_call_id="call_a", tool_name="weather", provider_metadata=own(itemId="fc_a")),
    ev.ToolInputDelta(tool_call_id="call_a", input_text_delta='{"city":"Rome"}'),
]
CALL_ENDS: list[Any] = [
    ev.ToolInputAvailable(
        tool_call_id="call_a", tool_name="weather", input={"city": "Rome"}, provider_metadata=own(itemId="fc_a")
    ),
    ev.FinishStep(finish_reason="tool-calls"),
    ev.Finish(finish_reason="tool-calls"),
]
SUNNY: list[Any] = [
    ev.Start(message_metadata={"model": "o"}),
    ev.StartStep(),
    ev.TextStart(id="0"),
    ev.TextDelta(id="0", delta="Sunny."),
    ev.TextEnd(id="0"),
    ev.FinishStep(finish_reason="stop"),
    ev.Finish(finish_reason="stop"),
]
THOUGHT = {"id": "rs_a", "type": "reasoning", "summary": [{"type": "summary_text", "text": "Hm"}]}


def ref(id: str) -> dict[str, str]:
    return {"type": "item_reference", "id": id}


async def respond(client: httpx2.AsyncClient, *items: Any) -> httpx2.Response:
    return await client.post("/v1/responses", json={"model": "claude-x", "input": items, "tools": [WEATHER]})


async def test_tools_after_text_and_a_second_turn_name_the_earlier_items(
    client: httpx2.AsyncClient, world: MemoryWorld
) -> None:
    answers = iter(([*TEXT_THEN_TOOL, *CALL_ENDS], SUNNY, SUNNY))
    world.on_create = lambda id: world.append(id, *next(answers))
    output = (await respond(client, REQUEST)).json()["output"]
    thought, text, call = (item["id"] for item in output)
    assert (thought, text, call) == ("rs_a_gen_0001", "msg_a_gen_0001", "fc_a_gen_0001")

    # ai 6 and 7 name the thought and the text, and send the call; older ones name the call too.
    result = await respond(client, REQUEST, ref(thought), ref(text), CALL, RESULT)
    (content,) = result.json()["output"]
    await respond(
        client, REQUEST, ref(thought), ref(text), ref(text), {"id": call}, RESULT, ref(content["id"]), REPEATED
    )

    use = {"type": "tool_use", "id": "call_a", "name": "weather", "input": {"city": "Rome"}}
    loop = [
        {"role": "user", "content": [{"type": "text", "text": "Weather?"}]},
        {
            "role": "assistant",
            "content": [{**THOUGHT, "encrypted_content": "ZW5j"}, {"type": "text", "text": "Let me look."}, use],
        },
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "call_a", "content": "sun"}]},
    ]
    assert world.requests[1].request["messages"] == loop
    assert world.requests[2].request["messages"] == [
        *loop,
        {"role": "assistant", "content": "Sunny."},
        {"role": "user", "content": [{"type": "text", "text": "Again?"}]},
    ]


async def test_a_thought_that_is_sent_back_whole_has_the_id_that_its_provider_gave_it(
    client: httpx2.AsyncClient, world: MemoryWorld
) -> None:
    world.on_create = lambda id: world.append(id, *SUNNY)
    await respond(client, REQUEST, {**THOUGHT, "id": "rs_a_gen_0009", "encrypted_content": "ZW5j"}, CALL, RESULT)
    (thought, _) = world.requests[0].request["messages"][1]["content"]
    assert thought["id"] == "rs_a"


@pytest.mark.parametrize("id", ["msg_a", "msg_gen_0077_0", "msg_gen_0001_7", "rs_b_gen_0001", "msg_a_gen_0002"])
async def test_an_item_that_is_not_kept_or_is_another_tenants_is_not_found(
    client: httpx2.AsyncClient, world: MemoryWorld, id: str
) -> None:
    for tenant, generation_id in (("local", "gen_0001"), ("others", "gen_0002")):
        world.add(generation_id, tenant=tenant)
        world.append(generation_id, *TEXT_THEN_TOOL, *CALL_ENDS)
    refused = await respond(client, REQUEST, ref(id))
    error = refused.json()["error"]
    assert (refused.status_code, error["code"], error["param"]) == (404, "item_not_found", "input[1]")
    assert error["type"] == "invalid_request_error"
    assert id in error["message"]
    assert not world.requests


async def test_half_a_call_cannot_be_built_on(client: httpx2.AsyncClient, world: MemoryWorld) -> None:
    world.on_create = lambda id: world.append(id, *SUNNY)
    world.add("gen_0009")
    world.append("gen_0009", *TEXT_THEN_TOOL, ev.Abort(reason="stopped"))
    refused = await respond(client, REQUEST, ref("fc_a_gen_0009"), RESULT)
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "input[1]")


async def test_one_request_names_items_of_a_bounded_number_of_responses(
    client: httpx2.AsyncClient, world: MemoryWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(openai_responses_stored, "MAX_REFERENCED", 1)
    world.on_create = lambda id: world.append(id, *SUNNY)
    for generation_id in ("gen_0008", "gen_0009"):
        world.add(generation_id)
        world.append(generation_id, *SUNNY)
    refused = await respond(client, ref("msg_gen_0008_0"), ref("msg_gen_0009_0"))
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "input")


# ---------------------------------------------------------------------------------------- what the items take of room

LARGE_BYTES = 2**20
LONG_THOUGHT: list[Any] = [
    *SUNNY[:2],
    ev.ReasoningStart(id="r"),
    ev.ReasoningDelta(id="r", delta="x" * LARGE_BYTES),
    ev.ReasoningEnd(id="r"),
    *SUNNY[2:],
]
THINKING = ("gen_0007", "gen_0008", "gen_0009")
BUILDING_ON_ALL: dict[str, dict[str, Any]] = {
    "items of several answers": {"input": [ref(f"rs_{id}_0") for id in THINKING]},
    "an answer, and an item of another": {
        "previous_response_id": f"resp_{THINKING[0]}",
        "input": [ref(f"rs_{THINKING[1]}_0")],
    },
}
BOTH_PATHS = pytest.mark.parametrize("path", ["/v1/responses", "/v1/responses/input_tokens"])


@pytest.fixture
def ledger() -> JsonLedger:
    """Has room for one long thought, which counts four times."""
    return JsonLedger(max_bytes=6 * LARGE_BYTES)


@pytest.fixture
async def bounded(world: MemoryWorld, ledger: JsonLedger) -> AsyncIterator[httpx2.AsyncClient]:
    for id in THINKING:
        world.add(id)
        world.append(id, *LONG_THOUGHT)
    world.on_create = lambda id: world.append(id, *SUNNY)
    async with memory_services(world, json_ledger=ledger) as services, in_process(own_app(services)) as client:
        yield client


@BOTH_PATHS
@pytest.mark.parametrize("body", BUILDING_ON_ALL.values(), ids=BUILDING_ON_ALL)
async def test_what_a_request_builds_on_counts_together_until_it_is_answered(
    bounded: httpx2.AsyncClient, world: MemoryWorld, ledger: JsonLedger, *, path: str, body: dict[str, Any]
) -> None:
    refused = await bounded.post(path, json={"model": "claude-x", **body})
    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "slow_down")
    assert "MAX_JSON_BYTES" in refused.json()["error"]["message"]
    assert not ledger.used_bytes
    assert not world.requests


@BOTH_PATHS
async def test_of_the_answers_that_a_request_names_the_named_items_alone_count(
    bounded: httpx2.AsyncClient, ledger: JsonLedger, path: str
) -> None:
    items = [*(ref(f"msg_{id}_1") for id in THINKING), ref(f"rs_{THINKING[2]}_0"), REPEATED]
    answered = await bounded.post(path, json={"model": "claude-x", "input": items})
    assert answered.status_code == 200, answered.text
    assert not ledger.used_bytes
