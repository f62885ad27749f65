"""A fallback from Claude to OpenAI, over real sockets: what OpenAI would refuse of the request is not sent."""

from __future__ import annotations

import asyncio
import socket
from typing import Any
from urllib.parse import urlsplit

import pytest
from openai.types.chat.completion_create_params import CompletionCreateParamsBase
from openai.types.responses.response_create_params import ResponseCreateParamsBase

from broadcaster.core import events as ev
from broadcaster.core.providers.model_routing import ModelRoutes
from broadcaster.settings.values import ProviderSpec
from broadcaster.testing import Answer as Refuse
from broadcaster.testing import Script, ScriptedProvider
from tests.worker.providers.provider_support import CHAT, MODEL, RESPONSES, Wire, request_for, text_of
from tests.worker.retry_support import GOOD, QUICK, SETTINGS_WIRE
from worker.providers.base import CallBounds, ProviderRequest
from worker.providers.registry import Providers, default_factories
from worker.retry import ModelAnswer

PARAMS: dict[str, Any] = {"chat": CompletionCreateParamsBase, "responses": ResponseCreateParamsBase}
LONG_ID = "chatcmpl-tool-" + 64 * "a"
CONVERSATION: list[dict[str, Any]] = [
    {"role": "user", "content": "What is the weather?"},
    {"role": "assistant", "content": [{"type": "tool_use", "id": LONG_ID, "name": "weather", "input": {}}]},
    {"role": "user", "content": [{"type": "tool_result", "tool_use_id": LONG_ID, "content": "Sunny."}]},
]


@pytest.fixture
def openai_is_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """OpenAI's name leads to this machine."""
    resolve = socket.getaddrinfo

    def here(host: str, *arguments: Any, **options: Any) -> Any:
        return resolve("127.0.0.1" if host == "api.openai.com" else host, *arguments, **options)

    monkeypatch.setattr(socket, "getaddrinfo", here)


async def sent_to_openai(on: Wire, request: ProviderRequest) -> dict[str, Any]:
    """The body that OpenAI's server is sent because Claude's is overloaded; its answer is the generation's."""
    async with ScriptedProvider() as claude, ScriptedProvider(default=GOOD) as openai:
        claude.script(MODEL, Script(Refuse(529)))
        url = f"http://api.openai.com:{urlsplit(openai.base_url).port}/v1"
        specs = {
            "claude": ProviderSpec(wire="anthropic", base_url=claude.base_url),
            "gpt": ProviderSpec.model_validate({"wire": SETTINGS_WIRE[on.name], "base_url": url}),
        }
        factories = default_factories(CallBounds(max_connections=10, read_timeout_s=5.0), specs=specs)
        providers = Providers(ModelRoutes({"claude*": ["claude", "gpt/gpt-5.4"]}), factories)
        events: list[ev.Event] = []
        try:
            deadline = asyncio.get_running_loop().time() + 60
            answer = ModelAnswer(request, providers, bounds=QUICK, deadline=deadline, name="gen_1")
            async with asyncio.timeout(20):
                last = await answer.run(events.extend)
        finally:
            await providers.aclose()
        assert text_of([*events, *last]) == "Hello world"
        (received,) = openai.requests
        body: dict[str, Any] = received.body
        return body


@pytest.mark.usefixtures("openai_is_here")
@pytest.mark.parametrize("on", [CHAT, RESPONSES], ids=str)
async def test_a_fallback_to_openai_is_sent_no_preference_that_only_messages_have(on: Wire):
    extra = {
        "thinking": {"type": "adaptive", "display": "updates"},
        "context_management": {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]},
        "cache_control": {"type": "ephemeral"},
        "top_k": 5,
        "output_config": {"effort": "high"},
    }
    body = await sent_to_openai(on, request_for(MODEL, extra=extra))
    assert body.keys() <= PARAMS[on.name].__annotations__.keys() | {"stream"}
    assert "high" in (body.get("reasoning_effort"), body.get("reasoning", {}).get("effort"))


@pytest.mark.usefixtures("openai_is_here")
@pytest.mark.parametrize(("on", "most"), [(CHAT, 40), (RESPONSES, 64)], ids=["chat", "responses"])
async def test_a_fallback_to_openai_is_sent_no_id_of_a_call_that_is_too_long(on: Wire, most: int):
    body = await sent_to_openai(on, request_for(MODEL, messages=CONVERSATION))
    if on is CHAT:
        _, answer, result = body["messages"]
        ids = [answer["tool_calls"][0]["id"], result["tool_call_id"]]
    else:
        ids = [item["call_id"] for item in body["input"][1:]]
    assert ids[0] == ids[1]
    assert len(ids[0]) <= most
