"""One generation on each provider wire, from the request to its folded answer, and set-ups that are refused."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from typing import Any

import anthropic
import openai
import pytest

from broadcaster.client import AsyncClient
from broadcaster.testing import Answer, Script, ScriptedProvider
from broadcaster.testing.calls import count_of
from tests.support.servers.processes import Stack

MODEL = "gpt-scripted"
WIRES = [
    ("anthropic", "/v1/messages", "anthropic"),
    ("openai", "/v1/chat/completions", "openai"),
    ("openai-responses", "/v1/responses", "openai"),
]
on_every_wire = pytest.mark.parametrize(("provider", "path", "key"), WIRES, ids=[wire[0] for wire in WIRES])


@pytest.fixture
def openai_stack(stack: Stack, scripted: ScriptedProvider) -> Stack:
    """The stack of the end-to-end tests, with an OpenAI API that is the scripted provider too."""
    variables = {"OPENAI_BASE_URL": scripted.openai_base_url, "OPENAI_API_KEY": "openai-test-key"}
    return replace(stack, environment={**stack.environment, **variables})


async def started(stack: Stack, **settings: Any) -> str:
    """A worker and a front-end with these settings (JSON where they are dicts); the front-end's URL."""
    given_settings = {name: json.dumps(value) for name, value in settings.items()}
    await stack.worker(**given_settings)
    return (await stack.front_end(**given_settings)).url


@on_every_wire
async def test_reasoning_text_and_a_tool_call_come_out_as_what_they_are_on_every_wire(
    openai_stack: Stack, scripted: ScriptedProvider, *, provider: str, path: str, key: str
) -> None:
    url = await started(openai_stack, routes={"gpt-*": provider, "claude*": "anthropic"})
    conversation = scripted.conversation(MODEL)
    async with AsyncClient(url) as client:
        generation = await client.start("How is the weather?", model=MODEL)
        await conversation.send_reasoning("Let me ", "see.")
        await conversation.send_text("I will ")
        await conversation.send_text("look.")
        await conversation.send_tool("get_weather", '{"city":', '"Paris"}')
        await conversation.finish()
        final = await client.get(generation.id, wait_s=10)
    assert (await conversation.request()).path == path
    assert (final.status, final.text, final.reasoning) == ("finished", "I will look.", "Let me see.")
    assert [part["type"] for part in final.parts] == ["step-start", "reasoning", "text", "tool"]
    call = final.parts[-1]
    assert (call["toolName"], call["state"], call["input"]) == ("get_weather", "input-available", {"city": "Paris"})
    assert final.usage is not None
    assert (final.usage["inputTokens"], final.usage["outputTokens"]) == (25, 2)
    assert not final.usage.get("estimated")
    assert set(final.usage["providerMetadata"]) == {key}


@pytest.mark.parametrize("provider", ["openai", "openai-responses"])
async def test_a_refusal_is_text_marked_as_a_refusal(
    openai_stack: Stack, scripted: ScriptedProvider, provider: str
) -> None:
    url = await started(openai_stack, routes={"gpt-*": provider, "claude*": "anthropic"})
    conversation = scripted.conversation(MODEL)
    async with AsyncClient(url) as client:
        generation = await client.start("Something bad, please.", model=MODEL)
        await conversation.send_refusal("I cannot ", "do that.")
        await conversation.finish()
        final = await client.get(generation.id, wait_s=10)
    assert (final.status, final.text) == ("finished", "I cannot do that.")
    (part,) = [part for part in final.parts if part["type"] == "text"]
    assert part["providerMetadata"]["openai"]["refusal"] is True


async def test_a_gpt_model_goes_to_openai_without_any_setting(openai_stack: Stack, scripted: ScriptedProvider) -> None:
    url = await started(openai_stack)
    async with AsyncClient(url) as client:
        final = await client.get((await client.start("hi", model=MODEL)).id, wait_s=10)
    assert (final.status, final.text) == ("finished", "Hello world.")
    (request,) = scripted.requests
    assert request.headers["authorization"] == "Bearer openai-test-key"


async def test_a_server_of_the_operators_own_gets_its_own_key_and_no_other(
    openai_stack: Stack, scripted: ScriptedProvider
) -> None:
    own = replace(openai_stack, environment={**openai_stack.environment, "VLLM_KEY": "vllm-test-key"})
    url = await started(
        own,
        providers={
            "vllm": {"wire": "openai", "base_url": scripted.openai_base_url, "api_key_env": "VLLM_KEY"},
            "open": {"wire": "openai-responses", "base_url": scripted.openai_base_url},
        },
        routes={"qwen*": "vllm", "olmo*": "open", "claude*": "anthropic"},
    )
    async with AsyncClient(url) as client:
        for model in ("qwen3", "olmo-3"):
            final = await client.get((await client.start("hi", model=model)).id, wait_s=10)
            assert (final.status, final.text) == ("finished", "Hello world.")
    assert [request.path for request in scripted.requests] == ["/v1/chat/completions", "/v1/responses"]
    keys = [request.headers["authorization"] for request in scripted.requests]
    assert keys == ["Bearer vllm-test-key", "Bearer no-key"]


async def test_a_key_that_is_missing_costs_its_models_and_not_the_worker(
    stack: Stack, scripted: ScriptedProvider
) -> None:
    worker = await stack.worker()
    front_end = await stack.front_end()
    async with AsyncClient(front_end.url) as client:
        final = await client.get((await client.start("hi", model=MODEL)).id, wait_s=10)
        assert final.status == "failed"
        assert final.error is not None
        assert final.error.code == "provider_auth"
        assert "OPENAI_API_KEY" in final.error.message
        other = await client.get((await client.start("hi")).id, wait_s=10)
    assert other.status == "finished"
    assert worker.process.returncode is None


async def test_a_failing_openai_ends_the_generation_with_its_reason(
    openai_stack: Stack, scripted: ScriptedProvider
) -> None:
    url = await started(openai_stack)
    scripted.script(MODEL, Script(Answer(429, headers={"retry-after": "60"})))
    async with AsyncClient(url) as client:
        final = await client.get((await client.start("hi", model=MODEL)).id, wait_s=10)
    assert final.error is not None
    assert (final.status, final.error.code) == ("failed", "provider_rate_limited")


@pytest.mark.parametrize("provider", ["openai", "openai-responses"])
async def test_a_stop_reaches_openai_in_under_100_ms(
    openai_stack: Stack, scripted: ScriptedProvider, provider: str
) -> None:
    url = await started(openai_stack, routes={"gpt-*": provider, "claude*": "anthropic"})
    took_ms: list[float] = []
    async with AsyncClient(url) as client:
        for _ in range(5):
            conversation = scripted.conversation(MODEL)
            generation = await client.start("hi", model=MODEL)
            await conversation.send_text("half an ans")
            async with asyncio.timeout(20):
                while (await client.get(generation.id)).text != "half an ans":
                    await asyncio.sleep(0.01)
            request = await conversation.request()
            began = asyncio.get_running_loop().time()
            await client.stop(generation.id)
            took_ms.append((await request.wait_disconnected(5) - began) * 1000)
            assert (await client.get(generation.id, wait_s=5)).status == "aborted"
    took_ms.sort()
    print(f"stop → provider closed: p50 {took_ms[2]:.1f} ms, max {took_ms[-1]:.1f} ms")
    # Without its message a stop takes half a second; one that the machine delays proves nothing about the path.
    assert took_ms[2] < 100


@pytest.mark.parametrize("command", [("worker",), ("broadcaster", "serve"), ("broadcaster", "up", "--port", "0")])
async def test_a_route_that_leads_nowhere_is_refused_in_one_line_by_every_process(
    stack: Stack, command: tuple[str, ...]
) -> None:
    refused = {
        "BROADCASTER_ROUTES": '{"gpt-*": "nobody", "*": "local"}',
        "BROADCASTER_PROVIDERS": '{"mine": {"wire": "openai", "base_url": "http://127.0.0.1:9/v1"}}',
        "BROADCASTER_DATA_DIR": str(stack.folder / "data"),
    }
    process = await stack.start(*command, environment=refused)
    assert await asyncio.wait_for(process.process.wait(), 20) == 2
    logged = process.log.read_text()
    assert logged.startswith("error: ")
    assert logged.count("\n") == 1
    known = "anthropic, openai, openai-responses, local, mine"
    assert f"BROADCASTER_ROUTES: routes name unknown providers: nobody; there are: {known}" in logged


@on_every_wire
async def test_a_stream_that_the_provider_refuses_raises_what_the_provider_answered(
    openai_stack: Stack, scripted: ScriptedProvider, *, provider: str, path: str, key: str
) -> None:
    url = await started(openai_stack, routes={"gpt-*": provider, "claude*": "anthropic"}, provider_retries=0)
    scripted.script(MODEL, Script(Answer(429, headers={"retry-after": "0"}, message="slow down, please")))
    call_body: Any = {"model": MODEL, "messages": [{"role": "user", "content": "Hi"}], "stream": True}
    async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="any", max_retries=1) as sdk:
        with pytest.raises(openai.RateLimitError, match="slow down, please") as caught:
            await sdk.chat.completions.create(**call_body)
    assert caught.value.response.headers["retry-after"] == "0"
    assert len(scripted.requests) == 2  # the SDK has retried
    assert not any("max" in name for name in scripted.requests[0].body if provider != "anthropic")


async def test_calls_that_only_a_provider_can_answer_reach_it_from_both_sdks(
    openai_stack: Stack, scripted: ScriptedProvider
) -> None:
    url = await started(openai_stack, routes={"gpt-*": "openai", "resp-*": "openai-responses", "claude*": "anthropic"})
    scripted.script("gpt-bad", Script(Answer(400, message="no such dimensions")))
    scripted.script("gpt-scripted", Script.of_text("Hel", "lo"))
    given: dict[str, Any] = {"api_key": "none", "max_retries": 0}
    async with (
        openai.AsyncOpenAI(base_url=f"{url}/v1", **given) as ours,
        openai.AsyncOpenAI(base_url=scripted.openai_base_url, **given) as theirs,
        anthropic.AsyncAnthropic(base_url=url, **given) as claude,
    ):
        vectors = [await each.embeddings.create(model="gpt-e", input=["a", "line"]) for each in (ours, theirs)]
        assert vectors[0] == vectors[1]
        assert scripted.requests[0].body["encoding_format"] == "base64"
        with pytest.raises(openai.BadRequestError, match="no such dimensions"):
            await ours.embeddings.create(model="gpt-bad", input="a")
        stream = await ours.completions.create(model=MODEL, prompt="Hi", stream=True)
        assert "".join([chunk.choices[0].text async for chunk in stream if chunk.choices]) == "Hello"
        whole = await ours.completions.create(model=MODEL, prompt="Hi")
        assert (whole.choices[0].text, whole.object) == ("Hello", "text_completion")
        counted = await ours.responses.input_tokens.count(model="resp-x", input="How many?")
        assert counted.input_tokens == count_of("How many?")
        messages: Any = [{"role": "user", "content": "How many?"}]
        expected = count_of([None, messages, None])
        assert (await claude.messages.count_tokens(model="claude-x", messages=messages)).input_tokens == expected
        beta = await claude.beta.messages.count_tokens(model="claude-x", messages=messages, betas=["a-beta"])
        assert beta.input_tokens == expected
        assert scripted.requests[-1].headers["anthropic-beta"].startswith("a-beta")
        estimate = await claude.messages.with_raw_response.count_tokens(model="gpt-x", messages=messages)
        assert estimate.headers["broadcaster-estimated"] == "input_tokens"
    async with AsyncClient(url) as client:
        assert list(await client.list()) == []
