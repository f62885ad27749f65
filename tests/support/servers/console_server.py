"""A front-end without Redis, worker or provider: scripted answers under the real app, for working on the console page.

    .venv/bin/python -m tests.support.servers.console_server [PORT]

The prompt decides what is played: "tools" calls tools, "fail" fails, "slow" takes its time, "retry" loses a worker,
"rewind" loses a piece of the log, "stall" stalls, "wait" stays queued, "long" is long.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Iterator

from broadcaster.core import events as ev
from broadcaster.core.notices import StallReason
from broadcaster.core.requests.titles import prompt_of
from broadcaster.settings import Settings
from broadcaster.web.app import create_app
from broadcaster.web.server.listener import open_listener
from broadcaster.web.server.runner import FrontEndServer
from tests.support.memory.memory_world import MemoryWorld, memory_services

PIECE_S = 0.03

REASONING = (
    "They ask how an answer can outlive the tab. I should explain the log first, then the viewers, and keep it short. "
    "An everyday picture may help: a radio station does not stop when one listener leaves."
)
ANSWER = (
    "An answer that is written down as it is spoken can be heard by anybody, from any point.\n\n"
    "The worker appends each piece, numbered, to a log. Whoever watches keeps only one number: how far they have read. "
    "Lose the connection and come back with that number, and the next piece is the one you missed — not the one after, "
    "and not one you have seen.\n\n"
    "1. Closing the tab stops nothing.\n2. Opening a second one shows the same answer.\n3. Only Stop stops it.\n"
)


def pieces(text: str) -> Iterator[str]:
    yield from (word + " " for word in text.split(" "))


class Player:
    """Plays the part of worker and provider."""

    def __init__(self, world: MemoryWorld) -> None:
        self._world = world
        self._tasks: set[asyncio.Task[None]] = set()
        world.on_create = self._begin

    def _begin(self, generation_id: str) -> None:
        task = asyncio.create_task(self._play(generation_id))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _play(self, generation_id: str) -> None:
        prompt = prompt_of(self._world.streams[generation_id].meta.request)
        await asyncio.sleep(600 if "wait" in prompt else 0.6)
        pause_s = 0.25 if "slow" in prompt else PIECE_S
        async for event in self._script(generation_id, prompt):
            if self._world.streams[generation_id].meta.is_over:
                return
            self._world.append(generation_id, event)
            await asyncio.sleep(pause_s)

    async def _script(self, generation_id: str, prompt: str) -> AsyncIterator[ev.KnownEvent]:
        yield ev.Start(message_id="msg_1")
        yield ev.StartStep()
        yield ev.ReasoningStart(id="0")
        for piece in pieces(REASONING):
            yield ev.ReasoningDelta(id="0", delta=piece)
        yield ev.ReasoningEnd(id="0")
        if "tools" in prompt:
            async for event in self._tools():
                yield event
        yield ev.TextStart(id="1")
        for piece in pieces(ANSWER * (12 if "long" in prompt else 1)):
            yield ev.TextDelta(id="1", delta=piece)
        if "fail" in prompt:
            yield ev.Error(error_text="the provider ended the answer in the middle", code="provider_truncated")
            return
        if "stall" in prompt:
            self._world.stall(generation_id, StallReason.WORKER_LOST)
            await asyncio.sleep(600)
        if "retry" in prompt:
            self._world.take_over(generation_id, 2)
            yield ev.Start(message_id="msg_2")
            yield ev.TextStart(id="1")
            for piece in pieces(ANSWER):
                yield ev.TextDelta(id="1", delta=piece)
        if "rewind" in prompt:
            self._world.lose_tail(generation_id, 60)
            for piece in pieces("(written again) " + ANSWER):
                yield ev.TextDelta(id="1", delta=piece)
        yield ev.TextEnd(id="1")
        yield ev.FinishStep(finish_reason="stop")
        yield ev.Usage(input_tokens=24, output_tokens=161)
        yield ev.Finish(finish_reason="stop")

    async def _tools(self) -> AsyncIterator[ev.KnownEvent]:
        yield ev.ToolInputStart(tool_call_id="t1", tool_name="search_docs")
        for piece in ('{"query": ', '"resumable', ' streams", ', '"limit": 3}'):
            yield ev.ToolInputDelta(tool_call_id="t1", input_text_delta=piece)
        arguments = {"query": "resumable streams", "limit": 3}
        yield ev.ToolInputAvailable(tool_call_id="t1", tool_name="search_docs", input=arguments)
        await asyncio.sleep(0.8)
        found = [{"title": "Server-sent events", "score": 0.93}, {"title": "Redis Streams", "score": 0.88}]
        yield ev.ToolOutputAvailable(tool_call_id="t1", output=found)
        yield ev.ToolInputAvailable(tool_call_id="t2", tool_name="read_page", input={"page": "nowhere"})
        yield ev.ToolOutputError(tool_call_id="t2", error_text="there is no such page")
        yield ev.SourceUrl(source_id="s", url="https://html.spec.whatwg.org/", title="Server-sent events, WHATWG")


async def serve(port: int) -> None:
    world = MemoryWorld()
    world.now_ms = lambda: int(time.time() * 1000)
    Player(world)
    async with memory_services(world) as services:
        app = create_app(Settings(), services=services)
        server = FrontEndServer(
            app,
            listener=open_listener("127.0.0.1", port),
            on_drain=lambda: services.hub.drain(window_s=0),
            drain_timeout_s=2,
            direct=app.state.direct,
        )
        print(f"http://127.0.0.1:{server.port}/", flush=True)
        await server.serve()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1]) if len(sys.argv) > 1 else 0))
