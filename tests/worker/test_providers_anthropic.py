"""The Anthropic provider: the real SDK against a scripted server, over real sockets."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from broadcaster.core import events as ev
from broadcaster.errors import ProviderFailed
from broadcaster.testing import Gate, Script, ScriptedProvider, Send, SendCut, Wait, wire
from tests.worker.provider_support import KEY, PROMPT, collect, provider_at, request_for, scripted, text_of
from worker.providers.anthropic import AnthropicProvider


@pytest.fixture
def no_credentials(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A machine on which nobody has set up the SDK."""
    for name in ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "ANTHROPIC_PROFILE", "ANTHROPIC_CONFIG_DIR"):
        monkeypatch.delenv(name, raising=False)
    for name in ("HOME", "XDG_CONFIG_HOME"):
        monkeypatch.setenv(name, str(tmp_path))


async def test_an_answer_streams_from_its_start_to_its_finish():
    async with scripted() as (server, provider):
        server.script("claude-x", Script.of_text("Hello ", "world"))
        events = await collect(provider, request_for("claude-x"))
    assert isinstance(events[0], ev.Start)
    assert isinstance(events[-1], ev.Finish)
    assert text_of(events) == "Hello world"


async def test_events_come_as_soon_as_the_provider_has_sent_them():
    async with scripted() as (server, provider), asyncio.timeout(5):
        conversation = server.conversation("claude-x")
        sending = asyncio.create_task(conversation.send_text("a"))
        async with provider.stream(request_for("claude-x")) as stream:
            await sending
            seen: list[ev.Event] = []
            while text_of(seen) != "a":
                seen += await anext(stream)
            await conversation.send_text("b")
            while text_of(seen) != "ab":
                seen += await anext(stream)
            await conversation.finish()
            async for events in stream:
                seen += events
        assert isinstance(seen[-1], ev.Finish)


async def test_the_request_id_rides_in_the_first_event():
    async with scripted() as (_, provider):
        start = (await collect(provider, request_for("claude-x")))[0]
    assert isinstance(start, ev.Start)
    assert start.provider_metadata is not None
    assert start.provider_metadata["anthropic"]["requestId"] == "req_scripted_1"


async def test_the_body_is_what_the_request_says_and_nothing_replaces_its_own_fields():
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


async def test_what_a_request_leaves_out_is_left_out():
    async with scripted() as (server, provider):
        await collect(provider, request_for("claude-x"))
        assert set(server.requests[0].body) == {"model", "max_tokens", "messages", "stream"}


async def test_the_key_goes_in_the_header_alone():
    async with scripted() as (server, provider):
        await collect(provider, request_for("claude-x"))
        (request,) = server.requests
    assert KEY in request.headers["authorization"]
    assert KEY.encode() not in request.raw_body


async def test_address_and_key_come_from_the_environment_of_the_sdk(monkeypatch: pytest.MonkeyPatch):
    async with scripted() as (server, _):
        monkeypatch.setenv("ANTHROPIC_BASE_URL", server.base_url)
        monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-from-env")
        provider = AnthropicProvider(max_connections=1, read_timeout_s=5)
        await collect(provider, request_for("claude-x"))
        await provider.aclose()
        assert server.requests[0].headers["authorization"] == "Bearer sk-from-env"


@asynccontextmanager
async def by_environment(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[tuple[ScriptedProvider, AnthropicProvider]]:
    """A scripted server in the place of the Claude API, as far as the SDK's own variables say."""
    async with ScriptedProvider() as server:
        monkeypatch.setenv("ANTHROPIC_BASE_URL", server.base_url)
        provider = AnthropicProvider(max_connections=1, read_timeout_s=5)
        yield server, provider
        await provider.aclose()


@pytest.mark.usefixtures("no_credentials")
async def test_without_a_key_the_failure_names_the_variable(monkeypatch: pytest.MonkeyPatch):
    async with by_environment(monkeypatch) as (server, provider):
        with pytest.raises(ProviderFailed, match="ANTHROPIC_API_KEY") as caught:
            await collect(provider, request_for("claude-x"))
        assert (caught.value.reason, caught.value.retryable) == ("provider_auth", False)
        assert server.requests == []


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


async def test_a_base_url_that_is_none_says_so(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("ANTHROPIC_BASE_URL", "http://x:port")
    with pytest.raises(ProviderFailed, match="ANTHROPIC_BASE_URL") as caught:
        AnthropicProvider(max_connections=1, read_timeout_s=1, api_key=KEY)
    assert caught.value.reason == "provider_unreachable"


async def test_fifty_answers_at_once_each_get_their_own_words():
    gate = Gate()
    async with scripted(max_connections=50) as (server, provider):
        for number in range(50):
            half, rest = (
                wire.message(wire.text(f"answer {number} ", "whole"))[part] for part in (slice(3), slice(3, None))
            )
            server.script(f"m{number}", Script(Send(*half), Wait(gate), Send(*rest)))
        tasks = [asyncio.create_task(collect(provider, request_for(f"m{number}"))) for number in range(50)]
        # All are open at the same time before any may end: none waits for another's connection.
        await server.wait_requests(50)
        gate.open()
        texts = [text_of(events) for events in await asyncio.gather(*tasks)]
    assert texts == [f"answer {number} whole" for number in range(50)]


async def test_more_answers_than_connections_fail_soon_instead_of_waiting_for_ever(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("worker.providers.transport.CONNECT_TIMEOUT_S", 0.05)
    async with scripted(max_connections=1) as (server, provider):
        server.conversation("claude-x")
        async with asyncio.TaskGroup() as group:
            holding = group.create_task(collect(provider, request_for("claude-x")))
            await server.wait_requests(1)
            with pytest.raises(ProviderFailed) as caught:
                await collect(provider, request_for("claude-x"))
            holding.cancel()
    assert (caught.value.reason, caught.value.retryable) == ("provider_unreachable", True)


async def test_a_connection_serves_one_whole_answer_after_another():
    async with scripted() as (server, provider):
        for _ in range(3):
            await collect(provider, request_for("claude-x"))
        assert [request.connection for request in server.requests] == [1, 1, 1]


async def test_an_answer_is_over_at_its_terminal_event_even_if_the_body_never_ends():
    gate = Gate()
    async with scripted() as (server, provider):
        server.script("claude-x", Script(Send(*wire.message(wire.text("all"))), Wait(gate)))
        async with asyncio.timeout(2):
            assert text_of(await collect(provider, request_for("claude-x"))) == "all"
        assert await server.requests[0].wait_disconnected()


async def test_bytes_cut_anywhere_give_the_same_answer():
    raw = b"".join(map(wire.frame, wire.message(wire.text("é🌊", "日本"), wire.tool_use("f", '{"x": "é"}'))))
    async with scripted() as (server, provider):
        server.script("whole", Script(SendCut(raw, [])))
        server.script("cut", Script(SendCut(raw, range(1, len(raw), 7))))
        whole, cut = [await collect(provider, request_for(model)) for model in ("whole", "cut")]
    assert whole[1:] == cut[1:]  # the first event has the request id


async def test_a_closed_provider_can_be_closed_again():
    async with provider_at("http://127.0.0.1:9") as provider:
        await provider.aclose()
