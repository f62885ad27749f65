"""A request that is repeated with its Idempotency-Key gets a whole answer or an error, never a part as the whole."""

from __future__ import annotations

from typing import Any

import httpx2
import pytest

from broadcaster.core.events import Abort, Error, Finish, Start, TextDelta
from tests.support.memory.memory_world import MemoryWorld
from tests.web.surfaces.calls import REQUEST

KEY = {"idempotency-key": "k"}
ID = "gen_0001"
CALLS: dict[str, tuple[str, dict[str, Any]]] = {
    "chat": ("/v1/chat/completions", {"model": "local", "messages": REQUEST}),
    "messages": ("/v1/messages", {"model": "local", "messages": REQUEST, "max_tokens": 9}),
    "responses": ("/v1/responses", {"model": "local", "input": "Hi"}),
    "embeddings": ("/v1/embeddings", {"model": "gpt-e", "input": "Hi"}),
    "completions": ("/v1/completions", {"model": "local", "prompt": "Hi"}),
    "generations": ("/v1/generations", {"messages": REQUEST, "stream": False}),
    "generations that wait": ("/v1/generations?wait_s=1", {"messages": REQUEST}),
}
ANSWERS = {name: call for name, call in CALLS.items() if name not in ("embeddings", "completions")}


@pytest.fixture(params=list(CALLS.values()), ids=list(CALLS))
def call(request: pytest.FixtureRequest) -> Any:
    return request.param


async def send(client: httpx2.AsyncClient, call: Any) -> httpx2.Response:
    path, body = call
    return await client.post(path, json=body, headers=KEY)


def end_with(world: MemoryWorld, end: Any) -> None:
    """What every generation ends with from now on, after a text."""
    world.on_create = lambda id: world.append(id, TextDelta(id="0", delta="whole"), end)


async def test_an_answer_that_has_expired_is_unknown_and_never_an_empty_one(
    client: httpx2.AsyncClient, world: MemoryWorld, call: Any
) -> None:
    end_with(world, Finish(finish_reason="stop"))
    await send(client, call)
    world.expire(ID)
    repeated = await send(client, call)
    assert repeated.status_code == 404, repeated.text
    assert "the answer has expired; a request with a new Idempotency-Key" in repeated.text
    assert len(world.requests) == 1


async def test_an_expired_answer_that_redis_may_rewrite_is_refused_for_now(
    client: httpx2.AsyncClient, world: MemoryWorld, call: Any
) -> None:
    end_with(world, Finish(finish_reason="stop"))
    await send(client, call)
    world.expire(ID)
    world.is_steady = False
    repeated = await send(client, call)
    assert repeated.status_code == 503, repeated.text


async def test_an_answer_that_failed_is_its_error_also_once_its_log_has_expired(
    client: httpx2.AsyncClient, world: MemoryWorld, call: Any
) -> None:
    refusal = Error(error_text="no such thing", code="provider_bad_request")
    world.on_create = lambda id: world.append(id, Start(), refusal)
    first = await send(client, call)
    world.expire(ID)
    repeated = await send(client, call)
    expected = first.text.replace('"truncated":false', '"truncated":true')  # of a generation; others have no such field
    assert (repeated.status_code, repeated.text) == (first.status_code, expected)
    assert "no such thing" in repeated.text


@pytest.mark.parametrize("call", ANSWERS.values(), ids=ANSWERS)
async def test_an_answer_that_was_abandoned_is_begun_anew_and_one_that_was_stopped_is_not(
    client: httpx2.AsyncClient, world: MemoryWorld, call: Any
) -> None:
    end_with(world, Abort(reason="abandoned"))
    await send(client, call)
    end_with(world, Abort(reason="stopped"))
    second, third = await send(client, call), await send(client, call)
    assert len(world.requests) == 2
    assert {each.headers["broadcaster-generation-id"] for each in (second, third)} == {"gen_0002"}
