"""Released clients of AG-UI lose their connection to ``/agui`` at every block in turn, and join runs of others.

Whatever they do, they end with the messages of a client that saw the whole run.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, Final

import httpx2
import pytest
from fastapi import FastAPI

from broadcaster.core import events as ev
from broadcaster.settings import Settings
from broadcaster.web.app import create_app
from broadcaster.web.services import Services
from tests.compat.node_clients import FOLDER, Driver, open_driver
from tests.dialects.ag_ui import ag_ui_streams as streams
from tests.support.ag_ui_runs import Worker, messages_of
from tests.support.memory.memory_world import MemoryWorld, memory_services
from tests.support.servers.front_end import DEADLINE_S, own_app, served

DOCUMENT: Final = FOLDER.parents[2] / "docs" / "ag-ui.md"
REQUEST: Final = {"id": "u1", "role": "user", "content": "Weather?"}
LOOP: Final = [event for event in streams.LOOP if not isinstance(event, ev.UnknownEvent)]
TORN: Final = [event for event in streams.STREAMS["new attempt"] if not isinstance(event, ev.UnknownEvent)]

Json = dict[str, Any]


@pytest.fixture
def app(services: Services) -> FastAPI:
    return own_app(services)


@pytest.fixture
async def agents() -> AsyncIterator[Driver]:
    async with open_driver("ag_ui_agent") as driver:
        yield driver


@pytest.fixture
async def chats() -> AsyncIterator[Driver]:
    async with open_driver("tanstack") as driver:
        yield driver


def address(client: httpx2.AsyncClient) -> str:
    return f"{str(client.base_url).rstrip('/')}/agui"


async def test_an_agent_that_is_cut_anywhere_and_one_that_is_late_join_the_run_and_hold_its_messages(
    live_client: httpx2.AsyncClient, world: MemoryWorld, agents: Driver
) -> None:
    worker = Worker(world, LOOP)

    async def rejoin(cut_behind: int | None) -> Json:
        ids = {"thread_id": f"t-{cut_behind}", "run_id": f"r-{cut_behind}"}
        return await agents.request(
            "rejoin", url=address(live_client), messages=[REQUEST], cut_behind=cut_behind, **ids
        )

    whole = await rejoin(None)
    assert whole["lost"] is None
    assert [message["role"] for message in whole["torn"]][:3] == ["user", "reasoning", "assistant"]
    worker.may_end.clear()
    lost = [asyncio.create_task(rejoin(cut_behind)) for cut_behind in (1, 5, 11, 15)]
    async with asyncio.timeout(DEADLINE_S):
        while len(world.streams) < 5:
            await asyncio.sleep(0)
    worker.may_end.set()
    for visible in await asyncio.gather(*lost):
        assert visible["lost"]["message"] == "terminated"
        assert len(visible["torn"]) < len(whole["torn"])
        assert messages_of(visible["final"]) == messages_of(visible["late"]) == messages_of(whole["torn"])


async def test_an_agent_whose_fetch_resumes_never_knows_that_it_was_cut(
    live_client: httpx2.AsyncClient, world: MemoryWorld, agents: Driver
) -> None:
    Worker(world, LOOP)

    async def resume(cut_behind: int | None) -> Json:
        ids = {"thread_id": f"t-{cut_behind}", "run_id": f"r-{cut_behind}"}
        return await agents.request(
            "resume", url=address(live_client), messages=[REQUEST], cut_behind=cut_behind, **ids
        )

    whole = await resume(None)
    for cut_behind, visible in enumerate(await asyncio.gather(*map(resume, range(1, 37))), start=1):
        assert [request["last_event_id"] is None for request in visible["requests"]] == [True, False], cut_behind
        assert (visible["lost"], visible["final"][0]) == (None, REQUEST)
        assert messages_of(visible["final"]) == messages_of(whole["final"]), f"cut behind block {cut_behind}"


@pytest.mark.parametrize(
    ("driver", "action", "job"),
    [("ag_ui_agent", "resume", {"messages": [REQUEST], "run_id": "r"}), ("tanstack", "send", {"text": "Weather?"})],
    ids=["an agent whose fetch resumes", "a chat of TanStack"],
)
async def test_a_client_continues_at_another_front_end_when_its_own_ends(
    live_client: httpx2.AsyncClient, services: Services, world: MemoryWorld, driver: str, action: str, job: Json
) -> None:
    worker = Worker(world, LOOP)
    worker.may_end.clear()
    async with (
        open_driver(driver) as client,
        memory_services(world, chats=services.chats) as others,
        served(create_app(Settings(), services=others), others) as later,
    ):
        urls = {"url": address(live_client), "later_url": address(later)}
        running = asyncio.create_task(client.request(action, thread_id="t", **urls, **job))
        async with asyncio.timeout(DEADLINE_S):
            while not services.hub.statistics().viewers:
                await asyncio.sleep(0)
        await services.hub.drain(window_s=0)
        worker.may_end.set()
        visible = await running
        whole = await client.request(action, thread_id="whole", **job, url=address(later))
    assert [request["url"] for request in visible["requests"]] == list(urls.values())
    assert messages_of(visible["final"]) == messages_of(whole["final"])
    assert [visible.get("errors"), visible.get("lost")] in ([[], None], [None, None])


async def test_an_agent_of_copilotkits_version_holds_no_thought_of_a_lost_worker(
    live_client: httpx2.AsyncClient, world: MemoryWorld, agents: Driver
) -> None:
    Worker(world, TORN)
    visible = await agents.request("run", url=address(live_client), messages=[REQUEST], version=0)
    thoughts = [message["content"] for message in visible["final"] if message["role"] == "reasoning"]
    assert [thought for thought in thoughts if thought] == ["Let me look.", "Now I know."]
    assert (visible["error"], visible["final"][-1]["content"]) == (None, "Paris 18, Rome 22.")


@pytest.mark.parametrize("name", ["joining_agent.mjs", "resuming_fetch.mjs"])
def test_the_agent_programs_in_the_documentation_are_those_that_run_here(name: str) -> None:
    assert (FOLDER / name).read_text("utf-8") in DOCUMENT.read_text("utf-8")


@pytest.mark.parametrize(
    ("events", "cuts"), [(LOOP, range(1, 37)), (TORN, range(9, 18))], ids=["agent loop", "new attempt"]
)
async def test_a_chat_of_tanstack_that_is_cut_anywhere_resumes_by_itself_and_doubles_nothing(
    live_client: httpx2.AsyncClient, world: MemoryWorld, chats: Driver, events: list[Any], cuts: range
) -> None:
    Worker(world, events)

    async def send(cut_behind: int | None) -> Json:
        job = {"thread_id": f"t-{cut_behind}", "text": "Weather?", "cut_behind": cut_behind}
        return await chats.request("send", url=address(live_client), **job)

    whole = await send(None)
    assert whole["final"][-1]["parts"] == [{"type": "text", "content": "Paris 18, Rome 22."}]
    for cut_behind, visible in zip(cuts, await asyncio.gather(*map(send, cuts)), strict=True):
        assert [request["method"] for request in visible["requests"]] == ["POST", "POST"], f"cut behind {cut_behind}"
        assert messages_of(visible["final"]) == messages_of(whole["final"]), f"cut behind block {cut_behind}"
        # A chat that joins behind a new attempt receives none.
        assert (visible["status"], visible["errors"] in ([], whole["errors"])) == ("ready", True)


async def test_a_chat_of_tanstack_that_knows_its_thread_joins_the_run_there_whether_it_is_over_or_not(
    live_client: httpx2.AsyncClient, world: MemoryWorld, chats: Driver
) -> None:
    worker, job = Worker(world, LOOP), {"url": address(live_client), "thread_id": "t"}
    worker.may_end.clear()
    sent = asyncio.create_task(chats.request("send", text="Weather?", **job))
    async with asyncio.timeout(DEADLINE_S):
        while not world.streams:
            await asyncio.sleep(0)
    joined = asyncio.create_task(chats.request("hydrate", **job))
    empty = await chats.request("hydrate", url=address(live_client), thread_id="another")
    worker.may_end.set()
    whole = messages_of((await sent)["final"])
    for visible in (await joined, await chats.request("hydrate", **job)):
        assert messages_of(visible["final"]) == whole
        assert (visible["status"], visible["errors"]) == ("ready", [])
    assert (empty["final"], empty["errors"]) == ([], [])
    assert len(world.requests) == 1
