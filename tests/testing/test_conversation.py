"""Conversations: the test answers a live request by hand."""

import asyncio
import json

import pytest

from broadcaster.testing import ClientGone, Conversation, ScriptedProvider, wire
from tests.testing.raw_client import RawClient, connected


async def next_event(client: RawClient) -> wire.WireEvent:
    event: wire.WireEvent = json.loads((await client.chunk()).partition(b"data: ")[2])
    return event


async def test_text_is_sent_piece_by_piece_with_whatever_start_is_missing():
    async with ScriptedProvider() as provider, connected(provider) as client:
        conversation = provider.conversation("m")
        client.post("m")
        await conversation.send_text("Hello ")
        await client.head()
        assert [(await next_event(client))["type"] for _ in range(2)] == ["message_start", "content_block_start"]
        assert (await next_event(client))["delta"]["text"] == "Hello "
        await conversation.send_text("world")
        assert (await next_event(client))["delta"]["text"] == "world"
        await conversation.send_block(wire.tool_use("f", "{}"))
        await conversation.send_text("after")
        await conversation.finish()
        rest = [json.loads(chunk.partition(b"data: ")[2]) for chunk in await client.chunks()]
        assert [(event["type"], event.get("index")) for event in rest] == [
            ("content_block_stop", 0),
            ("content_block_start", 1),
            ("content_block_delta", 1),
            ("content_block_stop", 1),
            ("content_block_start", 2),
            ("content_block_delta", 2),
            ("content_block_stop", 2),
            ("message_delta", None),
            ("message_stop", None),
        ]


async def test_a_failure_is_an_error_event_and_the_end():
    async with ScriptedProvider() as provider, connected(provider) as client:
        conversation = provider.conversation("m")
        client.post("m")
        await conversation.fail("api_error", "broken")
        await client.head()
        assert (await next_event(client))["error"] == {"type": "api_error", "message": "broken"}
        assert await client.chunk() == b""


@pytest.mark.parametrize("end", ["cut", "reset"])
async def test_the_connection_can_be_broken_by_hand(end: str):
    async with ScriptedProvider() as provider, connected(provider) as client:
        conversation = provider.conversation("m")
        client.post("m")
        await conversation.send_raw(b": hello\n\n")
        await client.head()
        await client.chunk()
        await getattr(conversation, end)()
        with pytest.raises((asyncio.IncompleteReadError, ConnectionResetError)):
            await client.chunk()


async def test_each_conversation_takes_one_request_and_then_the_scripts_go_on():
    async with ScriptedProvider() as provider, connected(provider) as one, connected(provider) as two:
        first, second = provider.conversation("m"), provider.conversation("m")
        one.post("m")
        assert (await first.request()).connection == 1
        two.post("m")
        assert (await second.request()).connection == 2
        await second.truncate()
        await two.head()
        assert await two.chunks() == []
        two.post("m")
        await two.head()
        assert len(await two.chunks()) == 8


async def test_writing_to_a_client_that_left_says_so():
    async with ScriptedProvider() as provider, connected(provider) as client:
        conversation = provider.conversation("m")
        client.post("m")
        request = await conversation.request()
        client.writer.close()
        await request.wait_disconnected()
        with pytest.raises(ClientGone):
            await conversation.send_text("too late")


async def test_a_conversation_whose_request_never_comes_says_so():
    with pytest.raises(TimeoutError, match="no request came"):
        await Conversation(timeout_s=0.01).send_text("to nobody")
