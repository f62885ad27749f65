"""Errors as the clients of each API know them, whichever API the provider has: status, type, code, param and text.

What clients match on was read in their sources. They know a request that is too long by its code
``context_length_exceeded`` or by the texts ``prompt is too long`` (LangChain on every API, litellm on Messages) and
``this model's maximum context length is`` (litellm on OpenAI's APIs).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any

import anthropic
import httpx2
import openai
import pytest

from broadcaster.testing import Answer, Script, ScriptedProvider
from broadcaster.web.services import Services
from tests.support.apps.wired_world import CHAT, MESSAGES, RESPONSES, ROUTES, WiredModel
from tests.support.memory.memory_world import MemoryWorld, memory_services
from tests.support.servers.front_end import DEADLINE_S, in_process, own_app

Json = dict[str, Any]
KEY = "a-key-of-this-front-end"

LONG = "This model's maximum context length is 9 tokens. However, your messages resulted in 12 tokens."
VLLM = "This model's maximum context length is 9 tokens. However, you requested 12 tokens (12 in the messages)."
LLAMA = "the request exceeds the available context size. try increasing the context size or enable context shift"
INPUT = "Your input exceeds the context window of this model. Please adjust your input and try again."
PROMPT = "prompt is too long: 12 tokens > 9 maximum"
BUDGET = "input length and `max_tokens` exceed context limit: 8 + 4 > 9, decrease input length or `max_tokens`"
WRONG_KEY = "Incorrect API key provided: sk-abc***6789. You can find your API key at https://platform.openai.com."
INVALID = "invalid_request_error"


def of_openai(message: str, type: str = INVALID, *, code: Any = None, param: str | None = None) -> Json:
    return {"error": {"message": message, "type": type, "param": param, "code": code}}


def of_anthropic(message: str, type: str = INVALID) -> Json:
    return {"type": "error", "error": {"type": type, "message": message}, "request_id": "req_1"}


TOO_LONG: Json = {"code": "context_length_exceeded", "param": "messages"}
NO_MODEL: Json = {"code": "model_not_found", "param": "model"}
REFUSALS: dict[str, tuple[WiredModel, int, Json]] = {
    "too long, OpenAI chat": (CHAT, 400, of_openai(LONG, code=TOO_LONG["code"], param="messages")),
    "too long, OpenAI Responses": (RESPONSES, 400, of_openai(INPUT, code=TOO_LONG["code"], param="input")),
    "too long, vLLM": (CHAT, 400, {"object": "error", "message": VLLM, "type": "BadRequestError", "code": 400}),
    "too long, newer vLLM": (CHAT, 400, of_openai(VLLM, "BadRequestError", code=400)),
    "too long, llama.cpp": (CHAT, 400, of_openai(LLAMA, "exceed_context_size_error", code=400)),
    "too long, Anthropic": (MESSAGES, 400, of_anthropic(PROMPT)),
    "too long with its bound, Anthropic": (MESSAGES, 400, of_anthropic(BUDGET)),
    "wrong key, OpenAI": (CHAT, 401, of_openai(WRONG_KEY, code="invalid_api_key")),
    "wrong key, Anthropic": (MESSAGES, 401, of_anthropic("invalid x-api-key", "authentication_error")),
    "wrong model, OpenAI": (
        RESPONSES,
        404,
        of_openai("The model `m` does not exist", code="model_not_found", param="model"),
    ),
    "wrong model, Anthropic": (MESSAGES, 404, of_anthropic("model: m", "not_found_error")),
    "rate limit, OpenAI": (CHAT, 429, of_openai("Rate limit reached for m", "tokens", code="rate_limit_exceeded")),
    "rate limit, Anthropic": (MESSAGES, 429, of_anthropic("Number of request tokens has exceeded", "rate_limit_error")),
    "overloaded, OpenAI": (CHAT, 503, of_openai("The engine is currently overloaded", "server_error")),
    "overloaded, Anthropic": (MESSAGES, 529, of_anthropic("Overloaded", "overloaded_error")),
}
TEXT_OF_A_LONG_ONE = "This model's maximum context length is exceeded: "
OPENAI_TEXTS: dict[str, Json] = {
    "too long, OpenAI chat": {"message": LONG, "type": INVALID, **TOO_LONG},
    "too long, OpenAI Responses": {"message": INPUT, "type": INVALID, **TOO_LONG, "param": "input"},
    "too long, vLLM": {"message": VLLM, "type": "BadRequestError", **TOO_LONG, "param": None},
    "too long, newer vLLM": {"message": VLLM, "type": "BadRequestError", **TOO_LONG, "param": None},
    "too long, llama.cpp": {"message": LLAMA, "type": "exceed_context_size_error", **TOO_LONG, "param": None},
    "too long, Anthropic": {"message": TEXT_OF_A_LONG_ONE + PROMPT, "type": INVALID, **TOO_LONG, "param": None},
    "too long with its bound, Anthropic": {"message": BUDGET, "type": INVALID, **TOO_LONG, "param": None},
    "wrong key, OpenAI": {"type": INVALID, "code": "invalid_api_key"},
    "wrong key, Anthropic": {"message": "invalid x-api-key", "type": "authentication_error"},
    "wrong model, OpenAI": {"type": INVALID, "code": "model_not_found", "param": "model"},
    "wrong model, Anthropic": {"message": "model: m", "type": "not_found_error"},
    "rate limit, OpenAI": {"message": "Rate limit reached for m", "type": "tokens", "code": "rate_limit_exceeded"},
    "rate limit, Anthropic": {"type": "rate_limit_error"},
    "overloaded, OpenAI": {"message": "The engine is currently overloaded", "type": "server_error"},
    "overloaded, Anthropic": {"message": "Overloaded", "type": "overloaded_error"},
}
ANTHROPIC_TEXTS: dict[str, tuple[str, str]] = {
    "too long, OpenAI chat": (INVALID, f"prompt is too long: {LONG}"),
    "too long, OpenAI Responses": (INVALID, f"prompt is too long: {INPUT}"),
    "too long, vLLM": (INVALID, f"prompt is too long: {VLLM}"),
    "too long, newer vLLM": (INVALID, f"prompt is too long: {VLLM}"),
    "too long, llama.cpp": (INVALID, f"prompt is too long: {LLAMA}"),
    "too long, Anthropic": (INVALID, PROMPT),
    "too long with its bound, Anthropic": (INVALID, BUDGET),
    "wrong key, OpenAI": ("authentication_error", "Incorrect API key provided: [redacted] You can find your"),
    "wrong key, Anthropic": ("authentication_error", "invalid x-api-key"),
    "wrong model, OpenAI": ("not_found_error", "The model `m` does not exist"),
    "wrong model, Anthropic": ("not_found_error", "model: m"),
    "rate limit, OpenAI": ("rate_limit_error", "Rate limit reached for m"),
    "rate limit, Anthropic": ("rate_limit_error", "Number of request tokens has exceeded"),
    "overloaded, OpenAI": ("overloaded_error", "The engine is currently overloaded"),
    "overloaded, Anthropic": ("overloaded_error", "Overloaded"),
}
PATHS: dict[str, Json] = {
    "/v1/chat/completions": {"messages": [{"role": "user", "content": "Hi"}]},
    "/v1/responses": {"input": "Hi"},
    "/v1/messages": {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 9},
}


@pytest.fixture
async def services(world: MemoryWorld, server: ScriptedProvider) -> AsyncIterator[Services]:
    async with memory_services(world, routes=ROUTES, head_wait_s=DEADLINE_S) as opened:
        yield opened


class Sdks:
    """The SDK of each path's API, in front of one app."""

    def __init__(self, client: httpx2.AsyncClient, *, key: str = "any") -> None:
        base_url = str(client.base_url)
        own: Any = {"api_key": key, "max_retries": 0, "http_client": client}
        self.openai = openai.AsyncOpenAI(base_url=f"{base_url}/v1", **own)
        self.anthropic = anthropic.AsyncAnthropic(base_url=base_url, **own)

    async def raised(self, path: str, model: str, **body: Any) -> Any:
        """What the SDK raises for this call."""
        sdk: Any = self.anthropic if path == "/v1/messages" else self.openai
        calling = path if sdk is self.anthropic else path.removeprefix("/v1")
        with pytest.raises((openai.APIStatusError, anthropic.APIStatusError)) as caught:
            await sdk.post(calling, body={"model": model, **PATHS[path], **body}, cast_to=httpx2.Response)
        return caught.value


@pytest.mark.parametrize("name", REFUSALS)
async def test_clients_of_each_api_know_what_a_provider_of_any_api_refused_streamed_and_not(
    client: httpx2.AsyncClient, server: ScriptedProvider, name: str
) -> None:
    on, status, body = REFUSALS[name]
    server.script(on.model, Script(Answer(status, body=body)))
    sdks = Sdks(client)
    for stream in (False, True):
        for path in ("/v1/chat/completions", "/v1/responses"):
            error = await sdks.raised(path, on.model, stream=stream)
            assert error.status_code == status
            assert error.body.keys() == {"message", "type", "param", "code"}
            assert {field: error.body[field] for field in OPENAI_TEXTS[name]} == OPENAI_TEXTS[name]
            assert (error.code == TOO_LONG["code"]) == name.startswith("too long")
        error = await sdks.raised("/v1/messages", on.model, stream=stream)
        type, text = ANTHROPIC_TEXTS[name]
        assert (error.status_code, error.body["type"], error.body["error"]["type"]) == (status, "error", type)
        assert error.body["error"]["message"].startswith(text)


@pytest.mark.parametrize("path", PATHS)
async def test_a_model_without_a_route_and_a_wrong_key_are_refused_as_the_api_does(
    world: MemoryWorld, services: Services, client: httpx2.AsyncClient, path: str
) -> None:
    error = await Sdks(client).raised(path, "gpt-unknown")
    assert "gpt-unknown" in str(error)
    keys: Json = {"auth": "keys", "api_keys": f'{{"team": ["{KEY}"]}}'}
    locked = own_app(services, **keys)
    async with in_process(locked) as guarded:
        refused = await Sdks(guarded, key="wrong").raised(path, "chat")
    assert (error.status_code, refused.status_code) == (404, 401)
    result: Mapping[str, Any] = refused.body
    if path == "/v1/messages":
        assert (error.body["error"]["type"], result["error"]["type"]) == ("not_found_error", "authentication_error")
    else:
        assert (error.type, error.code, error.param) == (INVALID, "model_not_found", "model")
        assert (result["type"], result["code"], result["param"]) == ("authentication_error", "invalid_api_key", None)
    assert not world.requests
