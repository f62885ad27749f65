"""The Anthropic provider: the real SDK against a scripted server, over real sockets."""

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from broadcaster.core import events as ev
from broadcaster.core.requests.passed_headers import with_headers
from broadcaster.dialects.openai_chat.request import parse_chat_request
from broadcaster.dialects.openai_responses.request import parse_responses_request
from broadcaster.errors import ProviderFailed
from broadcaster.log.streams.reader import Meta
from broadcaster.testing import ScriptedProvider
from tests.worker.providers.provider_support import KEY, PROMPT, collect, failing, request_for, scripted
from worker.attempt import provider_request
from worker.providers.anthropic import AnthropicProvider
from worker.providers.base import CallBounds, ProviderRequest
from worker.providers.transport import NO_KEY

Json = dict[str, Any]


@pytest.fixture
def no_credentials(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A machine without a set-up of the SDK."""
    for name in ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "ANTHROPIC_PROFILE", "ANTHROPIC_CONFIG_DIR"):
        monkeypatch.delenv(name, raising=False)
    for name in ("HOME", "XDG_CONFIG_HOME"):
        monkeypatch.setenv(name, str(tmp_path))


def request_of(stored: Json) -> ProviderRequest:
    """What the provider receives of a stored request."""
    hash = {b"model": b"claude-x", b"request": json.dumps(stored).encode()}
    return provider_request(Meta.from_hash("gen_1", hash))


async def test_the_request_id_rides_in_the_first_event():
    async with scripted() as (_, provider):
        start = (await collect(provider, request_for("claude-x")))[0]
    assert isinstance(start, ev.Start)
    assert start.provider_metadata is not None
    assert start.provider_metadata["anthropic"]["requestId"] == "req_scripted_1"


async def test_the_body_is_made_of_the_request_and_nothing_replaces_its_own_fields():
    tools = [{"name": "f", "input_schema": {"type": "object"}}]
    extra = {"top_k": 5, "stop_sequences": ["#"], "stream": False, "model": "other", "temperature": 1.0}
    async with scripted() as (server, provider):
        await collect(provider, request_for("claude-x", system="Be brief.", temperature=0.3, tools=tools, extra=extra))
        (request,) = server.requests
    assert request.body == {
        "model": "claude-x",
        "max_tokens": 64,
        "messages": [{"role": "user", "content": PROMPT}],
        "system": "Be brief.",
        "tools": tools,
        "stream": True,
        "temperature": 0.3,
        "top_k": 5,
        "stop_sequences": ["#"],
    }


async def test_the_callers_version_and_betas_are_sent_and_no_other_header_that_is_stored():
    stored = with_headers(
        {"messages": [], "max_tokens": 9}, {"anthropic-version": "2024-01-01", "anthropic-beta": "a,b"}
    )
    stored["surface"]["headers"] |= {"authorization": "Bearer x", "x-other": "y"}
    async with scripted() as (server, provider):
        await collect(provider, request_of(stored))
        (request,) = server.requests
    assert (request.headers["anthropic-version"], request.headers["anthropic-beta"]) == ("2024-01-01", "a,b")
    assert request.headers["authorization"] == f"Bearer {KEY}"
    assert "x-other" not in request.headers
    assert "surface" not in request.body


async def test_a_field_that_only_openai_knows_is_not_sent():
    own = {"openai": {"detail": "low"}}
    message = {"role": "user", "content": [{"type": "text", "text": "Hi", **own}], "openai": {"name": "ada"}}
    tools = [{"name": "f", "input_schema": {"type": "object"}, "openai": {"type": "custom"}}]
    extra = {"openai": {"seed": 7, "response_format": {"type": "text"}}, "stop_sequences": ["#"]}
    async with scripted() as (server, provider):
        await collect(provider, request_for("claude-x", messages=[message], tools=tools, extra=extra))
        (request,) = server.requests
    assert request.body == {
        "model": "claude-x",
        "max_tokens": 64,
        "messages": [{"role": "user", "content": [{"type": "text", "text": "Hi"}]}],
        "tools": [{"name": "f", "input_schema": {"type": "object"}}],
        "stream": True,
        "stop_sequences": ["#"],
    }


OBJECT: Json = {"type": "object", "properties": {}}
CHAT_TOOLS = [{"type": "function", "function": {"name": name, "parameters": OBJECT}} for name in ("read", "write")]
RESPONSES_TOOLS = [{"type": "function", "name": name, "parameters": OBJECT} for name in ("read", "write")]


def of_chat(mode: str, name: str) -> Json:
    """A stored chat completion that allows one tool of two."""
    allowed = {"mode": mode, "tools": [{"type": "function", "function": {"name": name}}]}
    choice = {"type": "allowed_tools", "allowed_tools": allowed}
    messages = [{"role": "user", "content": PROMPT}]
    body = {"model": "claude-x", "messages": messages, "tools": CHAT_TOOLS, "tool_choice": choice}
    return parse_chat_request(body, max_tokens=9).request


def of_responses(mode: str, name: str) -> Json:
    """The same as a Response."""
    choice = {"type": "allowed_tools", "mode": mode, "tools": [{"type": "function", "name": name}]}
    body = {"model": "claude-x", "input": PROMPT, "tools": RESPONSES_TOOLS, "tool_choice": choice}
    return parse_responses_request(body).stored(max_tokens=9, model="claude-x")


@pytest.mark.parametrize("of_surface", [of_chat, of_responses])
@pytest.mark.parametrize(("mode", "choice"), [("auto", "auto"), ("required", "any")])
async def test_of_the_tools_of_openais_apis_only_those_are_sent_that_the_choice_allows(
    of_surface: Callable[[str, str], Json], mode: str, choice: str
):
    async with scripted() as (server, provider):
        await collect(provider, request_of(of_surface(mode, "read")))
        (request,) = server.requests
    assert [tool["name"] for tool in request.body["tools"]] == ["read"]
    assert request.body["tool_choice"] == {"type": choice}


async def test_a_choice_that_allows_none_of_the_tools_is_refused():
    async with scripted() as (server, provider):
        failure, _ = await failing(provider, request_of(of_chat("auto", "delete")))
    assert (failure.reason, server.requests) == ("provider_bad_request", [])


@pytest.mark.parametrize(
    "choice", [{"tool_choice": "auto"}, {"tool_choice": "none"}, {"parallel_tool_calls": False}], ids=str
)
async def test_a_choice_is_left_out_with_the_search_that_was_all_that_a_request_offered(choice: Json):
    body = {"model": "claude-x", "input": PROMPT, "tools": [{"type": "web_search"}], **choice}
    stored = parse_responses_request(body).stored(max_tokens=9, model="claude-x")
    async with scripted() as (server, provider):
        await collect(provider, request_of(stored))
        (request,) = server.requests
    assert request.body.keys() == {"model", "max_tokens", "messages", "stream"}


async def test_a_model_that_is_not_claude_gets_the_ids_of_its_calls_as_they_came():
    call = {"type": "tool_use", "id": "functions.read:0", "name": "read", "input": {}}
    messages = [{"role": "user", "content": PROMPT}, {"role": "assistant", "content": [call]}]
    async with scripted() as (server, provider):
        for model in ("kimi-k2", "anthropic.Claude-x"):
            await collect(provider, request_for(model, messages=messages))
        sent = [request.body["messages"][1]["content"][0]["id"] for request in server.requests]
    assert sent[0] == "functions.read:0"
    assert ":" not in sent[1]


async def test_an_answer_that_this_api_cannot_give_is_not_requested():
    async with scripted() as (server, provider):
        with pytest.raises(ProviderFailed, match="logprobs") as caught:
            await collect(provider, request_for("claude-x", extra={"openai": {"logprobs": True}}))
        assert server.requests == []
    assert (caught.value.reason, caught.value.retryable) == ("provider_bad_request", False)


async def test_a_field_that_a_request_leaves_out_is_left_out():
    async with scripted() as (server, provider):
        await collect(provider, request_for("claude-x"))
        assert set(server.requests[0].body) == {"model", "max_tokens", "messages", "stream"}


async def test_address_and_key_come_from_the_environment_of_the_sdk(monkeypatch: pytest.MonkeyPatch):
    async with scripted() as (server, _):
        monkeypatch.setenv("ANTHROPIC_BASE_URL", server.base_url)
        monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-from-env")
        provider = AnthropicProvider(CallBounds(max_connections=1, read_timeout_s=5))
        await collect(provider, request_for("claude-x"))
        await provider.aclose()
        assert server.requests[0].headers["authorization"] == "Bearer sk-from-env"


@asynccontextmanager
async def by_environment(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[tuple[ScriptedProvider, AnthropicProvider]]:
    """A scripted server in the place of the Claude API, named by the SDK's own variables."""
    async with ScriptedProvider() as server:
        monkeypatch.setenv("ANTHROPIC_BASE_URL", server.base_url)
        provider = AnthropicProvider(CallBounds(max_connections=1, read_timeout_s=5))
        yield server, provider
        await provider.aclose()


@pytest.mark.usefixtures("no_credentials")
async def test_without_a_key_the_failure_names_the_variable(monkeypatch: pytest.MonkeyPatch):
    async with by_environment(monkeypatch) as (server, provider):
        with pytest.raises(ProviderFailed, match="ANTHROPIC_API_KEY") as caught:
            await collect(provider, request_for("claude-x"))
        assert (caught.value.reason, caught.value.retryable) == ("provider_auth", False)
        assert server.requests == []


async def test_a_connection_serves_one_whole_answer_after_another(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)
    async with by_environment(monkeypatch) as (server, provider):
        for _ in range(3):
            await collect(provider, request_for("claude-x"))
        assert [request.connection for request in server.requests] == [1, 1, 1]


@pytest.mark.usefixtures("no_credentials")
async def test_a_header_of_the_operator_is_a_credential_too(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("ANTHROPIC_CUSTOM_HEADERS", "X-Api-Key: of-a-gateway")
    async with by_environment(monkeypatch) as (server, provider):
        await collect(provider, request_for("claude-x"))
        assert server.requests[0].headers["x-api-key"] == "of-a-gateway"


@pytest.mark.usefixtures("no_credentials")
async def test_a_broken_credentials_profile_is_an_auth_failure(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("ANTHROPIC_PROFILE", "not-there")
    with pytest.raises(ProviderFailed) as caught:
        async with by_environment(monkeypatch) as (_, provider):
            await collect(provider, request_for("claude-x"))
    assert caught.value.reason == "provider_auth"


async def test_an_invalid_base_url_is_reported(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("ANTHROPIC_BASE_URL", "http://x:port")
    with pytest.raises(ProviderFailed, match="ANTHROPIC_BASE_URL") as caught:
        AnthropicProvider(CallBounds(max_connections=1, read_timeout_s=1), api_key=KEY)
    assert caught.value.reason == "provider_unreachable"


@pytest.mark.parametrize("key", [None, "sk-of-that-server"])
async def test_another_server_gets_nothing_of_the_environment(key: str | None, monkeypatch: pytest.MonkeyPatch):
    for name in ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN"):
        monkeypatch.setenv(name, f"secret-{name.lower()}")
    monkeypatch.setenv("ANTHROPIC_CUSTOM_HEADERS", "Authorization: Bearer secret-gateway\nX-Api-Key: secret-header")
    async with scripted(api_key=key) as (server, provider):
        await collect(provider, request_for("claude-x"))
        (request,) = server.requests
    assert request.headers["authorization"] == f"Bearer {key or NO_KEY}"
    assert "secret" not in str(request.headers)
