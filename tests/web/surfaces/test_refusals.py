"""A request that the provider refuses: the client receives the provider's status, also when it requested a stream."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import anthropic
import httpx2
import openai
import pytest

from broadcaster.core.events import Abort, Attempt, Error, Finish, Start, TextDelta, Usage
from broadcaster.core.providers.refusals import refusal_metadata
from broadcaster.errors import ProviderFailed, ProviderRefusal
from broadcaster.hub.ring import SEGMENT_ENTRIES
from broadcaster.web.services import Services
from broadcaster.web.viewing.waiting import DISCONNECT_CHECK_S
from tests.support.memory.memory_world import MemoryWorld, memory_services
from tests.support.servers.front_end import DEADLINE_S, own_app, served
from tests.web.surfaces.calls import CALLS, REQUEST

MESSAGES: Any = REQUEST
HEAD_WAIT_S = 6 * DEADLINE_S  # a test that only this would end fails


@pytest.fixture
async def services(world: MemoryWorld) -> AsyncIterator[Services]:
    async with memory_services(world, head_wait_s=HEAD_WAIT_S) as opened:
        yield opened


@pytest.fixture
async def sdks(live_client: httpx2.AsyncClient) -> AsyncIterator[Sdks]:
    async with (
        openai.DefaultAsyncHttpxClient(verify=False) as one,
        anthropic.DefaultAsyncHttpxClient(verify=False) as other,
    ):
        url = str(live_client.base_url).rstrip("/")
        yield Sdks(
            openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="any", max_retries=0, http_client=one),
            anthropic.AsyncAnthropic(base_url=url, api_key="any", max_retries=0, http_client=other),
        )


class Sdks:
    """Both SDKs, and the ways in which each requests a stream."""

    def __init__(self, openai: openai.AsyncOpenAI, anthropic: anthropic.AsyncAnthropic) -> None:
        self.openai = openai
        self.anthropic = anthropic

    def with_retries(self, count: int) -> Sdks:
        return Sdks(self.openai.with_options(max_retries=count), self.anthropic.with_options(max_retries=count))

    async def text(self, way: str) -> str:
        return await getattr(self, way.replace(" ", "_"))()

    async def chat_create(self) -> str:
        chunks: Any = await self.openai.chat.completions.create(model="local", messages=MESSAGES, stream=True)
        return "".join([chunk.choices[0].delta.content or "" async for chunk in chunks if chunk.choices])

    async def chat_stream(self) -> str:
        async with self.openai.chat.completions.stream(model="local", messages=MESSAGES) as stream:
            return (await stream.get_final_completion()).choices[0].message.content or ""

    async def responses_create(self) -> str:
        events = await self.openai.responses.create(model="local", input="Hi", stream=True)
        return "".join([event.delta async for event in events if event.type == "response.output_text.delta"])

    async def responses_stream(self) -> str:
        async with self.openai.responses.stream(model="local", input="Hi") as stream:
            return (await stream.get_final_response()).output_text

    async def messages_create(self) -> str:
        call_options: Any = {"model": "local", "max_tokens": 9, "messages": MESSAGES, "stream": True}
        events = await self.anthropic.messages.create(**call_options)
        return "".join([event.delta.text async for event in events if event.type == "content_block_delta"])

    async def messages_stream(self) -> str:
        async with self.anthropic.messages.stream(model="local", max_tokens=9, messages=MESSAGES) as stream:
            return await stream.get_final_text()


WAYS = ("chat create", "chat stream", "responses create", "responses stream", "messages create", "messages stream")
REFUSALS = [
    (400, "BadRequestError", "provider_bad_request", False),
    (401, "AuthenticationError", "provider_auth", False),
    (403, "PermissionDeniedError", "provider_auth", False),
    (404, "NotFoundError", "provider_bad_request", False),
    (429, "RateLimitError", "provider_rate_limited", True),
    (503, "InternalServerError", "provider_overloaded", True),
    (529, "InternalServerError", "provider_overloaded", True),
]


def refused(status: int, reason: str = "provider_rate_limited", **fields: Any) -> Error:
    """The end of a generation whose provider answered with this status."""
    content = {"type": "said_error", "message": "said by the provider", **fields}
    retry_after_s = content.pop("retry_after_s", None)
    retryable = content.pop("retryable", True)
    failure = ProviderFailed(
        "of ours", reason=reason, retryable=retryable, retry_after_s=retry_after_s,
        refusal=ProviderRefusal(status, **content),
    )  # fmt: skip
    failure.request_id = "req_of_provider"
    return Error(error_text=failure.detail, code=failure.reason, provider_metadata=refusal_metadata(failure))


def scripted(world: MemoryWorld, *ends: Callable[[str], None]) -> None:
    """The generations end as these prescribe, one after the other; the last one stays."""
    left = list(ends)
    world.on_create = lambda each: (left.pop(0) if len(left) > 1 else left[0])(each)


def ending(world: MemoryWorld, *events: Any) -> Callable[[str], None]:
    return lambda each: world.append(each, *events)


@pytest.mark.parametrize(("status", "kind", "reason", "retryable"), REFUSALS)
async def test_a_streamed_request_that_is_refused_raises_as_against_the_provider(
    sdks: Sdks, world: MemoryWorld, status: int, kind: str, reason: str, retryable: bool
) -> None:
    content = {"retry_after_s": 2.2 if retryable else None, "retryable": retryable}
    scripted(world, ending(world, Usage(output_tokens=0, estimated=True), refused(status, reason, **content)))
    for way in WAYS:
        sdk = anthropic if way.startswith("messages") else openai
        # The SDKs know 529 and 503 by classes of their own in some versions: all are server errors.
        expected = (getattr(sdk, kind), sdk.InternalServerError) if status >= 500 else getattr(sdk, kind)
        with pytest.raises(expected) as caught:
            await sdks.text(way)
        assert caught.value.status_code == status, way
        assert caught.value.response.headers.get("retry-after") == ("3" if retryable else None), way
        assert caught.value.response.headers.get("x-should-retry") != ("false" if retryable else "true"), way
        assert caught.value.response.headers["broadcaster-generation-id"] in world.streams
        assert caught.value.response.headers["broadcaster-provider-request-id"] == "req_of_provider", way
        assert caught.value.request_id not in (None, "req_of_provider"), way
        assert "said by the provider" in str(caught.value), way


async def test_the_providers_message_is_passed_on(sdks: Sdks, world: MemoryWorld) -> None:
    texts = {"type": "invalid_request_error", "code": "context_length_exceeded", "param": "messages"}
    scripted(world, ending(world, refused(400, "provider_bad_request", retryable=False, **texts)))
    with pytest.raises(openai.BadRequestError) as caught:
        await sdks.chat_create()
    assert caught.value.body == {"message": "said by the provider", **texts}
    with pytest.raises(anthropic.BadRequestError) as refusal:
        await sdks.messages_create()
    assert refusal.value.body == {
        "type": "error",
        "error": {"type": "invalid_request_error", "message": "prompt is too long: said by the provider"},
    }  # that API has no codes


async def test_a_refused_generation_can_be_retrieved(client: httpx2.AsyncClient, world: MemoryWorld) -> None:
    scripted(world, ending(world, refused(429)))
    created = await client.post("/v1/generations", json={"messages": REQUEST})
    visible = await client.get(f"/v1/generations/{created.json()['id']}")
    assert (visible.status_code, visible.json()["status"]) == (200, "failed")
    assert (visible.json()["error"]["code"], visible.json()["answered_by"]) == ("provider_rate_limited", None)
    assert visible.json()["provider_request_id"] == "req_of_provider"


NAMED = Start(message_metadata={"model": "m"}, provider_metadata={"openai": {"requestId": "req_of_provider"}})
TEXT = (TextDelta(id="0", delta="Hello"), Finish(finish_reason="stop"))


@pytest.mark.parametrize("name", [name for name in CALLS if "generation" not in name])
async def test_an_answer_names_the_providers_request_beside_ours(
    live_client: httpx2.AsyncClient, world: MemoryWorld, name: str
) -> None:
    path, body = CALLS[name]
    scripted(world, ending(world, Start(), Attempt(attempt=2), NAMED, *TEXT))
    answer = await live_client.post(path, json=body, headers={"x-request-id": "mine"})
    assert (answer.status_code, answer.headers["x-request-id"], answer.headers["request-id"]) == (200, "mine", "mine")
    assert answer.headers["broadcaster-provider-request-id"] == "req_of_provider"
    (generation,) = world.streams
    visible = (await live_client.get(f"/v1/generations/{generation}")).json()
    assert visible["provider_request_id"] == "req_of_provider"


async def test_a_resumed_and_a_retrieved_response_name_the_providers_request(
    live_client: httpx2.AsyncClient, world: MemoryWorld
) -> None:
    scripted(world, ending(world, NAMED, *TEXT))
    made = (await live_client.post(*CALLS["responses"][:1], json=CALLS["responses"][1])).json()
    for query in ("", "?stream=true", "?stream=true&starting_after=0"):
        answer = await live_client.get(f"/v1/responses/{made['id']}{query}")
        assert answer.headers["broadcaster-provider-request-id"] == "req_of_provider", query


async def test_an_id_of_a_voided_attempt_is_not_named(live_client: httpx2.AsyncClient, world: MemoryWorld) -> None:
    def lose_and_begin_anew(generation: str) -> None:
        world.append(generation, NAMED, *[TEXT[0]] * SEGMENT_ENTRIES)
        world.streams[generation].epoch += 1
        world.append(generation, Attempt(attempt=2), Start(), *TEXT)

    scripted(world, lose_and_begin_anew)
    path, body = CALLS["streamed chat completions"]
    answer = await live_client.post(path, json=body)
    assert answer.status_code == 200
    assert "broadcaster-provider-request-id" not in answer.headers


@pytest.mark.parametrize("way", WAYS)
async def test_the_retries_of_an_sdk_start_anew_until_there_is_an_answer(
    sdks: Sdks, world: MemoryWorld, way: str
) -> None:
    answer = (Start(), TextDelta(id="0", delta="Hello"), Finish(finish_reason="stop"))
    scripted(world, *[ending(world, refused(429, retry_after_s=0.0))] * 2, ending(world, *answer))
    assert await sdks.with_retries(2).text(way) == "Hello"
    assert len(world.requests) == 3


async def test_a_refusal_after_a_lost_attempt_and_a_repetition_by_its_key_keep_the_status(
    sdks: Sdks, world: MemoryWorld
) -> None:
    scripted(world, ending(world, Usage(), Attempt(attempt=2), refused(429)))
    call_options: Any = {
        "model": "local",
        "messages": MESSAGES,
        "stream": True,
        "extra_headers": {"Idempotency-Key": "k"},
    }
    for _ in range(2):
        with pytest.raises(openai.RateLimitError) as caught:
            await sdks.openai.chat.completions.create(**call_options)
        assert caught.value.response.headers["x-should-retry"] == "false"  # the key leads to the same failure
    assert len(world.requests) == 1


STREAMS = {name: CALLS[f"streamed {name}"] for name in ("chat completions", "responses", "messages")}
on_every_stream = pytest.mark.parametrize(("path", "body"), STREAMS.values(), ids=STREAMS)


@asynccontextmanager
async def waiting_head(
    client: httpx2.AsyncClient, services: Services, path: str, body: dict[str, Any]
) -> AsyncIterator[asyncio.Task[httpx2.Response]]:
    """A streamed request whose viewer is there, and whose head is not."""
    request = client.build_request("POST", path, json=body)
    pending = asyncio.create_task(client.send(request, stream=True))
    async with asyncio.timeout(DEADLINE_S):
        while not services.hub.statistics().viewers:
            await asyncio.sleep(0.001)
    try:
        yield pending
    finally:
        pending.cancel()
        await asyncio.wait({pending})
        if not pending.cancelled() and pending.exception() is None:
            await pending.result().aclose()


@on_every_stream
@pytest.mark.parametrize("event", [Start(), Finish(finish_reason="stop"), Abort(reason="stopped")])
async def test_the_head_waits_for_more_than_counts_and_no_longer(
    live_client: httpx2.AsyncClient, services: Services, world: MemoryWorld, *, path: str, body: Any, event: Any
) -> None:
    async with waiting_head(live_client, services, path, body) as pending:
        (generation,) = world.streams
        world.append(generation, Usage(output_tokens=0, estimated=True))
        for _ in range(20):  # a wake-up takes a few turns of the loop
            await asyncio.sleep(0)
        assert not pending.done()
        world.append(generation, event)
        async with asyncio.timeout(DEADLINE_S):
            assert (await pending).status_code == 200


@on_every_stream
async def test_a_head_that_has_waited_long_enough_is_sent(services: Services, path: str, body: Any) -> None:
    services = replace(services, head_wait_s=0.01)
    async with (
        served(own_app(services), services) as client,
        client.stream("POST", path, json=body) as answer,
    ):
        assert answer.status_code == 200


@on_every_stream
async def test_a_client_that_disconnects_before_its_head_is_a_viewer_that_left(
    live_client: httpx2.AsyncClient, services: Services, world: MemoryWorld, *, path: str, body: Any
) -> None:
    async with waiting_head(live_client, services, path, body) as pending:
        pending.cancel()
        async with asyncio.timeout(DISCONNECT_CHECK_S / 2):  # noticed at once, and not by polling now and then
            while services.hub.statistics().viewers:
                await asyncio.sleep(0.001)
    assert len(world.streams) == 1  # its end is the abandon policy's


@on_every_stream
async def test_a_drain_refuses_a_client_whose_head_waits_and_discards_its_request(
    live_client: httpx2.AsyncClient, services: Services, world: MemoryWorld, *, path: str, body: Any
) -> None:
    async with waiting_head(live_client, services, path, body) as pending:
        await services.hub.drain(window_s=0)
        async with asyncio.timeout(DEADLINE_S):
            answer = await pending
        assert answer.status_code in (503, 529)
        assert answer.headers.get("x-should-retry") != "false"
    assert not world.streams
