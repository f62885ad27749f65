"""What the providers of all wires do alike: the real SDKs against a scripted server, over real sockets."""

import asyncio
import sys
from types import FrameType
from typing import Any

import httpx2
import pytest

from broadcaster.core import events as ev
from broadcaster.errors import ProviderFailed
from broadcaster.testing import Answer, Gate, Script, ScriptedProvider, Send, SendCut, Wait
from tests.worker.providers.provider_support import (
    KEY,
    Wire,
    collect,
    on_every_wire,
    provider_at,
    request_for,
    scripted,
    text_of,
)
from worker.providers.transport import connection_headers


@on_every_wire
async def test_an_answer_streams_from_its_start_to_its_finish(on: Wire):
    async with scripted(on) as (server, provider):
        server.script("m", Script.of_text("Hello ", "world"))
        events = await collect(provider, request_for("m"))
    assert isinstance(events[0], ev.Start)
    assert isinstance(events[-1], ev.Finish)
    assert text_of(events) == "Hello world"
    (usage,) = [event for event in events if isinstance(event, ev.Usage)]
    assert (usage.input_tokens, usage.output_tokens, usage.estimated) == (25, 2, False)


@on_every_wire
async def test_events_come_as_soon_as_the_provider_has_sent_them(on: Wire):
    async with scripted(on) as (server, provider), asyncio.timeout(20):
        conversation = server.conversation("m")
        sending = asyncio.create_task(conversation.send_text("a"))
        async with provider.stream(request_for("m")) as stream:
            batches = aiter(stream)
            await sending
            seen: list[ev.Event] = []
            for piece, text in (("b", "a"), ("c", "ab")):
                while text_of(seen) != text:
                    seen += await anext(batches)
                await conversation.send_text(piece)
            await conversation.finish()
            async for events in batches:
                seen += events
        assert text_of(seen) == "abc"
        assert isinstance(seen[-1], ev.Finish)


@on_every_wire
async def test_the_key_goes_in_the_header_alone(on: Wire):
    async with scripted(on) as (server, provider):
        await collect(provider, request_for("m"))
        (request,) = server.requests
    assert request.headers["authorization"] == f"Bearer {KEY}"
    assert KEY.encode() not in request.raw_body


@on_every_wire
async def test_fifty_concurrent_answers_each_get_their_own_text(on: Wire):
    gate = Gate()
    async with scripted(on, max_connections=50) as (server, provider):
        for number in range(50):
            composer = on.scripted.compose(f"m{number}")
            first, rest = composer.text(f"answer {number} "), [*composer.text("whole"), *composer.finish()]
            server.script(f"m{number}", Script(Send(*first), Wait(gate), Send(*rest)))
        tasks = [asyncio.create_task(collect(provider, request_for(f"m{number}"))) for number in range(50)]
        # All are open at the same time before any may end: none waits for another's connection.
        await server.wait_requests(50)
        gate.open()
        texts = [text_of(events) for events in await asyncio.gather(*tasks)]
    assert texts == [f"answer {number} whole" for number in range(50)]


@on_every_wire
async def test_more_answers_than_connections_fail_soon_instead_of_waiting_for_ever(
    on: Wire, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("worker.providers.transport.CONNECT_TIMEOUT_S", 0.05)
    async with scripted(on, max_connections=1) as (server, provider):
        server.conversation("m")
        async with asyncio.TaskGroup() as group:
            holding = group.create_task(collect(provider, request_for("m")))
            await server.wait_requests(1)
            with pytest.raises(ProviderFailed) as caught:
                await collect(provider, request_for("m"))
            holding.cancel()
    assert (caught.value.reason, caught.value.retryable) == ("provider_unreachable", True)


@on_every_wire
async def test_a_server_without_tls_is_requested_to_close_its_connection_after_the_answer(on: Wire):
    async with scripted(on) as (server, provider):
        await collect(provider, request_for("m"))
        assert server.requests[0].headers["connection"] == "close"


def test_a_server_with_tls_keeps_its_connections():
    assert connection_headers(httpx2.URL("https://x.example/v1")) == {}


@on_every_wire
async def test_bytes_cut_anywhere_give_the_same_answer(on: Wire):
    raw = on.frames("é🌊", "日本")
    async with scripted(on) as (server, provider):
        server.script("whole", Script(SendCut(raw, [])))
        server.script("cut", Script(SendCut(raw, range(1, len(raw), 7))))
        whole, cut = [await collect(provider, request_for(model)) for model in ("whole", "cut")]
    assert whole[1:] == cut[1:]  # the first event has the request id


@on_every_wire
async def test_a_closed_provider_can_be_closed_twice(on: Wire):
    async with provider_at("http://127.0.0.1:9", on) as provider:
        await provider.aclose()


@on_every_wire
@pytest.mark.parametrize("status", [301, 302, 307, 308])
async def test_a_redirect_carries_nothing_to_another_server(on: Wire, status: int):
    async with ScriptedProvider() as other, scripted(on) as (server, provider):
        server.script("m", Script(Answer(status, headers={"location": f"{other.base_url}/v1/elsewhere"})))
        with pytest.raises(ProviderFailed, match="redirects elsewhere; name the final address") as caught:
            await collect(provider, request_for("m"))
        assert len(server.requests) == 1
    assert (caught.value.reason, caught.value.retryable) == ("provider_unreachable", False)
    assert other.requests == []


class _SdkCalls:
    """Counts the calls of the SDKs' own functions."""

    def __init__(self) -> None:
        self.count = 0

    def __enter__(self) -> "_SdkCalls":
        sys.setprofile(self._on)
        return self

    def __exit__(self, *_: object) -> None:
        sys.setprofile(None)

    def _on(self, frame: FrameType, event: str, _: Any) -> None:
        file = frame.f_code.co_filename
        self.count += event == "call" and ("/site-packages/openai/" in file or "/site-packages/anthropic/" in file)


@on_every_wire
async def test_the_work_of_the_sdk_does_not_grow_with_the_messages_of_a_request(on: Wire):
    """A walk of the SDK through a body of 10,000 messages blocked the worker's event loop longer than its lease."""
    messages = [{"role": "user", "content": [{"type": "text", "text": "Hi"}]}, {"role": "assistant", "content": "Yes?"}]
    async with scripted(on) as (server, provider):
        await collect(provider, request_for("m"))  # what the SDK imports and makes once
        counts = []
        for times in (1, 100):
            with _SdkCalls() as calls:
                await collect(provider, request_for("m", messages=messages * times))
            counts.append(calls.count)
        short, long = server.requests[1:]
    assert len(str(long.body)) > 20 * len(str(short.body))
    assert counts[0] > 0
    assert counts[1] - counts[0] < 100
