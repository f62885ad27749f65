"""The OpenAI provider on both wires: the real SDK against a scripted server, over real sockets."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from broadcaster.core import events as ev
from broadcaster.dialects.openai_responses.provider_request import responses_tools
from broadcaster.errors import ProviderFailed
from broadcaster.testing import ScriptedProvider
from tests.worker.providers.provider_support import (
    CHAT,
    KEY,
    PROMPT,
    RESPONSES,
    Wire,
    collect,
    on_openai_wires,
    request_for,
    scripted,
    text_of,
)
from worker.providers.base import CallBounds, Provider
from worker.providers.transport import NO_KEY

VARIABLES = (
    *("OPENAI_API_KEY", "OPENAI_BASE_URL", "OPENAI_ORG_ID", "OPENAI_PROJECT_ID"),
    *("OPENAI_ADMIN_KEY", "OPENAI_CUSTOM_HEADERS"),
)


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without a set-up of the SDK."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


@asynccontextmanager
async def by_environment(
    on: Wire, monkeypatch: pytest.MonkeyPatch, **variables: str
) -> AsyncIterator[tuple[ScriptedProvider, Provider]]:
    """A scripted server in the place of the OpenAI API, named by the SDK's own variables."""
    async with ScriptedProvider() as server:
        for name, value in {"OPENAI_BASE_URL": server.openai_base_url, **variables}.items():
            monkeypatch.setenv(name, value)
        provider = on.provider(CallBounds(max_connections=1, read_timeout_s=5))
        try:
            yield server, provider
        finally:
            await provider.aclose()


@on_openai_wires
async def test_the_request_id_rides_in_the_first_event(on: Wire):
    async with scripted(on) as (_, provider):
        start = (await collect(provider, request_for("m")))[0]
    assert isinstance(start, ev.Start)
    assert start.provider_metadata is not None
    assert start.provider_metadata["openai"]["requestId"] == "req_scripted_1"


TOOLS = [{"name": "f", "description": "d", "input_schema": {"type": "object"}}]


async def test_the_body_of_a_chat_is_made_of_the_request():
    async with scripted(CHAT) as (server, provider):
        await collect(
            provider,
            request_for("m", system="Be brief.", temperature=0.3, tools=TOOLS, extra={"seed": 5, "stream": False}),
        )
        (request,) = server.requests
    assert request.path == "/v1/chat/completions"
    assert request.body == {
        "model": "m",
        "max_tokens": 64,
        "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": PROMPT}],
        "tools": [
            {"type": "function", "function": {"name": "f", "description": "d", "parameters": {"type": "object"}}}
        ],
        "stream": True,
        "stream_options": {"include_usage": True},
        "temperature": 0.3,
        "seed": 5,
    }


async def test_the_body_of_a_response_is_made_of_the_request():
    async with scripted(RESPONSES) as (server, provider):
        await collect(
            provider,
            request_for("m", system="Be brief.", temperature=0.3, tools=TOOLS, extra={"top_p": 0.5, "stream": False}),
        )
        (request,) = server.requests
    assert request.path == "/v1/responses"
    assert PROMPT in str(request.body.pop("input"))
    assert request.body == {
        "model": "m",
        "max_output_tokens": 64,
        "instructions": "Be brief.",
        "tools": responses_tools(TOOLS),
        "stream": True,
        "store": False,
        "temperature": 0.3,
        "top_p": 0.5,
    }


@on_openai_wires
async def test_address_and_key_come_from_the_environment_of_the_sdk(on: Wire, monkeypatch: pytest.MonkeyPatch):
    variables = {"OPENAI_API_KEY": "sk-from-env", "OPENAI_ORG_ID": "org-1", "OPENAI_CUSTOM_HEADERS": "X-Mine: yes"}
    async with by_environment(on, monkeypatch, **variables) as (server, provider):
        await collect(provider, request_for("m"))
        (request,) = server.requests
    assert request.headers["authorization"] == "Bearer sk-from-env"
    assert request.headers["openai-organization"] == "org-1"
    assert request.headers["x-mine"] == "yes"


@on_openai_wires
async def test_without_a_key_the_failure_names_the_variable(on: Wire, monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(ProviderFailed, match="OPENAI_API_KEY") as caught:
        async with by_environment(on, monkeypatch):
            raise AssertionError("it was made without a key")
    assert (caught.value.reason, caught.value.retryable) == ("provider_auth", False)


@on_openai_wires
async def test_a_key_that_only_administrates_is_none(on: Wire, monkeypatch: pytest.MonkeyPatch):
    async with by_environment(on, monkeypatch, OPENAI_ADMIN_KEY="sk-admin") as (server, provider):
        with pytest.raises(ProviderFailed, match="OPENAI_API_KEY") as caught:
            await collect(provider, request_for("m"))
        assert caught.value.reason == "provider_auth"
        assert server.requests == []


@on_openai_wires
async def test_an_invalid_base_url_is_reported(on: Wire, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("OPENAI_BASE_URL", "http://x:port")
    with pytest.raises(ProviderFailed, match="OPENAI_BASE_URL") as caught:
        on.provider(CallBounds(max_connections=1, read_timeout_s=1), api_key=KEY)
    assert caught.value.reason == "provider_unreachable"


@pytest.mark.parametrize("key", [None, "sk-of-that-server"])
@on_openai_wires
async def test_another_server_gets_nothing_of_the_environment(
    on: Wire, key: str | None, monkeypatch: pytest.MonkeyPatch
):
    secrets = {name: f"secret-{name.lower()}" for name in VARIABLES}
    secrets["OPENAI_CUSTOM_HEADERS"] = "Authorization: Bearer secret-gateway\nX-Gateway-Key: secret-header"
    for name, value in secrets.items():
        monkeypatch.setenv(name, value)
    async with scripted(on, api_key=key) as (server, provider):
        await collect(provider, request_for("m"))
        (request,) = server.requests
    assert request.headers["authorization"] == f"Bearer {key or NO_KEY}"
    assert "secret" not in str(request.headers)


@on_openai_wires
async def test_reasoning_and_tool_calls_come_apart_from_the_text(on: Wire):
    async with scripted(on) as (server, provider):
        conversation = server.conversation("m")
        reading = asyncio.create_task(collect(provider, request_for("m")))
        await conversation.send_reasoning("Let me ", "see.")
        await conversation.send_text("Sunny.")
        await conversation.send_tool("get_weather", '{"city":', '"Paris"}')
        await conversation.finish()
        events = await reading
    assert "".join(event.delta for event in events if isinstance(event, ev.ReasoningDelta)) == "Let me see."
    assert text_of(events) == "Sunny."
    (call,) = [event for event in events if isinstance(event, ev.ToolInputAvailable)]
    assert (call.tool_name, call.input) == ("get_weather", {"city": "Paris"})
    assert isinstance(last := events[-1], ev.Finish)
    assert last.finish_reason == "tool-calls"
