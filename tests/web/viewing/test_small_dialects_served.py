"""``GET /v1/streams/{id}/events?dialect=``: the small shapes and AG-UI over real sockets, joined late and resumed."""

from __future__ import annotations

import asyncio

import httpx2
import pytest

from broadcaster.core import events as ev
from broadcaster.core.sse import SseDecoder
from tests.dialects.ag_ui import ag_ui_streams as streams
from tests.dialects.ag_ui.ag_ui_client import AgUiClient
from tests.dialects.test_small_dialects import Reader
from tests.support.memory.memory_world import MemoryWorld
from tests.support.servers.front_end import DEADLINE_S

TEXTS = [f"word {n} " for n in range(20)]
TEXT = "".join(TEXTS)
SMALL = ["delta", "named", "parts"]


def written(world: MemoryWorld, *, ends: bool = True) -> None:
    world.add("gen_1", status="running")
    deltas = [ev.TextDelta(id="0", delta=text) for text in TEXTS]
    world.append("gen_1", streams.START, ev.TextStart(id="0"), *deltas, ev.TextEnd(id="0"))
    if ends:
        world.append("gen_1", ev.Finish(finish_reason="stop"))


async def get(client: httpx2.AsyncClient, dialect: str, **headers: str) -> httpx2.Response:
    async with asyncio.timeout(DEADLINE_S):
        return await client.get(f"/v1/streams/gen_1/events?dialect={dialect}", headers=headers)


@pytest.mark.parametrize("dialect", SMALL)
async def test_a_viewer_that_joins_after_the_end_receives_a_snapshot_of_all(
    live_client: httpx2.AsyncClient, world: MemoryWorld, dialect: str
) -> None:
    written(world)
    response = await get(live_client, dialect)
    reader = Reader().read(response.content)
    assert reader.text == TEXT
    assert reader.is_closed
    assert response.content.count(b"\n\n") <= 4


@pytest.mark.parametrize("dialect", SMALL)
async def test_a_viewer_that_was_cut_resumes_from_any_id_without_gap_or_double(
    live_client: httpx2.AsyncClient, world: MemoryWorld, dialect: str
) -> None:
    written(world)
    every = await live_client.get(f"/v1/streams/gen_1/events?dialect={dialect}&replay=events")
    messages = SseDecoder().decode(every.content)
    blocks = every.content.split(b"\n\n")
    for at, message in enumerate(messages[:-1], start=1):
        if not message.id:
            continue
        rest = await get(live_client, dialect, **{"last-event-id": message.id})
        whole = b"\n\n".join(blocks[:at]) + b"\n\n" + rest.content
        assert Reader().read(whole).text == TEXT, f"cut after {message.id}"
    assert (await get(live_client, dialect, **{"last-event-id": messages[-1].id})).status_code == 204


async def test_ag_ui_is_a_run_for_viewers_too(live_client: httpx2.AsyncClient, world: MemoryWorld) -> None:
    written(world)
    client = AgUiClient().read((await get(live_client, "ag-ui")).content)
    assert (client.outcome, client.text) == ("success", TEXT)


@pytest.mark.parametrize("dialect", [*SMALL, "ag-ui"])
async def test_a_viewer_that_joins_midway_receives_the_rest_live(
    live_client: httpx2.AsyncClient, world: MemoryWorld, dialect: str
) -> None:
    written(world, ends=False)
    url = f"/v1/streams/gen_1/events?dialect={dialect}"
    async with asyncio.timeout(DEADLINE_S), live_client.stream("GET", url) as response:
        received = b""
        async for chunk in response.aiter_bytes():
            received += chunk
            if TEXT.encode() in received and not world.streams["gen_1"].entries[-1].is_terminal:
                world.append("gen_1", ev.TextDelta(id="1", delta="The end."), ev.Finish(finish_reason="stop"))
    reader = AgUiClient().read(received) if dialect == "ag-ui" else Reader().read(received)
    assert reader.text == f"{TEXT}The end."
