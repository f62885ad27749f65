"""Conversations: the test answers a live request by hand."""

import asyncio
import json

import pytest

from broadcaster.testing import ClientGone, Conversation, ScriptedProvider, chat_wire, responses_wire, wire
from tests.testing.raw_client import RawClient, connected
from tests.testing.sdks import collect, scripted


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


async def test_writing_to_a_client_that_left_raises():
    async with ScriptedProvider() as provider, connected(provider) as client:
        conversation = provider.conversation("m")
        client.post("m")
        request = await conversation.request()
        client.writer.close()
        await request.wait_disconnected()
        with pytest.raises(ClientGone):
            await conversation.send_text("too late")


async def test_a_conversation_whose_request_never_comes_raises():
    with pytest.raises(TimeoutError, match="no request came"):
        await Conversation(timeout_s=0.01).send_text("to nobody")


async def test_one_script_of_calls_is_the_same_answer_on_every_wire():
    async with scripted() as sdks:
        answers = []
        for name in ("messages", "completions", "responses"):
            async with asyncio.TaskGroup() as tasks:
                answer = tasks.create_task(sdks.answer(name))
                conversation = sdks.server.conversation("m")
                await conversation.send_reasoning("Let ", "me.")
                await conversation.send_text("Hello ")
                await conversation.send_text("world")
                await conversation.send_tool("weather", '{"city": ', '"Paris"}')
                await conversation.send_tool("now", "{}", id="call_x")
                await conversation.finish()
            answers.append(answer.result())
    message, completion, response = answers
    assert message.stop_reason == "tool_use"
    assert [block.type for block in message.content] == ["thinking", "text", "tool_use", "tool_use"]
    assert message.content[1].text == "Hello world"
    assert (message.content[2].input, message.content[3].id) == ({"city": "Paris"}, "call_x")
    (choice,) = completion.choices
    assert (choice.message.content, choice.message.reasoning_content) == ("Hello world", "Let me.")
    assert [call.id for call in choice.message.tool_calls] == ["call_01", "call_x"]
    assert (choice.finish_reason, completion.usage.completion_tokens) == ("tool_calls", 2)
    assert [item.type for item in response.output] == ["reasoning", "message", "function_call", "function_call"]
    assert (response.output_text, response.output[2].call_id) == ("Hello world", "call_01")
    assert (response.status, response.usage.output_tokens) == ("completed", 2)


async def test_an_answer_ends_for_the_reason_that_the_test_gives():
    async with scripted() as sdks:
        answers = []
        for name, reason in (("messages", "max_tokens"), ("completions", "length"), ("responses", "content_filter")):
            async with asyncio.TaskGroup() as tasks:
                answer = tasks.create_task(sdks.answer(name))
                conversation = sdks.server.conversation("m")
                await conversation.send_text("half")
                await conversation.finish(reason)
            answers.append(answer.result())
    message, completion, response = answers
    assert message.stop_reason == "max_tokens"
    assert completion.choices[0].finish_reason == "length"
    assert (response.status, response.incomplete_details.reason) == ("incomplete", "content_filter")


async def test_a_refusal_has_its_own_place_or_its_own_reason():
    async with scripted() as sdks:
        answers = []
        for name in ("messages", "completions", "responses"):
            async with asyncio.TaskGroup() as tasks:
                answer = tasks.create_task(sdks.answer(name))
                conversation = sdks.server.conversation("m")
                await conversation.send_refusal("I ", "won't.")
                await conversation.finish()
            answers.append(answer.result())
    message, completion, response = answers
    assert (message.content[0].text, message.stop_reason) == ("I won't.", "refusal")
    assert (completion.choices[0].message.refusal, completion.choices[0].message.content) == ("I won't.", None)
    assert response.output[0].content[0].refusal == "I won't."


async def test_text_and_refusals_of_a_response_are_parts_of_one_message():
    async with scripted() as sdks, asyncio.TaskGroup() as tasks:
        conversation = sdks.server.conversation("m")
        reading = tasks.create_task(sdks.response(stream=True))
        await conversation.send_text("Well, ")
        await conversation.send_refusal("no.")
        await conversation.send_text("Sorry.")
        await conversation.finish()
        events = await collect(await reading)
    assert [event.sequence_number for event in events] == list(range(len(events)))
    (message,) = events[-1].response.output
    assert [part.type for part in message.content] == ["output_text", "refusal", "output_text"]
    assert events[-1].response.output_text == "Well, Sorry."


@pytest.mark.parametrize(
    ("path", "frame"),
    [
        ("/v1/messages", b'event: error\ndata: {"type":"error","error":{"type":"overloaded_error"'),
        ("/v1/chat/completions", b'data: {"error":{"message":"Overloaded","type":"server_overloaded"'),
        ("/v1/responses", b'event: error\ndata: {"type":"error","sequence_number":0,"code":"server_overloaded"'),
    ],
)
async def test_a_failure_without_a_type_is_the_wires_own_overload(path: str, frame: bytes):
    async with ScriptedProvider() as provider, connected(provider) as client:
        conversation = provider.conversation("m")
        client.post("m", path=path)
        await conversation.fail()
        await client.head()
        assert (await client.chunk()).startswith(frame)
        assert await client.chunk() == b""


@pytest.mark.parametrize(
    ("path", "block"),
    [
        ("/v1/messages", chat_wire.text("a")),
        ("/v1/chat/completions", responses_wire.text("a")),
        ("/v1/responses", wire.text("a")),
    ],
)
async def test_a_block_of_another_wire_is_refused(path: str, block: object):
    async with ScriptedProvider() as provider, connected(provider) as client:
        conversation = provider.conversation("m")
        client.post("m", path=path)
        with pytest.raises(TypeError, match="of the"):
            await conversation.send_block(block)
