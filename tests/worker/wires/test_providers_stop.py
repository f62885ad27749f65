"""Stopping: the provider sees its socket close at once, by whatever way the answer is left."""

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any

import pytest
import uvloop

from broadcaster.core import events as ev
from broadcaster.errors import ProviderFailed
from broadcaster.testing import BadJson, Gate, Hang, Headers, Script, Step, Wait
from tests.worker.providers.provider_support import (
    ANTHROPIC,
    CHAT,
    RESPONSES,
    Wire,
    on_every_wire,
    request_for,
    scripted,
)
from worker.providers.base import Provider, ProviderStream

Run = Callable[[Coroutine[Any, Any, None]], None]
BOUND_S = 1.0  # milliseconds, and what a busy machine adds

on_both_loops = pytest.mark.parametrize("run", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])


@on_both_loops
@on_every_wire
@pytest.mark.parametrize("stage", ["before headers", "before events", "midway"])
def test_cancelling_the_task_closes_the_providers_socket(run: Run, on: Wire, stage: str):
    steps: dict[str, tuple[Step, ...]] = {"before events": (Headers(),), "midway": (on.half(),)}

    async def check() -> None:
        gate = Gate()
        async with scripted(on) as (server, provider):
            server.script("claude-x", Script(*steps.get(stage, ()), Wait(gate)))
            task = asyncio.create_task(read_all(provider))
            await gate.wait_reached()
            await idle()
            stopped_at = asyncio.get_running_loop().time()
            task.cancel()
            await asyncio.wait([task])
            assert task.cancelled()
            assert await server.requests[0].wait_disconnected() - stopped_at < BOUND_S

    run(check())


class Left(Exception):
    """The attempt's own reason to leave."""


async def leave_by_break(stream: ProviderStream) -> None:
    async for _ in stream:
        break


async def leave_by_error(stream: ProviderStream) -> None:
    async for _ in stream:
        raise Left


async def leave_unread(stream: ProviderStream) -> None:
    pass


@on_both_loops
@on_every_wire
@pytest.mark.parametrize("leave", [leave_by_break, leave_by_error, leave_unread])
def test_leaving_the_block_closes_the_providers_socket(
    run: Run, on: Wire, leave: Callable[[ProviderStream], Coroutine[Any, Any, None]]
):
    async def check() -> None:
        async with scripted(on) as (server, provider):
            server.script("claude-x", Script(on.half(), Hang()))
            with suppress(Left):
                async with provider.stream(request_for("claude-x")) as stream:
                    await leave(stream)
            left_at = asyncio.get_running_loop().time()
            assert await server.requests[0].wait_disconnected() - left_at < BOUND_S

    run(check())


async def test_one_cancelled_answer_does_not_disturb_the_others():
    async with scripted() as (server, provider):
        staying, leaving = server.conversation("stays"), server.conversation("leaves")
        stays = asyncio.create_task(read_all(provider, "stays"))
        leaves = asyncio.create_task(read_all(provider, "leaves"))
        await staying.send_text("a")
        await leaving.send_text("b")
        leaves.cancel()
        await (await leaving.request()).wait_disconnected()
        await staying.finish()
        assert isinstance((await stays)[-1], ev.Finish)


@pytest.mark.parametrize(
    ("on", "input_tokens"), [(ANTHROPIC, 25), (CHAT, None), (RESPONSES, None)], ids=["anthropic", "chat", "responses"]
)
async def test_after_a_stop_the_output_is_estimated_and_the_input_is_what_the_wire_has_reported(
    on: Wire, input_tokens: int | None
):
    async with scripted(on) as (server, provider):
        server.script("claude-x", Script(on.half(), Hang()))
        async with provider.stream(request_for("claude-x")) as stream:
            batches = aiter(stream)
            events: list[ev.Event] = []
            while sum(isinstance(event, ev.TextDelta) for event in events) < 2:
                events += await anext(batches)
        usage = stream.usage_so_far()
    assert (usage.input_tokens, usage.output_tokens, usage.estimated) == (input_tokens, 4, True)  # 14 bytes


@on_every_wire
async def test_a_failure_closes_the_socket_too(on: Wire):
    async with scripted(on) as (server, provider):
        server.script("claude-x", Script(on.half(), BadJson(), Hang()))
        with pytest.raises(ProviderFailed):
            await read_all(provider)
        await server.requests[0].wait_disconnected()


@on_every_wire
async def test_closing_the_provider_leaves_no_connection_behind(on: Wire):
    async with scripted(on) as (server, provider):
        server.script("claude-x", Script(on.half(), Hang()))
        task = asyncio.create_task(read_all(provider))
        await server.wait_requests(1)
        task.cancel()
        await asyncio.wait([task])
        await provider.aclose()
        await server.requests[0].wait_disconnected()


async def read_all(provider: Provider, model: str = "claude-x") -> list[ev.Event]:
    events: list[ev.Event] = []
    async with provider.stream(request_for(model)) as stream:
        async for batch in stream:
            events += batch
    return events


async def idle() -> None:
    """Some loop turns, in which whatever has been sent on the loopback is read."""
    for _ in range(20):
        await asyncio.sleep(0)
