"""The bytes of a stored request have a bound, which no body reaches by its translation alone."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from broadcaster.core.requests.stored_requests import most_stored_bytes
from broadcaster.dialects.openai_responses.request import parse_responses_request
from broadcaster.errors import BodyTooLarge
from broadcaster.log.jobs.generations import GenerationLives, GenerationRequest, Generations
from broadcaster.log.redis.connect import LogConnection
from tests.support.log.log_world import TENANT, World

MAX_BYTES = 1000
EMPTY = len(msgspec.json.encode({"system": ""}))


def of(size: int) -> GenerationRequest:
    """A request that is stored in so many bytes."""
    return GenerationRequest(model="m", request={"system": "x" * (size - EMPTY)})


async def test_a_request_that_is_too_large_to_be_stored_is_refused_before_anything_is_written(
    connection: LogConnection,
) -> None:
    world = World(connection)
    await world.queue.create_group()
    generations = Generations(
        world.connection,
        GenerationLives(open_ms=60_000, live_ttl_ms=60_000, retention_ms=1000, idempotency_ttl_ms=1000),
        queue=world.queue,
        claims=world.claims,
        streams=world.streams,
        steadiness=world.steadiness,
        max_stored_bytes=MAX_BYTES,
    )
    before = sorted(await world.redis.keys("*"))
    with pytest.raises(BodyTooLarge, match=r"have 1001 bytes .* at most 1000 \(8 times MAX_BODY_BYTES and 64 KiB\)"):
        await generations.create(of(MAX_BYTES + 1), tenant=TENANT, idempotency_key="k")
    assert sorted(await world.redis.keys("*")) == before
    created = await generations.create(of(MAX_BYTES), tenant=TENANT, idempotency_key="k")
    assert len(await world.redis.hget(world.keys.meta(created.id), "request")) == MAX_BYTES


CUSTOM = {"type": "custom", "name": "a"}
FUNCTIONS = [{"type": "function", "name": str(at)} for at in range(1000)]


@pytest.mark.parametrize(
    "tools",
    [
        [CUSTOM] * 1000,
        [{**CUSTOM, "description": "d" * 50_000}],
        FUNCTIONS,
        [{"type": "namespace", "name": "n" * 64, "tools": FUNCTIONS}],
        [{"type": "namespace", "name": "n" * 64, "description": "d" * 50_000, "tools": FUNCTIONS}],
    ],
    ids=["custom", "described", "functions", "namespace", "described namespace"],
)
def test_no_body_reaches_the_bound_by_its_translation(tools: list[Any]) -> None:
    body = {"model": "m", "input": "Hi", "tools": tools}
    stored = parse_responses_request(body).stored(model="m")
    assert len(msgspec.json.encode(stored)) <= most_stored_bytes(len(msgspec.json.encode(body)))
