"""An answer whose log goes while it is read is refused: what was read of it is never served as the whole answer."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import httpx2
import pytest

from broadcaster.core.cursor import START, Cursor
from broadcaster.core.entry import Entry
from broadcaster.core.events import Attempt, Finish, Start, StartStep, TextDelta, TextStart
from broadcaster.log.streams.reader import Meta
from tests.support.memory.memory_world import MemoryWorld
from tests.web.surfaces.test_passed_calls import piece
from tests.web.surfaces.test_repeated_keys import CALLS

WORDS = [TextDelta(id="0", delta=f"{n} ") for n in range(9)]
ANSWER: list[Any] = [Start(), StartStep(), TextStart(id="0"), *WORDS, Finish(finish_reason="stop")]
PASSED: list[Any] = [*(piece(f"[{n}]") for n in range(9)), Finish()]
ANSWERS: dict[str, list[Any]] = {
    "chat": ANSWER,
    "messages": ANSWER,
    "responses": ANSWER,
    "embeddings": PASSED,
    "completions": PASSED,
}
on_every_surface = pytest.mark.parametrize("name", ANSWERS)


class EvictingWorld(MemoryWorld):
    """A Redis that evicts a log once the first entries of it were read; meta and the end in it stay.

    ``ends_late``: the answer ends between the reads of its meta and of its log.
    """

    evicts = True
    ends_late = False

    async def get(self, generation_id: str, *, tenant: str) -> Meta:
        meta = await super().get(generation_id, tenant=tenant)
        return replace(meta, status="running") if self.ends_late else meta

    async def read(self, stream_id: str, *, after: Cursor = START, count: int = 1000) -> list[Entry]:
        entries = await super().read(stream_id, after=after, count=count)
        if self.evicts:
            self.expire(stream_id)
        return entries


@pytest.fixture
def world() -> EvictingWorld:
    return EvictingWorld()


async def send(client: httpx2.AsyncClient, name: str) -> httpx2.Response:
    path, body = CALLS[name]
    return await client.post(path, json=body)


@on_every_surface
async def test_a_part_of_an_answer_and_its_end_are_not_served_as_the_answer(
    client: httpx2.AsyncClient, world: EvictingWorld, name: str
) -> None:
    world.on_create = lambda id: world.append(id, *ANSWERS[name])
    refused = await send(client, name)
    assert refused.status_code == 404, refused.text
    assert "the answer has expired" in refused.text


@on_every_surface
async def test_a_part_of_an_answer_that_redis_may_rewrite_is_refused_for_now(
    client: httpx2.AsyncClient, world: EvictingWorld, name: str
) -> None:
    world.is_steady = False
    world.on_create = lambda id: world.append(id, *ANSWERS[name])
    refused = await send(client, name)
    assert refused.status_code == 503, refused.text


@pytest.mark.parametrize("ends_late", [False, True], ids=["over", "over since its meta was read"])
async def test_a_part_of_a_stored_response_is_not_served_as_the_response(
    client: httpx2.AsyncClient, world: EvictingWorld, *, ends_late: bool
) -> None:
    world.ends_late = ends_late
    world.add("gen_a")
    world.append("gen_a", *ANSWER)
    read = await client.get("/v1/responses/resp_gen_a")
    assert read.status_code == 404, read.text
    assert "the response is no longer stored" in read.text


async def test_no_request_builds_on_a_part_of_a_response(client: httpx2.AsyncClient, world: EvictingWorld) -> None:
    world.evicts = False
    world.on_create = lambda id: world.append(id, *ANSWER)
    earlier = (await send(client, "responses")).json()
    item = {"type": "item_reference", "id": earlier["output"][0]["id"]}
    world.evicts = True
    kept = world.streams["gen_0001"].entries
    for body in ({"input": "And?", "previous_response_id": earlier["id"]}, {"input": [item]}):
        world.streams["gen_0001"].entries = kept
        refused = await client.post("/v1/responses", json={"model": "local", **body})
        assert refused.json()["error"]["code"] in ("previous_response_not_found", "item_not_found"), refused.text
    assert len(world.requests) == 1


async def test_an_answer_that_begins_with_its_second_attempt_is_whole(
    client: httpx2.AsyncClient, world: EvictingWorld
) -> None:
    """What an `attempt` voids may be missing."""
    world.evicts = False

    def answer(id: str) -> None:
        world.append(id, *WORDS, Attempt(attempt=2), *ANSWER)
        del world.streams[id].entries[: len(WORDS)]

    world.on_create = answer
    answered = await send(client, "chat")
    assert answered.json()["choices"][0]["message"]["content"] == "0 1 2 3 4 5 6 7 8 "
