"""Clients of chat and Messages disconnect: real processes, and a provider that sees when its request is closed."""

from __future__ import annotations

import asyncio
import contextlib
import time
from pathlib import Path
from typing import Any, Final

import httpx2

from broadcaster.testing.conversation import Conversation
from tests.faults.world import FaultWorld, open_world
from tests.support.log.valkey import ValkeyServer

GRACE_S: Final = 1.0
DEADLINE_S: Final = 20.0
LATE_S: Final = 5.0
MESSAGES: Final[list[Any]] = [{"role": "user", "content": "hi"}]
WAIT: Final = {"broadcaster-on-disconnect": "wait"}
CONTINUE: Final = {"broadcaster-on-disconnect": "continue"}
# The shortest that the settings take.
ABANDON_S: Final = 2.0


class Caller:
    """A call whose answer has begun and whose client may disconnect."""

    def __init__(
        self, world: FaultWorld, model: str, *, url: str, streamed: bool = True, surface: str = "chat"
    ) -> None:
        surfaces: dict[str, tuple[str, dict[str, Any]]] = {
            "chat": ("/v1/chat/completions", {"messages": MESSAGES}),
            "messages": ("/v1/messages", {"messages": MESSAGES, "max_tokens": 99}),
            "responses": ("/v1/responses", {"input": "hi"}),
        }
        path, fields = surfaces[surface]
        self._url = url + path
        self._body = {"model": model, "stream": streamed, **fields}
        self._received = asyncio.Event()
        self.provider: Conversation = world.scripted.conversation(model)
        self.stream_id = ""
        self.text = ""
        self._streamed = streamed

    async def begin(self, *, headers: dict[str, str] | None = None) -> Caller:
        """Until the client has the first text, or waits for the whole."""
        self._task = asyncio.create_task(self._call(headers or {}))
        await self.provider.send_text("half an answer")
        if self._streamed:
            async with asyncio.timeout(DEADLINE_S):
                await self._received.wait()
        return self

    async def finished(self) -> str:
        """The whole body, once the provider has finished."""
        await self.provider.finish()
        async with asyncio.timeout(DEADLINE_S):
            await self._task
        return self.text

    async def disconnect(self) -> float:
        """When it did."""
        self._task.cancel()
        await asyncio.wait({self._task})
        return time.monotonic()

    async def is_stopped_within(self, seconds: float) -> bool:
        """Whether the provider saw its request closed."""
        with contextlib.suppress(TimeoutError):
            await (await self.provider.request()).wait_disconnected(seconds)
            return True
        return False

    async def _call(self, headers: dict[str, str]) -> None:
        async with (
            httpx2.AsyncClient(timeout=60) as client,
            client.stream("POST", self._url, json=self._body, headers=headers) as response,
        ):
            self.stream_id = response.headers["broadcaster-generation-id"]
            async for chunk in response.aiter_text():
                self.text += chunk
                if "half" in chunk:
                    self._received.set()


async def test_an_answer_is_stopped_soon_after_its_client_disconnects_unless_it_or_another_viewer_waits(
    tmp_path: Path, server: ValkeyServer
) -> None:
    async with open_world(tmp_path, redis=server, lease_ttl_s=2, disconnect_grace_s=GRACE_S) as world:
        await world.worker()
        here, there = [(await world.front_end()).url for _ in range(2)]
        gone = [
            await Caller(world, "claude-chat", url=here).begin(),
            await Caller(world, "claude-messages", url=here, surface="messages").begin(),
            await Caller(world, "claude-whole", url=here, streamed=False).begin(),
        ]
        kept = [
            await Caller(world, "claude-waits", url=here).begin(headers=WAIT),
            await Caller(world, "claude-watched", url=here).begin(),
            await Caller(world, "claude-response", url=here, surface="responses").begin(),
        ]
        world.urls = [there]
        world.streams.append(kept[1].stream_id)
        (viewer,) = world.view(kept[1].stream_id)
        async with asyncio.timeout(DEADLINE_S):
            while not any(b"half an answer" in data for _, data in viewer.entries):
                await asyncio.sleep(0.01)
        left_at = min([await caller.disconnect() for caller in (*gone, *kept)])
        for caller in gone:
            assert await caller.is_stopped_within(GRACE_S + LATE_S)
        took_s = time.monotonic() - left_at
        assert GRACE_S * 0.9 < took_s < GRACE_S + LATE_S
        for caller in kept:
            assert not await caller.is_stopped_within(0.5)
            await caller.provider.finish()
        await world.settle()


async def test_an_answer_that_its_client_lets_continue_is_whole_after_every_grace(
    tmp_path: Path, server: ValkeyServer
) -> None:
    graces = {"disconnect_grace_s": GRACE_S, "abandon_grace_s": ABANDON_S, "retry_ms": 500}
    async with open_world(tmp_path, redis=server, lease_ttl_s=2, **graces) as world:
        await world.worker()
        url = (await world.front_end()).url
        waiting = await Caller(world, "claude-waits", url=url).begin(headers=WAIT)
        continuing = [
            await Caller(world, f"claude-{surface}", url=url, surface=surface).begin(headers=CONTINUE)
            for surface in ("chat", "messages", "responses")
        ]
        await asyncio.gather(*(caller.disconnect() for caller in (waiting, *continuing)))
        assert await waiting.is_stopped_within(DEADLINE_S)
        for caller in continuing:
            assert not await caller.is_stopped_within(0.5)
            await caller.provider.finish()
        await world.settle()
        async with httpx2.AsyncClient(base_url=url) as client:
            ends = [(await client.get(f"/v1/generations/{caller.stream_id}")).json() for caller in continuing]
        assert [end["status"] for end in ends] == ["finished"] * len(ends)


async def test_a_call_that_is_repeated_with_its_key_after_it_was_abandoned_gets_a_whole_answer(
    tmp_path: Path, server: ValkeyServer
) -> None:
    async with open_world(tmp_path, redis=server, lease_ttl_s=2, disconnect_grace_s=GRACE_S) as world:
        await world.worker()
        here, there = [(await world.front_end()).url for _ in range(2)]
        for streamed, surface in [(True, "chat"), (False, "messages")]:
            key = {"idempotency-key": f"{surface} {streamed}"}
            kind: dict[str, Any] = {"streamed": streamed, "surface": surface}
            gone = await Caller(world, "claude-again", url=here, **kind).begin(headers=key)
            await gone.disconnect()
            assert await gone.is_stopped_within(DEADLINE_S)
            repeated = await Caller(world, "claude-again", url=there, **kind).begin(headers=key)
            await repeated.provider.send_text(", and the other half")
            whole = await repeated.finished()
            assert "half an answer" in whole
            assert "and the other half" in whole
            assert "abandoned" not in whole
            assert repeated.stream_id != gone.stream_id
        await world.settle()
