"""A provider whose loop runs in another thread than the test: every call reaches it there."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from broadcaster.fixtures.background import BackgroundLoop
from broadcaster.testing import Gate, Script, ScriptedProvider, Send, Wait, wire
from tests.testing.raw_client import connected


@pytest.fixture
def provider() -> Iterator[ScriptedProvider]:
    loop = BackgroundLoop()
    try:
        with loop.opened(ScriptedProvider) as opened:
            yield opened
    finally:
        loop.close()


async def test_a_conversation_is_answered_from_another_thread(provider: ScriptedProvider) -> None:
    conversation = provider.conversation("m")
    async with connected(provider) as client:
        sending = asyncio.create_task(conversation.send_text("Rivers"))
        await asyncio.sleep(0)  # it waits before the request comes
        client.post("m")
        await sending
        await client.head()
        await conversation.finish()
        assert b"Rivers" in b"".join(await client.chunks())


async def test_a_gate_is_opened_from_another_thread(provider: ScriptedProvider) -> None:
    gate = Gate()
    provider.script("m", Script(Send(wire.message_start()), Wait(gate), Send(wire.message_stop())))
    async with connected(provider) as client:
        client.post("m")
        await gate.wait_reached()
        gate.open()
        await client.head()
        assert b"message_stop" in b"".join(await client.chunks())


async def test_requests_and_disconnects_are_seen_from_another_thread(provider: ScriptedProvider) -> None:
    provider.conversation("m")
    waiting = asyncio.create_task(provider.wait_requests(1))
    await asyncio.sleep(0)
    async with connected(provider) as client:
        client.post("m")
        (request,) = await waiting
    await request.wait_disconnected()
