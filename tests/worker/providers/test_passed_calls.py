"""Calls that a worker passes to a provider as they came: one request, and the response's own bytes as events."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from broadcaster.core import events as ev
from broadcaster.core.providers.model_routing import ModelRoutes, ModelTarget
from broadcaster.core.providers.request_ids import id_in
from broadcaster.core.requests.passed_calls import (
    BUILT_IN_CALLS,
    COMPLETIONS,
    COUNT_TOKENS,
    EMBEDDINGS,
    INPUT_TOKENS,
    provider_calls,
)
from broadcaster.dialects.passed.decode import CARRIED_TYPE, BodyDecoder
from broadcaster.errors import ProviderFailed
from broadcaster.settings.values import ProviderSpec
from broadcaster.testing import Answer, Cut, Gate, Headers, Script, ScriptedProvider, SendRaw, Wait, completion_wire
from broadcaster.testing.http1 import RecordedRequest
from tests.worker.providers.provider_support import ANTHROPIC, CHAT, KEY, RESPONSES, Wire, collect, failing, scripted
from worker.providers.base import CallBounds, ProviderRequest
from worker.providers.registry import Providers, default_factories

MODEL = "model-of-the-provider"
INPUT = ["a log", "a line"]
CALLS: list[tuple[str, Wire, dict[str, Any]]] = [
    (EMBEDDINGS, CHAT, {"input": INPUT, "encoding_format": "base64", "strange": {"of": ["its", "own"]}}),
    (EMBEDDINGS, RESPONSES, {"input": INPUT}),
    (COMPLETIONS, CHAT, {"prompt": "A log is", "best_of": 1}),
    (COUNT_TOKENS, ANTHROPIC, {"messages": [{"role": "user", "content": "Hi"}], "system": "be brief"}),
    (INPUT_TOKENS, RESPONSES, {"input": "Hi", "instructions": "be brief"}),
]
on_every_call = pytest.mark.parametrize(("call", "on", "body"), CALLS, ids=[f"{call} {on}" for call, on, _ in CALLS])


def request_of(call: str, body: dict[str, Any], **fields: Any) -> ProviderRequest:
    expected = {"model": "the caller's name of it", **body}
    return ProviderRequest(model=MODEL, messages=(), extra=expected, call=call, **fields)


def carried(events: list[ev.Event]) -> str:
    return "".join(event.data for event in events if isinstance(event, ev.DataEvent) and event.type == CARRIED_TYPE)


def sent(server: ScriptedProvider) -> RecordedRequest:
    (request,) = server.requests
    return request


@on_every_call
async def test_a_call_reaches_the_provider_unchanged_in_one_request_and_its_response_is_carried_unchanged(
    call: str, on: Wire, body: dict[str, Any]
) -> None:
    async with scripted(on) as (server, provider):
        raw = b'{ "object" : "odd \\u00e9", "usage":{"prompt_tokens":7,"total_tokens":7},\n "x":[1.10,2e3] }'
        server.script(MODEL, Script(Answer(200, body=raw, headers={"content-type": "application/json; charset=utf-8"})))
        events = await collect(provider, request_of(call, body))
    assert sent(server).path == f"/v1/{call}"
    assert sent(server).body == {**body, "model": MODEL}
    assert sent(server).headers["accept-encoding"] == "identity"
    assert carried(events) == raw.decode()
    assert isinstance(events[-1], ev.Finish)
    assert isinstance(events[0], ev.Start)
    assert id_in(events[0].provider_metadata) == "req_scripted_1"
    assert ev.Usage(input_tokens=7) in events


async def test_the_headers_of_a_count_reach_the_messages_wire_and_the_key_of_the_call_wins() -> None:
    async with scripted(ANTHROPIC) as (server, provider):
        headers = {"anthropic-version": "2023-06-01", "anthropic-beta": "one,two"}
        body = {"messages": [{"role": "user", "content": "Hi"}]}
        await collect(provider, request_of(COUNT_TOKENS, body, headers=headers, api_key="another-key"))
    assert {name: sent(server).headers[name] for name in headers} == headers
    assert sent(server).headers["authorization"] == "Bearer another-key"


async def test_the_data_of_a_stream_is_carried_unchanged_to_its_done() -> None:
    frames = [
        b'data: {"id":"cmpl-1","choices":[{"index":0,"text":"Hel","logprobs":{"x":-0.10}}]}\n\n',
        b": a comment\n\n",
        b'data: {"choices": [{"index":0,"text":"lo"}],"usage":{"prompt_tokens":3,"completion_tokens":2}}\n\n',
        b"data: [DONE]\n\n",
    ]
    async with scripted(CHAT) as (server, provider):
        server.script(MODEL, Script(SendRaw(b"".join(frames))))
        events = await collect(provider, request_of(COMPLETIONS, {"prompt": "Hi", "stream": True}))
    pieces = [event.data for event in events if isinstance(event, ev.DataEvent)]
    assert [f"data: {piece}\n\n".encode() for piece in pieces] == [frames[0], frames[2]]
    assert events[-2:] == [ev.Usage(input_tokens=3, output_tokens=2), ev.Finish()]


@pytest.mark.parametrize("body", [b"[1]", b'"x"', b"null", b'{"a":"\\ud83d"}', b'{"usage":1e400}', b'{"a":NaN}'])
def test_a_whole_body_that_is_no_valid_object_is_bad_data_and_not_retried(body: bytes) -> None:
    decoder = BodyDecoder(max_bytes=100)
    assert decoder.decode(body) == []
    with pytest.raises(ProviderFailed) as caught:
        decoder.flush()
    assert (caught.value.reason, caught.value.retryable) == ("provider_bad_data", False)


@pytest.mark.parametrize("body", [b"", b'{"a":', b'{"a":"\xc3'])
def test_a_body_that_is_cut_may_be_retried(body: bytes) -> None:
    decoder = BodyDecoder(max_bytes=100)
    assert decoder.decode(body) == decoder.flush() == []
    assert not decoder.terminal_seen


async def test_a_stream_that_ends_without_done_fails_and_its_output_is_estimated() -> None:
    async with scripted(CHAT) as (server, provider):
        server.script(MODEL, Script(SendRaw(b'data: {"choices":[{"index":0,"text":"four four"}]}\n\n')))
        async with provider.stream(request_of(COMPLETIONS, {"prompt": "Hi", "stream": True})) as stream:
            with pytest.raises(ProviderFailed) as caught:
                _ = [batch async for batch in stream]
            assert stream.usage_so_far() == ev.Usage(output_tokens=3, estimated=True)
    assert caught.value.reason == "provider_truncated"


async def test_an_error_within_a_stream_fails_the_call() -> None:
    async with scripted(CHAT) as (server, provider):
        events = [*completion_wire.Composer().text("a"), *completion_wire.Composer().fail("rate_limit_error", "slow")]
        raw = b"".join(b"data: " + json.dumps(event).encode() + b"\n\n" for event in events)
        server.script(MODEL, Script(SendRaw(raw)))
        failure, came = await failing(provider, request_of(COMPLETIONS, {"prompt": "Hi", "stream": True}))
    assert failure.reason == "provider_rate_limited"
    assert [type(event) for event in came] == [ev.Start, ev.DataEvent]


BROKEN = {
    "a body that is cut within its JSON": Script(
        Headers({"content-type": "application/json"}), SendRaw(b'{"a":'), Cut()
    ),
    "a body that ends within its JSON": Script(Answer(200, body=b'{"object":"list","data":[', headers={})),
    "a page": Script(Answer(200, body=b"<html>", headers={"content-type": "text/html"})),
    "a coded body": Script(Answer(200, body=b"{}", headers={"content-encoding": "gzip"})),
    "a body that is no text": Script(Answer(200, body=b'{"a":"\xff"}', headers={})),
}


@pytest.mark.parametrize("script", BROKEN.values(), ids=BROKEN.keys())
async def test_a_response_that_is_not_whole_fails_so_that_it_can_be_repeated_and_carries_nothing(
    script: Script,
) -> None:
    async with scripted(CHAT) as (server, provider):
        server.script(MODEL, script)
        failure, came = await failing(provider, request_of(EMBEDDINGS, {"input": INPUT}))
    assert failure.retryable
    assert came == []


async def test_a_response_beyond_its_bound_fails_and_names_the_setting() -> None:
    async with scripted(CHAT, answer_bytes=100) as (server, provider):
        server.script(MODEL, Script(Answer(200, body={"data": "x" * 100})))
        failure, came = await failing(provider, request_of(EMBEDDINGS, {"input": INPUT}))
    assert not failure.retryable
    assert "BROADCASTER_MAX_BYTES" in str(failure)
    assert came == []


@on_every_call
async def test_a_refusal_keeps_its_status_and_message_without_the_key(
    call: str, on: Wire, body: dict[str, Any]
) -> None:
    async with scripted(on) as (server, provider):
        server.script(MODEL, Script(Answer(429, headers={"retry-after": "3"}, message=f"too many for {KEY} today")))
        failure, _ = await failing(provider, request_of(call, body))
    assert failure.refusal is not None
    assert (failure.refusal.status, failure.refusal.message) == (429, "too many for [redacted] today")
    assert (failure.retry_after_s, failure.retryable) == (3.0, True)


async def test_leaving_a_call_closes_its_connection() -> None:
    async with scripted(CHAT) as (server, provider):
        gate = Gate()
        server.script(MODEL, Script(Wait(gate)))
        running = asyncio.create_task(collect(provider, request_of(EMBEDDINGS, {"input": INPUT})))
        await gate.wait_reached()
        running.cancel()
        await sent(server).wait_disconnected()


ROUTES = ModelRoutes({"m": ["anthropic", "mine", "openai/real"], "claude": "anthropic"})


def test_a_call_is_sent_to_the_targets_that_answer_it_alone() -> None:
    specs = {"mine": ProviderSpec(wire="openai-responses", base_url="http://127.0.0.1:1/v1")}
    factories = default_factories(CallBounds(max_connections=1, read_timeout_s=1), specs=specs)
    providers = Providers(ROUTES, factories, calls=provider_calls(specs))
    assert providers.targets_for("m", call=EMBEDDINGS) == (ModelTarget("mine"), ModelTarget("openai", "real"))
    assert providers.targets_for("m", call=COUNT_TOKENS) == (ModelTarget("anthropic"),)
    with pytest.raises(ProviderFailed, match="/v1/responses/input_tokens") as caught:
        providers.targets_for("m", call=INPUT_TOKENS)  # a server of the operator's own does not have it
    assert caught.value.reason == "provider_bad_request"


def test_openais_own_servers_count_the_input_of_responses_wherever_they_are_named() -> None:
    named = provider_calls(
        {
            "eu": ProviderSpec(wire="openai-responses", base_url="https://eu.api.openai.com/v1"),
            "spare": ProviderSpec(wire="openai-responses"),
            "vllm": ProviderSpec(wire="openai-responses", base_url="https://vllm.example.com/v1"),
        }
    )
    assert {name for name, calls in named.items() if INPUT_TOKENS in calls} == {"openai-responses", "eu", "spare"}
    assert all(EMBEDDINGS in named[name] for name in ("eu", "spare", "vllm"))
    assert BUILT_IN_CALLS["local"] == {COMPLETIONS}
