"""Tools in real workers: killed in the middle of a call, stopped, watched."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from broadcaster.client import AsyncClient, Generation
from broadcaster.log.redis.connect import LogConnection
from broadcaster.testing import Cut, Hang, Script, ScriptedProvider, Send, wire
from tests.e2e.test_workers import folded, until_text
from tests.support.servers.processes import Running, Stack, open_stack
from tests.support.watching import watch

MODEL = "claude-scripted"
TOOLS = "tests.support.apps.tool_box:box"
DEADLINE_S = 30.0
DONE = Script.of_text("It is ", "sunny.")


def call(name: str) -> Script:
    """A step that writes text and calls a tool."""
    blocks = wire.text("Let me look. "), wire.tool_use(name, '{"city":', '"Paris"}')
    return Script(Send(*wire.message(*blocks, stop_reason="tool_use")))


@dataclass
class House:
    """A front-end and as many workers as the test starts, all with the tools; their runs are in a file."""

    stack: Stack
    folder: Path
    client: AsyncClient
    front_end: Running

    @property
    def runs(self) -> list[str]:
        """The idempotency key of each run."""
        path = self.folder / "runs"
        return path.read_text().split() if path.exists() else []

    def hold(self) -> None:
        """From now on calls do not come back."""
        (self.folder / "hold").touch()

    def let_go(self) -> None:
        (self.folder / "hold").unlink()

    async def generate(self, name: str, **options: Any) -> Generation:
        return await self.client.start("Paris?", tools=[{"name": name}], **options)

    async def until_run(self, count: int) -> None:
        async with asyncio.timeout(DEADLINE_S):
            while len(self.runs) < count:
                await asyncio.sleep(0.01)

    async def until_over(self, generation: Generation) -> Generation:
        async with asyncio.timeout(DEADLINE_S):
            while (known := await self.client.get(generation.id, wait_s=5)).status in ("queued", "running"):
                pass
        return known


@pytest.fixture
async def house(tmp_path: Path, connection: LogConnection, scripted: ScriptedProvider) -> AsyncIterator[House]:
    async with open_stack(
        tmp_path,
        redis_url=connection.url,
        provider_url=scripted.base_url,
        default_model=MODEL,
        lease_ttl_s=1,
        tools=TOOLS,
    ) as stack:
        stack.environment = {
            **stack.environment,
            "TOOL_RUNS": str(tmp_path / "runs"),
            "TOOL_HOLD": str(tmp_path / "hold"),
        }
        front_end = await stack.front_end()
        async with AsyncClient(front_end.url) as client:
            yield House(stack, tmp_path, client, front_end)


async def test_viewers_see_the_call_its_progress_and_its_output_in_one_answer(
    house: House, scripted: ScriptedProvider, connection: LogConnection
) -> None:
    await house.stack.worker()
    scripted.script(MODEL, call("weather"), DONE)
    generation = await house.generate("weather")
    seen = await watch(house.front_end.url, generation.id, timeout_s=DEADLINE_S)
    types = [json.loads(event)["type"] for _, event in seen.entries]
    for wanted in ("tool-input-available", "data-progress", "tool-output-available"):
        assert types.count(wanted) == 1
    assert [types.count(name) for name in ("start", "start-step", "finish-step", "finish")] == [1, 2, 2, 1]
    state = (await folded(connection, generation.id)).state
    assert state.text == "Let me look. It is sunny."
    assert house.runs == [f"{generation.id}:1:0"]


async def test_a_worker_killed_in_a_call_that_may_be_repeated_is_followed_by_one_that_repeats_it(
    house: House, scripted: ScriptedProvider, connection: LogConnection
) -> None:
    house.hold()
    first = await house.stack.worker()
    scripted.script(MODEL, call("weather"), DONE)
    generation = await house.generate("weather")
    viewer = asyncio.create_task(watch(house.front_end.url, generation.id, timeout_s=DEADLINE_S))
    await house.until_run(1)
    await until_text(connection, generation.id, "data-progress")
    await first.kill()
    await house.stack.worker()
    await house.until_run(2)
    house.let_go()
    over = await house.until_over(generation)
    assert (over.status, over.text) == ("finished", "Let me look. It is sunny.")
    assert house.runs == [f"{generation.id}:1:0"] * 2
    assert len(scripted.requests) == 2
    state = (await folded(connection, generation.id)).state
    assert state.attempt == 2
    assert [part["state"] for part in state.parts if part["type"] == "tool"] == ["output-available"]
    assert json.loads((await viewer).entries[-1][1])["type"] == "finish"


@pytest.mark.parametrize("name", ["book", "slow"])
async def test_a_worker_killed_in_a_call_that_may_not_be_repeated_leaves_an_unknown_outcome(
    house: House, scripted: ScriptedProvider, connection: LogConnection, name: str
) -> None:
    house.hold()
    first = await house.stack.worker()
    scripted.script(MODEL, call(name), DONE)
    generation = await house.generate(name)
    await house.until_run(1)
    await first.kill()
    await house.stack.worker()
    over = await house.until_over(generation)
    assert over.status == "failed"
    assert over.error is not None
    assert over.error.code == "tool_outcome_unknown"
    assert house.runs == [f"{generation.id}:1:0"]
    assert (await folded(connection, generation.id)).state.text == "Let me look. "


async def test_a_worker_killed_after_a_call_is_followed_by_one_that_uses_its_output(
    house: House, scripted: ScriptedProvider, connection: LogConnection
) -> None:
    first = await house.stack.worker()
    scripted.script(MODEL, call("book"), Script(Hang()), DONE)
    generation = await house.generate("book")
    await scripted.wait_requests(2, timeout_s=DEADLINE_S)
    await first.kill()
    await house.stack.worker()
    over = await house.until_over(generation)
    assert (over.status, over.text) == ("finished", "Let me look. It is sunny.")
    assert house.runs == [f"{generation.id}:1:0"]
    histories = [request.body["messages"] for request in scripted.requests]
    assert histories[1] == histories[2]
    assert (await folded(connection, generation.id)).state.attempt == 2


async def test_a_step_that_the_provider_breaks_off_is_retried_without_a_second_run_of_its_tool(
    house: House, scripted: ScriptedProvider, connection: LogConnection
) -> None:
    await house.stack.worker()
    half = Script(Send(wire.message_start(), *wire.block_events(0, wire.text("half "))[:2]), Cut())
    scripted.script(MODEL, call("book"), half, DONE)
    generation = await house.generate("book", on_provider_loss="retry")
    over = await house.until_over(generation)
    assert (over.status, over.text) == ("finished", "Let me look. It is sunny.")
    assert house.runs == [f"{generation.id}:1:0"]
    assert (await folded(connection, generation.id)).state.attempt == 2


async def test_a_stop_ends_a_call_at_once_and_a_thread_that_goes_on_changes_nothing(
    house: House, scripted: ScriptedProvider, connection: LogConnection
) -> None:
    house.hold()
    worker = await house.stack.worker()
    scripted.script(MODEL, call("slow"))
    generation = await house.generate("slow")
    await house.until_run(1)
    await house.client.stop(generation.id)
    over = await house.until_over(generation)
    assert over.status == "aborted"
    house.let_go()
    worker.signal(signal.SIGTERM)
    async with asyncio.timeout(DEADLINE_S):
        assert await worker.process.wait() == 0
    assert (await folded(connection, generation.id)).state.status == "aborted"


async def test_a_worker_ends_although_a_thread_of_a_tool_does_not(house: House, scripted: ScriptedProvider) -> None:
    house.hold()
    worker = await house.stack.worker(drain_s=0)
    scripted.script(MODEL, call("slow"))
    await house.generate("slow")
    await house.until_run(1)
    worker.signal(signal.SIGTERM)
    async with asyncio.timeout(DEADLINE_S):
        assert await worker.process.wait() == 0


async def test_a_worker_whose_tools_cannot_be_loaded_reports_that_and_does_not_start(house: House) -> None:
    worker = await house.stack.start("worker", environment={"BROADCASTER_TOOLS": "no.such.module:box"})
    async with asyncio.timeout(DEADLINE_S):
        assert await worker.process.wait() == 2
    assert "error: BROADCASTER_TOOLS: no.such.module cannot be imported" in worker.log.read_text()
