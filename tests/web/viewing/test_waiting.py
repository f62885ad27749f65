"""The result without a stream: waited for, by many at once, and never at the generation's cost."""

from __future__ import annotations

import asyncio

import httpx2
import pytest

from broadcaster.core.events import Finish, Start, TextDelta
from broadcaster.core.requests.stream_ids import LOCAL_TENANT
from broadcaster.errors import LogUnavailable
from broadcaster.hub.limits import HubLimits
from broadcaster.web.services import Services
from broadcaster.web.viewing.joining import find_stream
from broadcaster.web.viewing.waiting import preferred_wait_s
from tests.support.memory.memory_world import MemoryWorld, memory_services
from tests.support.servers.front_end import DEADLINE_S, in_process, own_app, served, until_watched

URL = "/v1/generations"
WAIT = {"prompt": "a", "stream": False}


def answer_at_once(world: MemoryWorld) -> None:
    world.on_create = lambda each: world.append(each, Start(), TextDelta(id="0", delta="blue"), Finish())


# ------------------------------------------------------------------------------------------------------------- by a get


async def test_waiting_answers_when_it_is_over(
    client: httpx2.AsyncClient, world: MemoryWorld, services: Services
) -> None:
    world.add("gen_a")
    world.append("gen_a", TextDelta(id="0", delta="bl"))
    waiting = asyncio.create_task(client.get(f"{URL}/gen_a?wait_s=9"))
    await until_watched(services, "gen_a")
    world.append("gen_a", TextDelta(id="0", delta="ue"))
    world.append("gen_a", Finish())
    body = (await waiting).json()
    assert (body["status"], body["text"]) == ("finished", "blue")
    assert not services.hub.viewers()


async def test_waiting_for_a_queued_generation_sees_its_end(
    client: httpx2.AsyncClient, world: MemoryWorld, services: Services
) -> None:
    world.add("gen_a")
    waiting = asyncio.create_task(client.get(f"{URL}/gen_a?wait_s=9"))
    await until_watched(services, "gen_a")
    world.append("gen_a", Finish())
    assert (await waiting).json()["status"] == "finished"


async def test_waiting_in_vain_answers_what_there_is(client: httpx2.AsyncClient, world: MemoryWorld) -> None:
    world.add("gen_a")
    world.append("gen_a", TextDelta(id="0", delta="bl"))
    body = (await client.get(f"{URL}/gen_a?wait_s=0.01")).json()
    assert (body["status"], body["text"]) == ("running", "bl")


async def test_waiting_for_what_is_over_does_not_wait(client: httpx2.AsyncClient, world: MemoryWorld) -> None:
    world.add("gen_a")
    world.append("gen_a", Finish())
    async with asyncio.timeout(DEADLINE_S):
        assert (await client.get(f"{URL}/gen_a?wait_s=1e9")).json()["status"] == "finished"


# -------------------------------------------------------------------------------------------------------- by the create


async def test_a_caller_that_wants_no_stream_gets_the_result(client: httpx2.AsyncClient, world: MemoryWorld) -> None:
    answer_at_once(world)
    response = await client.post(URL, json=WAIT)
    body = response.json()
    assert (response.status_code, body["status"], body["text"]) == (200, "finished", "blue")
    assert response.headers["location"] == f"{URL}/{body['id']}"
    assert response.headers["broadcaster-generation-id"] == body["id"]


@pytest.mark.parametrize(
    ("query", "body", "headers"),
    [
        ("", WAIT, {}),
        ("?wait_s=9", WAIT, {}),
        ("?wait_s=9", {"prompt": "a"}, {}),
        ("", {"prompt": "a"}, {"prefer": "respond-async, wait=9"}),
    ],
)
async def test_every_form_of_request_waits_for_the_end(
    client: httpx2.AsyncClient, world: MemoryWorld, services: Services, query: str, body: object, headers: dict
) -> None:
    waiting = asyncio.create_task(client.post(f"{URL}{query}", json=body, headers=headers))
    await until_watched(services, "gen_0001")
    world.append("gen_0001", TextDelta(id="0", delta="blue"))
    world.append("gen_0001", Finish())
    response = await waiting
    assert (response.status_code, response.json()["text"]) == (200, "blue")
    assert response.headers.get("preference-applied") == ("wait=9" if headers else None)


@pytest.mark.parametrize(("query", "headers"), [("?wait_s=0.01", {}), ("?wait_s=0", {}), ("", {"prefer": "wait=0"})])
async def test_a_generation_that_is_not_over_in_time_goes_on_and_is_answered_with_its_state(
    client: httpx2.AsyncClient, world: MemoryWorld, query: str, headers: dict
) -> None:
    world.on_create = lambda each: world.append(each, TextDelta(id="0", delta="bl"))
    response = await client.post(f"{URL}{query}", json=WAIT, headers=headers)
    assert (response.status_code, response.json()["status"]) == (202, "running")
    assert "text" not in response.json()
    assert not world.streams["gen_0001"].meta.is_over


async def test_no_wait_is_longer_than_the_setting(world: MemoryWorld) -> None:
    async with memory_services(world, long_poll_timeout_s=0.05) as services:
        async with in_process(own_app(services)) as client:
            response = await client.post(f"{URL}?wait_s=1e9", json=WAIT)
            assert (response.status_code, response.json()["status"]) == (202, "queued")
            preferred = await client.post(URL, json={"prompt": "a"}, headers={"prefer": "wait=86400"})
            assert (preferred.status_code, preferred.headers["preference-applied"]) == (202, "wait=0")


async def test_a_wait_that_was_too_short_goes_on_under_the_same_key(
    client: httpx2.AsyncClient, world: MemoryWorld
) -> None:
    key = {"idempotency-key": "once"}
    first = await client.post(f"{URL}?wait_s=0", json=WAIT, headers=key)
    world.append(first.json()["id"], Finish())
    repeated = await client.post(URL, json=WAIT, headers=key)
    assert (repeated.status_code, repeated.json()["id"]) == (200, first.json()["id"])
    assert repeated.headers["idempotent-replayed"] == "true"
    assert len(world.requests) == 1


async def test_a_stream_is_not_waited_for(client: httpx2.AsyncClient, world: MemoryWorld) -> None:
    response = await client.post(f"{URL}?wait_s=1", json={"prompt": "a", "stream": True})
    (fault,) = response.json()["errors"]
    assert (response.status_code, fault["in"], fault["name"]) == (400, "query", "wait_s")
    assert world.requests == []


# -------------------------------------------------------------------------------------------------- what ends it early


async def test_a_caller_that_disconnects_frees_its_place_at_once_and_leaves_the_generation_alone(
    live_client: httpx2.AsyncClient, world: MemoryWorld, services: Services
) -> None:
    call = asyncio.create_task(live_client.post(URL, json=WAIT))
    await until_watched(services, "gen_0001")
    call.cancel()
    await until_watched(services, "gen_0001", 0)
    world.append("gen_0001", TextDelta(id="0", delta="blue"), Finish())
    assert (await live_client.get(f"{URL}/gen_0001")).json()["text"] == "blue"


async def test_many_callers_that_wait_for_one_generation_share_one_room(
    live_client: httpx2.AsyncClient, world: MemoryWorld, services: Services
) -> None:
    world.add("gen_a")
    waiting = [asyncio.create_task(live_client.get(f"{URL}/gen_a?wait_s=9")) for _ in range(50)]
    await until_watched(services, "gen_a", 50)
    assert services.hub.statistics().rooms == 1
    world.append("gen_a", Finish())
    assert {(await each).json()["status"] for each in waiting} == {"finished"}


async def test_a_drain_answers_waiting_callers_with_the_state(
    live_client: httpx2.AsyncClient, world: MemoryWorld, services: Services
) -> None:
    world.add("gen_a")
    finding = asyncio.create_task(live_client.get(f"{URL}/gen_a?wait_s=9"))
    pending = asyncio.create_task(live_client.post(URL, json=WAIT))
    await until_watched(services, "gen_a")
    await until_watched(services, "gen_0002")
    await services.hub.drain(window_s=0)
    assert ((await finding).status_code, (await finding).json()["status"]) == (200, "queued")
    assert ((await pending).status_code, (await pending).json()["status"]) == (202, "queued")
    late = await live_client.post(URL, json=WAIT)
    assert (late.status_code, late.json()["code"]) == (503, "busy")
    assert len(world.requests) == 1  # nothing was created for it


async def test_a_waiting_caller_beyond_the_bound_is_refused(world: MemoryWorld) -> None:
    world.add("gen_a")
    async with memory_services(world, limits=HubLimits(max_viewers=1)) as services:
        async with served(own_app(services), services) as client:
            first = asyncio.create_task(client.get(f"{URL}/gen_a?wait_s=9"))
            await until_watched(services, "gen_a")
            second = await client.get(f"{URL}/gen_a?wait_s=9")
            assert (second.status_code, second.json()["code"]) == (503, "busy")
            refused = await client.post(URL, json=WAIT)
            assert (refused.status_code, refused.json()["code"], world.requests) == (503, "busy", [])
            world.append("gen_a", Finish())
            assert (await first).json()["status"] == "finished"


async def test_a_log_that_is_lost_while_it_is_awaited_is_reported_as_such(
    client: httpx2.AsyncClient, world: MemoryWorld
) -> None:
    def lose(_: str) -> None:
        world.away = True

    world.on_create = lose
    response = await client.post(URL, json=WAIT)
    assert (response.status_code, response.json()["code"]) == (503, "log_unavailable")
    (started,) = world.streams
    assert response.headers["broadcaster-generation-id"] == started


@pytest.mark.parametrize(
    ("prefer", "seconds"),
    [
        ("wait=10", 10), ("respond-async, wait=10", 10), ("respond-async; wait=3", 3), ("WAIT = 7", 7), ('wait="5"', 5),
        ("", None), ("wait", None), ("wait=", None), ("wait=-1", None), ("wait=1.5", None), ("wait=soon", None),
        ("await=3", None), ("x=wait=3", None), ("wait=99999999999", None),
    ],
)  # fmt: skip
def test_a_preference_to_wait_is_read_and_others_are_ignored(prefer: str, seconds: float | None) -> None:
    assert preferred_wait_s(prefer) == seconds


# ------------------------------------------------------------------------------------------- before it is there to find


async def test_a_caller_that_waits_for_a_stream_waits_on_while_the_log_does_not_answer(
    world: MemoryWorld, services: Services
) -> None:
    world.away = True
    finding = asyncio.create_task(find_stream(services, "gen_a", tenant=LOCAL_TENANT, wait_s=DEADLINE_S))
    await asyncio.sleep(0)
    world.add("gen_a")
    world.away = False
    assert (await finding).id == "gen_a"


@pytest.mark.parametrize("wait_s", [0, 0.01])
async def test_a_log_that_does_not_answer_in_time_is_reported_in_the_end(
    world: MemoryWorld, services: Services, wait_s: float
) -> None:
    world.away = True
    with pytest.raises(LogUnavailable):
        await find_stream(services, "gen_a", tenant=LOCAL_TENANT, wait_s=wait_s)
