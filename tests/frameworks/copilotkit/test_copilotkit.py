"""Pages of CopilotKit show the same messages, whenever they come and whichever side of the runtime is cut."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, Final

import pytest
import pytest_asyncio

from broadcaster.core import events as ev
from broadcaster.settings import Settings
from broadcaster.web.app import create_app
from tests.compat.node_clients import Json
from tests.dialects.ag_ui import ag_ui_streams as streams
from tests.frameworks.drivers import Drivers
from tests.frameworks.rows import Row
from tests.support.ag_ui_runs import Worker, messages_of
from tests.support.memory.memory_world import MemoryWorld, memory_services
from tests.support.servers.front_end import served

pytestmark = pytest.mark.asyncio(loop_scope="module")

COPILOTKIT: Final = Row("CopilotKit", "copilotkit", "ag-ui", finish=None)
MESSAGE: Final = {"id": "u1", "role": "user", "content": "Weather?"}
LOOP: Final = [event for event in streams.LOOP if not isinstance(event, ev.UnknownEvent)]

_numbers: Final = itertools.count(1)


@dataclass
class Pages:
    """A front-end, and pages of CopilotKit that run its agent through the runtime."""

    drivers: Drivers
    url: str
    worker: Worker

    async def run(self, *, is_joined: bool = True, **job: Any) -> Json:
        """What the pages of a new thread hold once its run is over; one joined halfway if ``is_joined``."""
        self.worker.may_end.clear()
        # All runtimes of a process share their threads.
        number = next(_numbers)
        thread = {"thread_id": f"t-{number}"}
        run = {"run_id": f"r-{number}", "messages": [MESSAGE], **thread, **job}
        await self.drivers.request(COPILOTKIT, "begin", url=self.url, **run)
        if is_joined:
            await self.drivers.request(COPILOTKIT, "join", **thread)
        self.worker.may_end.set()
        return await self.drivers.request(COPILOTKIT, "finish", **thread)


@pytest_asyncio.fixture(loop_scope="module")
async def pages(drivers: Drivers) -> AsyncIterator[Pages]:
    world = MemoryWorld()
    async with (
        memory_services(world) as services,
        served(create_app(Settings(), services=services), services) as client,
    ):
        yield Pages(drivers, f"{str(client.base_url).rstrip('/')}/agui", Worker(world, LOOP))


async def test_a_page_one_that_joins_halfway_and_one_that_comes_after_the_end_hold_the_same_messages(
    pages: Pages,
) -> None:
    alone = await pages.run(is_joined=False)
    whole = messages_of(alone["live"])
    assert [message["role"] for message in whole][:3] == ["user", "reasoning", "assistant"]
    assert whole[-1]["content"] == "Paris 18, Rome 22."
    assert messages_of(alone["after"]) == whole
    joined = await pages.run()
    assert [messages_of(joined[page]) for page in ("live", "joined", "after")] == [whole] * 3
    assert alone["failed"] == joined["failed"] == [None, None, None]


@pytest.mark.parametrize("cut", [{"cut": "page"}, {"cut": "runtime", "resumes": True}], ids=["page", "runtime"])
async def test_a_cut_on_either_side_of_the_runtime_leaves_every_page_the_same_messages(pages: Pages, cut: Json) -> None:
    whole = messages_of((await pages.run(is_joined=False))["live"])
    shown = await pages.run(**cut)
    assert [messages_of(shown[page]) for page in ("live", "joined", "after")] == [whole] * 3
    assert (shown["error"], shown["failed"]) == (None, [None, None, None])
    assert (shown["lost"] is not None) is (cut["cut"] == "page")


async def test_a_run_whose_runtime_is_cut_without_resuming_fetch_ends_with_an_error(pages: Pages) -> None:
    shown = await pages.run(is_joined=False, cut="runtime")
    assert shown["error"] is not None
    assert "Paris 18" not in str(shown["live"])
