"""``/v1/streams/{id}/events``: from any point, live, and never an error status for what passes."""

from __future__ import annotations

import asyncio
import json

import httpx2
import pytest

from broadcaster.core.events import Finish, Start, TextDelta, encode_event
from broadcaster.hub.limits import HubLimits
from broadcaster.web.services import Services
from tests.support.memory.memory_world import EPOCH, MemoryWorld, memory_services
from tests.support.servers.front_end import listen, own_app, served

URL = "/v1/streams/gen_a/events"


@pytest.fixture
def answer(world: MemoryWorld) -> list[tuple[str, str]]:
    """A finished answer of six entries, as a client should see them."""
    world.add("gen_a")
    world.append("gen_a", Start(), *(TextDelta(id="0", delta=str(n)) for n in range(4)), Finish())
    return [(str(entry.cursor), entry.event.decode()) for entry in world.streams["gen_a"].entries]


async def test_a_finished_stream_is_replayed_whole_and_ends(
    live_client: httpx2.AsyncClient, answer: list[tuple[str, str]]
) -> None:
    received = await listen(live_client, URL)
    assert received.entries == answer
    assert received.names[0] == "hub.hello"
    assert json.loads(received.messages[0].data) == {"id": "gen_a", "status": "finished"}
    assert received.messages[0].retry_ms is not None
    assert received.headers["broadcaster-generation-id"] == "gen_a"
    assert received.headers["cache-control"].startswith("no-")


async def test_a_stream_resumed_at_any_cursor_is_exactly_the_rest(
    live_client: httpx2.AsyncClient, answer: list[tuple[str, str]]
) -> None:
    for seen in range(1, len(answer)):
        cursor = answer[seen - 1][0]
        assert (await listen(live_client, URL, headers={"last-event-id": cursor})).entries == answer[seen:]
        assert (await listen(live_client, f"{URL}?after={cursor}")).entries == answer[seen:]


async def test_the_header_wins_over_the_query_and_an_empty_one_is_none(
    live_client: httpx2.AsyncClient, answer: list[tuple[str, str]]
) -> None:
    url = f"{URL}?after={answer[3][0]}"
    assert (await listen(live_client, url, headers={"last-event-id": answer[1][0]})).entries == answer[2:]
    assert (await listen(live_client, url, headers={"last-event-id": ""})).entries == answer[4:]
    assert (await listen(live_client, f"{URL}?after=", headers={"last-event-id": ""})).entries == answer


async def test_nothing_more_to_come_is_204(live_client: httpx2.AsyncClient, answer: list[tuple[str, str]]) -> None:
    response = await live_client.get(URL, headers={"last-event-id": answer[-1][0]})
    assert (response.status_code, response.content) == (204, b"")


async def test_a_queued_stream_is_held_and_then_live(live_client: httpx2.AsyncClient, world: MemoryWorld) -> None:
    world.add("gen_a")
    received = await listen(live_client, URL, until="hub.live")
    assert json.loads(received.messages[0].data)["status"] == "queued"
    listening = asyncio.create_task(listen(live_client, URL))
    world.append("gen_a", Start())
    world.append("gen_a", Finish())
    assert [each for each, _ in (await listening).entries] == [f"{EPOCH}-1", f"{EPOCH}-2"]


@pytest.mark.parametrize("cursor", ["5", "1-", "-1", "01-1", "1-1 ", "x" * 200, "é"])
async def test_only_a_malformed_cursor_is_refused(client: httpx2.AsyncClient, world: MemoryWorld, cursor: str) -> None:
    world.add("gen_a")
    response = await client.get(URL, params={"after": cursor})
    assert (response.status_code, response.json()["code"]) == (400, "bad_cursor")
    header = await client.get(URL, headers={b"last-event-id": cursor.encode()})
    assert header.json()["code"] == "bad_cursor"


async def test_a_cursor_of_another_stream_gets_a_gap_and_everything(
    live_client: httpx2.AsyncClient, answer: list[tuple[str, str]]
) -> None:
    received = await listen(live_client, URL, headers={"last-event-id": "3-3"})
    assert received.names.count("hub.gap") == 1
    assert received.entries == answer


async def test_a_stream_not_created_yet_is_held_for(live_client: httpx2.AsyncClient, world: MemoryWorld) -> None:
    listening = asyncio.create_task(listen(live_client, f"{URL}?wait_s=9"))
    await asyncio.sleep(0)
    world.add("gen_a")
    world.append("gen_a", Finish())
    assert [each for each, _ in (await listening).entries] == [f"{EPOCH}-1"]


async def test_a_stream_never_created_is_unknown_in_the_end(live_client: httpx2.AsyncClient) -> None:
    response = await live_client.get(f"{URL}?wait_s=0.01")
    assert (response.status_code, response.json()["code"]) == (404, "unknown_stream")


async def test_a_log_that_has_expired_still_ends_honestly(
    live_client: httpx2.AsyncClient, world: MemoryWorld, answer: list[tuple[str, str]]
) -> None:
    world.expire("gen_a")
    received = await listen(live_client, URL)
    assert received.names == ["hub.hello", "hub.gap", "message"]
    gap = received.messages[1]
    assert json.loads(gap.data) == {"reason": "expired", "from": 1, "to": 5}
    assert gap.id == f"{EPOCH}-5"
    assert received.entries == answer[-1:]


@pytest.mark.parametrize(
    ("cursor", "gap"),
    [
        (f"{EPOCH}-2", {"reason": "expired", "from": 3, "to": 5}),
        (f"{EPOCH}-5", None),
        ("9-99", {"reason": "expired", "from": 1, "to": 5}),
    ],
)
async def test_an_expired_log_reports_only_what_the_viewer_has_missed(
    live_client: httpx2.AsyncClient,
    world: MemoryWorld,
    answer: list[tuple[str, str]],
    cursor: str,
    gap: dict[str, object] | None,
) -> None:
    world.expire("gen_a")
    received = await listen(live_client, URL, headers={"last-event-id": cursor})
    gaps = [json.loads(message.data) for message in received.messages if message.event == "hub.gap"]
    assert gaps == ([] if gap is None else [gap])
    assert received.entries == answer[-1:]


async def test_an_expired_log_has_no_more_for_a_viewer_that_saw_the_end(
    live_client: httpx2.AsyncClient, world: MemoryWorld, answer: list[tuple[str, str]]
) -> None:
    world.expire("gen_a")
    assert (await live_client.get(URL, headers={"last-event-id": answer[-1][0]})).status_code == 204


async def test_a_log_that_may_be_rewritten_sends_viewers_away_to_reconnect(
    live_client: httpx2.AsyncClient, world: MemoryWorld, answer: list[tuple[str, str]]
) -> None:
    world.expire("gen_a")
    world.is_steady = False
    received = await listen(live_client, URL)
    assert (received.names[-1], received.entries) == ("hub.bye", [])
    bye = json.loads(received.messages[-1].data)
    assert (bye["reason"], bye["reconnect"]) == ("log_unavailable", True)
    assert (await live_client.get(URL, headers={"last-event-id": answer[-1][0]})).status_code == 204


async def test_a_log_that_does_not_answer_is_reported_inside_a_200(
    live_client: httpx2.AsyncClient, world: MemoryWorld, answer: list[tuple[str, str]]
) -> None:
    world.away = True
    received = await listen(live_client, URL)
    assert (received.status, received.names) == (200, ["hub.bye"])
    assert json.loads(received.messages[0].data) == {"reason": "log_unavailable", "reconnect": True}
    assert received.messages[0].retry_ms is not None


async def test_a_draining_front_end_sends_a_viewer_elsewhere_inside_a_200(
    live_client: httpx2.AsyncClient, services: Services, answer: list[tuple[str, str]]
) -> None:
    await services.hub.drain(window_s=0)
    received = await listen(live_client, URL)
    assert (received.status, received.names) == (200, ["hub.bye"])
    assert json.loads(received.messages[0].data) == {"reason": "drain", "reconnect": True}


async def test_holding_for_a_stream_ends_when_the_front_end_drains(
    live_client: httpx2.AsyncClient, services: Services
) -> None:
    listening = asyncio.create_task(listen(live_client, f"{URL}?wait_s=9"))
    await asyncio.sleep(0)
    services.draining.set()
    await services.hub.drain(window_s=0)
    (bye,) = (await listening).messages
    assert (bye.event, json.loads(bye.data)) == ("hub.bye", {"reason": "drain", "reconnect": True})


async def test_one_viewer_too_many_is_reported_inside_a_200(world: MemoryWorld) -> None:
    world.add("gen_a")
    async with memory_services(world, limits=HubLimits(max_viewers=1, retry_ms=100)) as services:
        async with served(own_app(services), services) as client:
            first = asyncio.create_task(listen(client, URL))
            async with asyncio.timeout(20):
                while not services.hub.viewers():
                    await asyncio.sleep(0)
            second = await listen(client, URL)
            assert json.loads(second.messages[0].data) == {"reason": "limit", "reconnect": True}
            world.append("gen_a", Finish())
            assert len((await first).entries) == 1


async def test_entries_are_the_bytes_of_the_log(live_client: httpx2.AsyncClient, world: MemoryWorld) -> None:
    world.add("gen_a")
    odd = TextDelta(id="0", delta='tab\t, quote", line\n, é, 漢, \u2028, 😀, id: 9-9\n\ndata: x')
    world.append("gen_a", odd, Finish())
    received = await listen(live_client, URL)
    assert received.entries[0][1].encode() == encode_event(odd)
