"""Parameters of a server of the operator's own: they reach it unread, and no other provider is sent any of them."""

from collections.abc import AsyncIterator
from typing import Any

import httpx2
import openai
import pytest
from fastapi import FastAPI

from broadcaster.core import events as ev
from broadcaster.core.providers.model_routing import ModelRoutes
from broadcaster.dialects.anthropic.request import read_request
from broadcaster.dialects.openai.parameters import BadParameter
from broadcaster.dialects.openai_chat.request import parse_chat_request
from broadcaster.dialects.openai_responses.request import parse_responses_request
from broadcaster.errors import InvalidInput
from broadcaster.log.redis.connect import LogConnection
from broadcaster.settings import Settings
from broadcaster.settings.values import ProviderSpec
from broadcaster.web.services import Services
from broadcaster.web.wiring import open_services
from tests.support.memory.memory_world import MemoryWorld, memory_services
from tests.support.servers.front_end import own_app
from tests.worker.providers.provider_support import request_for
from worker.providers.openai_arguments import chat_arguments

OWN: dict[str, Any] = {
    "min_p": 0.05,
    "repetition_penalty": 1.1,
    "chat_template_kwargs": {"enable_thinking": False},
    "guided_json": {"type": "object", "properties": {"a": {"type": "null"}}},
    "num_ctx": 8192,
    "keep_alive": "5m",
}
ROUTES = ModelRoutes({"mine": "mine", "mixed": ["mine", "openai"], "gpt-x": "openai"})


@pytest.fixture
async def services(world: MemoryWorld, request: pytest.FixtureRequest) -> AsyncIterator[Services]:
    options: Any = {"routes": ROUTES, "own_servers": frozenset({"mine"}), "default_model": "mine"}
    options["reasoning_servers"] = frozenset({"mine"})
    unknown = getattr(request, "param", "refuse")
    async with memory_services(world, **options, unknown_parameters=unknown) as opened:
        yield opened


@pytest.fixture
def app(services: Services) -> FastAPI:
    return own_app(services)


def passed_on(world: MemoryWorld) -> Any:
    """What the server is sent of the newest request, besides the fields that every request has."""
    extra = {name: value for name, value in world.requests[-1].request.items() if name == "openai"}
    return chat_arguments(request_for("mine", extra=extra), host="127.0.0.1")["extra_body"]


async def test_own_parameters_reach_the_server_unchanged_from_both_surfaces(
    sdk: openai.AsyncOpenAI, world: MemoryWorld
):
    world.on_create = lambda id: world.append(id, ev.TextDelta(id="0", delta="Hi"), ev.Finish(finish_reason="stop"))

    own = {**OWN, "reasoning": {"max_tokens": 9}}
    await sdk.chat.completions.create(model="mine", messages=[{"role": "user", "content": "?"}], extra_body=own)
    assert passed_on(world) == own

    await sdk.responses.create(input="?", extra_body=OWN)
    assert passed_on(world) == OWN


@pytest.mark.parametrize(("model", "is_kept"), [("mine", True), ("mixed", True), ("gpt-x", False)])
async def test_the_reasoning_of_an_earlier_answer_is_kept_for_a_server_that_takes_it_back(
    sdk: openai.AsyncOpenAI, world: MemoryWorld, model: str, *, is_kept: bool
):
    world.on_create = lambda id: world.append(id, ev.TextDelta(id="0", delta="Hi"), ev.Finish(finish_reason="stop"))
    call = {"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    messages: Any = [
        {"role": "user", "content": "?"},
        {"role": "assistant", "content": None, "reasoning_content": "Hm.", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "a", "content": "x"},
    ]
    await sdk.chat.completions.create(model=model, messages=messages)
    answer = world.requests[-1].request["messages"][1]
    assert answer.get("openai") == ({"reasoning": "Hm."} if is_kept else None)


@pytest.mark.parametrize("model", ["mixed", "gpt-x"])
async def test_a_model_that_can_lead_to_openai_refuses_them(sdk: openai.AsyncOpenAI, model: str):
    response: list[Any] = [
        sdk.chat.completions.create(
            model=model, messages=[{"role": "user", "content": "?"}], extra_body={"min_p": 0.1}
        ),
        sdk.responses.create(model=model, input="?", extra_body={"min_p": 0.1}),
    ]
    for pending in response:
        with pytest.raises(openai.BadRequestError) as caught:
            await pending
        assert (caught.value.param, caught.value.code) == ("min_p", "unknown_parameter")


@pytest.mark.parametrize("services", ["drop"], indirect=True)
async def test_where_the_operator_drops_them_only_other_providers_lack_them(
    live_client: httpx2.AsyncClient, sdk: openai.AsyncOpenAI, world: MemoryWorld
):
    world.on_create = lambda id: world.append(id, ev.TextDelta(id="0", delta="Hi"), ev.Finish(finish_reason="stop"))
    messages: Any = [{"role": "user", "content": "?"}]
    bodies: dict[str, Any] = {
        "chat/completions": {"messages": messages},
        "responses": {"input": "?"},
        "messages": {"messages": messages, "max_tokens": 9},
    }
    for path, body in bodies.items():
        answer = await live_client.post(f"/v1/{path}", json={"model": "gpt-x", **body, **OWN})
        assert answer.status_code == 200, answer.text
        assert OWN.keys() & str(world.requests[-1].request).split("'") == set()

    await sdk.chat.completions.create(model="mine", messages=messages, extra_body=OWN)
    assert passed_on(world) == OWN


@pytest.mark.parametrize(("given", "unknown"), [({}, "refuse"), ({"unknown_parameters": "drop"}, "drop")])
async def test_the_setting_is_that_of_the_front_end(connection: LogConnection, given: dict[str, str], unknown: str):
    settings = Settings.model_validate({"redis_url": connection.url, **given})
    async with open_services(settings) as services:
        assert services.unknown_parameters_for("gpt-4o") == unknown


@pytest.mark.parametrize("name", ["stop", "max_completion_tokens", "response_format", "input", "openai"])
def test_a_name_of_openai_s_is_always_refused_by_messages(name: str):
    with pytest.raises(InvalidInput, match=f"{name}: Extra inputs"):
        read_request(
            {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "?"}], name: 1}, drops_unknown=True
        )


@pytest.mark.parametrize("unknown", ["pass", "drop"])
@pytest.mark.parametrize("name", ["system", "input", "max_output_tokens", "openai", "responses", "background"])
def test_a_name_that_is_ours_is_always_refused(name: str, unknown: Any):
    with pytest.raises(BadParameter, match="not known") as caught:
        parse_chat_request({"model": "m", "messages": [{"role": "user", "content": "?"}], name: 1}, unknown=unknown)
    assert caught.value.param == name


@pytest.mark.parametrize("unknown", ["pass", "drop"])
@pytest.mark.parametrize("name", ["messages", "stop", "max_tokens", "response_format", "n", "openai"])
def test_a_name_of_chat_completions_is_always_refused_by_responses(name: str, unknown: Any):
    with pytest.raises(BadParameter, match="not known") as caught:
        parse_responses_request({"input": "?", name: 1}, unknown=unknown)
    assert caught.value.param == name


@pytest.mark.parametrize(
    ("wire", "base_url", "is_own"),
    [
        ("openai", "http://127.0.0.1:8000/v1", True),
        ("openai", "https://openrouter.ai/api/v1", True),
        ("openai", "https://notopenai.com/v1", True),
        ("openai", "https://api.openai.com/v1", False),
        ("openai", "https://mine.openai.azure.com/openai/v1", False),
        ("openai", None, False),
        ("openai-responses", "http://127.0.0.1:8000/v1", False),
        ("anthropic", "http://127.0.0.1:8000", False),
    ],
)
def test_a_server_is_the_operator_s_own_by_its_wire_and_its_address(wire: Any, base_url: str | None, *, is_own: bool):
    assert ProviderSpec(wire=wire, base_url=base_url).takes_own_parameters is is_own
