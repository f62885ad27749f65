"""A client that disconnects from an API through which it cannot come back wants no more of its answer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import httpx2
import pytest

from broadcaster.core.events import Finish, TextDelta
from broadcaster.log.jobs.generations import GenerationRequest
from broadcaster.web.documents.problems import ClientLeft
from broadcaster.web.services import Arrival, Services
from broadcaster.web.surfaces.answering import started
from tests.support.memory.memory_world import MemoryWorld
from tests.support.servers.front_end import DEADLINE_S, in_process, own_app, served
from tests.web.surfaces.calls import REQUEST

CHAT: Any = ("/v1/chat/completions", {"model": "local", "messages": REQUEST})
MESSAGES: Any = ("/v1/messages", {"model": "local", "messages": REQUEST, "max_tokens": 9})
COMPLETIONS: Any = ("/v1/completions", {"model": "local", "prompt": "Hi"})
RESPONSES: Any = ("/v1/responses", {"model": "local", "input": "Hi"})
WAIT = {"broadcaster-on-disconnect": "wait"}
CONTINUE = {"broadcaster-on-disconnect": "continue"}


@pytest.fixture
def gone() -> list[str]:
    """Generations whose clients have disconnected for good."""
    return []


@pytest.fixture
async def client(services: Services, world: MemoryWorld, gone: list[str]) -> AsyncIterator[httpx2.AsyncClient]:
    noting = replace(services, departed=gone.append)
    world.on_create = lambda id: world.append(id, TextDelta(id="0", delta="half"))
    async with served(own_app(noting), noting) as opened:
        yield opened


@pytest.mark.parametrize("is_streamed", [True, False])
@pytest.mark.parametrize(
    ("call", "more", "headers", "leaves"),
    [
        (CHAT, {}, {}, True),
        (MESSAGES, {}, {}, True),
        (RESPONSES, {"store": False}, {}, True),
        (RESPONSES, {}, {}, False),
        (RESPONSES, {"store": True}, {}, False),
        (CHAT, {}, WAIT, False),
        (MESSAGES, {}, WAIT, False),
        (RESPONSES, {"store": False}, WAIT, False),
        (CHAT, {}, CONTINUE, False),
        (MESSAGES, {}, CONTINUE, False),
        (RESPONSES, {"store": False}, CONTINUE, False),
    ],
)
async def test_only_a_client_that_cannot_resume_and_does_not_request_to_wait_abandons_its_answer(
    client: httpx2.AsyncClient,
    services: Services,
    gone: list[str],
    call: Any,
    more: Any,
    headers: Any,
    leaves: bool,
    is_streamed: bool,
) -> None:
    path, body = call
    request = client.build_request("POST", path, json={**body, **more, "stream": is_streamed}, headers=headers)
    async with asyncio.timeout(DEADLINE_S):
        calling = asyncio.create_task(client.send(request, stream=is_streamed))
        if is_streamed:
            await (await calling).aclose()
        else:
            while not services.hub.statistics().viewers:  # the answer is waited for
                await asyncio.sleep(0.001)
            calling.cancel()
        while services.hub.statistics().viewers or len(gone) < leaves:
            await asyncio.sleep(0.001)
    assert gone == (["gen_0001"] if leaves else [])


async def test_a_creator_that_left_before_it_watched_does_not_count_as_a_viewer_any_more(services: Services) -> None:
    generation = GenerationRequest("local", {"messages": REQUEST})
    with pytest.raises(ClientLeft):
        async with started(Arrival(services, "local", ""), generation, as_stream=False):
            raise ClientLeft
    assert await services.hub.turns(0) == {"gen_0001": 0}


async def test_a_creator_whose_stream_cannot_be_read_does_not_count_as_a_viewer_any_more(
    services: Services, world: MemoryWorld
) -> None:
    def fall_silent(id: str) -> None:
        world.away = True

    world.on_create = fall_silent
    async with in_process(own_app(services)) as client:
        answer = await client.post("/v1/generations", json={"prompt": "hi", "stream": False})
    assert answer.status_code == 503
    assert await services.hub.turns(0) == {answer.headers["broadcaster-generation-id"]: 0}


@pytest.mark.parametrize(("headers", "on_abandon"), [({}, "cancel"), (WAIT, "cancel"), (CONTINUE, "continue")])
@pytest.mark.parametrize("call", [CHAT, MESSAGES, RESPONSES, COMPLETIONS])
async def test_only_an_answer_that_its_client_lets_continue_needs_no_viewer(
    services: Services, world: MemoryWorld, call: Any, headers: dict[str, str], on_abandon: str
) -> None:
    world.on_create = lambda id: world.append(id, Finish(finish_reason="stop"))
    path, body = call
    async with in_process(own_app(services)) as client:
        await client.post(path, json=body, headers=headers)
        refused = await client.post(path, json=body, headers={"broadcaster-on-disconnect": "never"})
    assert [request.on_abandon for request in world.requests] == [on_abandon]
    assert refused.status_code in (400, 422)


@pytest.mark.parametrize("call", [CHAT, MESSAGES, RESPONSES])
async def test_a_whole_answer_that_redis_may_rewrite_is_refused_for_now(
    services: Services, world: MemoryWorld, call: Any
) -> None:
    def end_and_lose(id: str) -> None:
        world.append(id, TextDelta(id="0", delta="half"), Finish(finish_reason="stop"))
        world.expire(id)
        world.is_steady = False

    world.on_create = end_and_lose
    path, body = call
    async with in_process(own_app(services)) as client:
        answer = await client.post(path, json=body)
    assert answer.status_code == 503, answer.text
    assert answer.headers.get("x-should-retry") != "false"
