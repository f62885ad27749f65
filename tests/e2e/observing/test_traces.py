"""Traces of real processes: from a caller's ``traceparent`` through front-end and worker to the provider, by OTLP."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator

import httpx2
import pytest

from broadcaster.testing import Answer, Script, ScriptedProvider
from tests.support.log_lines import only
from tests.support.servers.otlp_receiver import OtlpReceiver, ReceivedSpan, otlp_receiver
from tests.support.servers.processes import Stack

MODEL = "claude-scripted"
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
CALLER = "00f067aa0ba902b7"
HEADERS = {"traceparent": f"00-{TRACE}-{CALLER}-01", "tracestate": "vendor=opaque"}
SECRET = "secret-91c2"
REQUEST = "POST /v1/generations"
VIEWER = "GET /v1/streams/{stream_id}/events"
CALL = f"chat {MODEL}"


@pytest.fixture
def receiver() -> Iterator[OtlpReceiver]:
    with otlp_receiver() as opened:
        yield opened


@pytest.fixture
def traced(stack: Stack, receiver: OtlpReceiver, monkeypatch: pytest.MonkeyPatch) -> Stack:
    """A stack whose processes export their spans at once."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.url)
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "50")
    monkeypatch.setenv("BROADCASTER_TRACES", "otlp")
    return stack


async def until_received(receiver: OtlpReceiver, *names: str) -> dict[str, ReceivedSpan]:
    """The spans of these names, one each."""
    async with asyncio.timeout(20):
        while not all(receiver.named(name) for name in names):
            await asyncio.sleep(0.05)
    found = {name: receiver.named(name) for name in names}
    assert all(len(spans) == 1 for spans in found.values()), found
    return {name: spans[0] for name, spans in found.items()}


async def test_one_trace_leads_from_the_caller_to_the_provider_and_to_the_first_delivery(
    traced: Stack, scripted: ScriptedProvider, receiver: OtlpReceiver
) -> None:
    conversation = scripted.conversation(MODEL)
    worker, front_end = await traced.worker(), await traced.front_end()
    async with httpx2.AsyncClient(base_url=front_end.url, timeout=20) as client:
        body = {"prompt": f"{SECRET}-prompt", "metadata": {"a": SECRET}}
        stream = (await client.post("/v1/generations", json=body, headers=HEADERS)).json()["id"]
        watching = asyncio.create_task(client.get(f"/v1/streams/{stream}/events"))
        await conversation.send_text(f"{SECRET}-answer")
        await conversation.finish()
        await watching
    names = (REQUEST, "queue wait", "attempt", CALL, "first delivery", VIEWER)
    spans = await until_received(receiver, *names)
    request, wait, attempt, call, delivery, viewer = (spans[name] for name in names)
    assert {each.trace_id for each in (request, wait, attempt, call, delivery)} == {TRACE}
    assert viewer.trace_id != TRACE  # its request names no trace
    assert request.parent_id == CALLER
    assert {each.parent_id for each in (wait, attempt, delivery)} == {request.span_id}
    assert call.parent_id == attempt.span_id
    assert (request.service, attempt.service) == ("broadcaster-front-end", "broadcaster-worker")
    assert wait.begun_ns <= wait.ended_ns
    assert call.begun_ns < delivery.ended_ns
    assert call.attributes["gen_ai.operation.name"] == "chat"
    assert call.attributes["gen_ai.provider.name"] == "anthropic"
    assert call.attributes["gen_ai.request.model"] == MODEL
    assert call.attributes["gen_ai.response.finish_reasons"] == ["stop"]
    assert call.attributes["gen_ai.usage.output_tokens"] > 0
    assert call.attributes["gen_ai.response.time_to_first_chunk"] > 0
    assert request.attributes["http.response.status_code"] == 202
    assert (attempt.attributes["broadcaster.stream"], attempt.attributes["broadcaster.outcome"]) == (stream, "finished")
    assert viewer.attributes["broadcaster.viewer.reason"] == "terminal"
    assert not any(span.is_error for span in receiver.spans)
    assert SECRET not in repr(receiver.spans)
    sent = (await conversation.request()).headers
    assert sent["traceparent"] == f"00-{TRACE}-{call.span_id}-01"  # the provider's own spans hang below the call
    assert sent["tracestate"] == "vendor=opaque"
    assert (await only(front_end, "stream_created", stream=stream))["trace_id"] == TRACE
    assert (await only(front_end, "request_ended", stream=stream))["trace_id"] == TRACE
    assert (await only(worker, "attempt_ended", stream=stream))["trace_id"] == TRACE
    assert json.loads(await worker.logged("attempt_started"))["trace_id"] == TRACE


async def test_a_request_without_a_trace_begins_one_and_a_failed_call_is_an_error_in_it(
    traced: Stack, scripted: ScriptedProvider, receiver: OtlpReceiver
) -> None:
    scripted.script(MODEL, Script(Answer(400, message=SECRET)))
    await traced.worker()
    front_end = await traced.front_end()
    async with httpx2.AsyncClient(base_url=front_end.url, timeout=20) as client:
        stream = (await client.post("/v1/generations", json={"prompt": "x"})).json()["id"]
        await client.get(f"/v1/generations/{stream}?wait_s=10")
        await client.get("/healthz")
    spans = await until_received(receiver, REQUEST, "attempt", CALL)
    assert len({span.trace_id for span in spans.values()}) == 1
    assert (spans[CALL].is_error, spans[CALL].attributes["error.type"]) == (True, "provider_bad_request")
    assert (spans["attempt"].is_error, spans["attempt"].attributes["error.type"]) == (True, "provider_bad_request")
    assert spans[REQUEST].is_error is False
    assert SECRET not in repr(receiver.spans)
    assert not any("healthz" in span.name for span in receiver.spans)


async def test_without_tracing_the_caller_s_trace_is_in_the_log_and_is_sent_to_no_provider(
    stack: Stack, scripted: ScriptedProvider
) -> None:
    conversation = scripted.conversation(MODEL)
    worker, front_end = await stack.worker(), await stack.front_end()
    async with httpx2.AsyncClient(base_url=front_end.url, timeout=20) as client:
        stream = (await client.post("/v1/generations", json={"prompt": "x"}, headers=HEADERS)).json()["id"]
        await conversation.send_text("an answer")
        await conversation.finish()
        await client.get(f"/v1/generations/{stream}?wait_s=10")
    assert (await only(worker, "attempt_ended", stream=stream))["trace_id"] == TRACE
    assert "traceparent" not in (await conversation.request()).headers


async def test_an_operator_may_keep_traces_from_all_providers(traced: Stack, scripted: ScriptedProvider) -> None:
    conversation = scripted.conversation(MODEL)
    await traced.worker(trace_providers="none")
    front_end = await traced.front_end()
    async with httpx2.AsyncClient(base_url=front_end.url, timeout=20) as client:
        stream = (await client.post("/v1/generations", json={"prompt": "x"}, headers=HEADERS)).json()["id"]
        await conversation.finish()
        await client.get(f"/v1/generations/{stream}?wait_s=10")
    assert "traceparent" not in (await conversation.request()).headers


async def test_a_receiver_that_is_away_delays_neither_answers_nor_the_end(
    traced: Stack, scripted: ScriptedProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    scripted.script(MODEL, Script.of_text("an answer"))
    await traced.worker()
    front_end = await traced.front_end()
    async with httpx2.AsyncClient(base_url=front_end.url, timeout=20) as client:
        stream = (await client.post("/v1/generations", json={"prompt": "x"}, headers=HEADERS)).json()["id"]
        answer = (await client.get(f"/v1/generations/{stream}?wait_s=10")).json()
    assert answer["status"] == "finished"
    begun_at = asyncio.get_running_loop().time()
    assert await front_end.end() == 0
    assert asyncio.get_running_loop().time() - begun_at < 15
