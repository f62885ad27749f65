"""What the server makes of a path, a key, a model, on every wire."""

import json
from typing import Any

import anthropic
import openai
import pytest

from broadcaster.testing import Headers, PacedText, Script, ScriptedProvider, Send, chat_wire
from tests.testing.raw_client import RawClient, connected
from tests.testing.sdks import collect, opened, scripted

FIRST = {
    "/v1/messages": b'"type":"message_start"',
    "/v1/chat/completions": b'"role":"assistant"',
    "/v1/responses": b'"type":"response.created"',
}
"""What is in the first event, by path."""
PATHS = list(FIRST)


async def body_of(client: RawClient) -> tuple[bytes, Any]:
    """Head and JSON of an answer that is no stream."""
    head = await client.head()
    length = int(head.partition(b"content-length: ")[2].partition(b"\r")[0])
    return head, json.loads(await client.reader.readexactly(length))


@pytest.mark.parametrize("path", [*PATHS, *(path.removeprefix("/v1") for path in PATHS), "/v1/messages?beta=true"])
async def test_a_wire_is_chosen_by_the_path_with_and_without_its_version(path: str):
    async with ScriptedProvider() as provider, connected(provider) as client:
        client.post(path=path)
        head = await client.head()
        assert head.startswith(b"HTTP/1.1 200")
        first = (await client.chunks())[0]
        name = (
            "message_start" if "messages" in path else "response.created" if "responses" in path else "chat.completion"
        )
        assert name.encode() in first


@pytest.mark.parametrize(
    ("path", "header"), list(zip(PATHS, ["request-id", "x-request-id", "x-request-id"], strict=True))
)
@pytest.mark.parametrize("stream", [True, False])
async def test_every_answer_is_named_in_the_header_of_its_wire(path: str, header: str, stream: bool):
    async with ScriptedProvider() as provider, connected(provider) as client:
        client.post(path=path, stream=stream)
        assert f"\r\n{header}: req_scripted_1\r\n".encode() in await client.head()


@pytest.mark.parametrize("path", PATHS)
async def test_without_stream_the_head_can_still_go_out_alone_and_the_object_follows(path: str):
    async with ScriptedProvider() as provider, connected(provider) as client:
        provider.script("m", Script(Headers({"x-extra": "1"}), *Script.of_text("Hello").steps))
        client.post(path=path, stream=False)
        head = await client.head()
        assert b"x-extra: 1" in head
        assert b"content-type: application/json" in head
        (chunk,) = await client.chunks()
        assert "Hello" in json.dumps(json.loads(chunk))


@pytest.mark.parametrize("path", PATHS)
async def test_an_answer_names_the_requested_model(path: str):
    async with ScriptedProvider() as provider, connected(provider) as client:
        client.post("any-model", path=path, stream=False)
        _, body = await body_of(client)
        assert body["model"] == "any-model"


@pytest.mark.parametrize("name", ["messages", "completions", "responses"])
async def test_paced_text_counts_its_pieces_on_every_wire(name: str):
    async with scripted() as sdks:
        sdks.server.script("m", Script(PacedText(tokens=3, rate=1000)))
        answer = await sdks.answer(name)
        assert "word0 word1 word2 " in answer.model_dump_json()
        counts = answer.usage.model_dump()
        assert counts["completion_tokens" if name == "completions" else "output_tokens"] == 3
        assert len(await collect(await sdks.answer(name, stream=True))) >= 5


async def test_the_beginning_of_paced_text_does_not_wait_for_the_first_piece():
    async with ScriptedProvider() as provider:
        provider.script("m", Script(PacedText(tokens=1, rate=0.01)))
        for path, first in FIRST.items():
            async with connected(provider) as client:
                client.post(path=path)
                await client.head()
                assert first in await client.chunk()


async def test_the_models_are_listed_for_both_sdks():
    async with scripted() as sdks:
        sdks.server.script("mine", Script.of_text("a"))
        sdks.server.conversation("yours")
        await sdks.completion(model="nobody-scripted-this")
        expected = ["claude-scripted", "gpt-scripted", "mine", "yours"]
        claude = [model async for model in sdks.claude.models.list()]
        assert [model.id for model in claude] == expected
        assert claude[0].created_at.year == 2025
        assert [model.id async for model in sdks.openai.models.list()] == expected


async def test_a_provider_with_a_key_refuses_every_other_one_in_the_shape_of_the_wire():
    async with ScriptedProvider(api_key="right") as server:
        async with opened(server, api_key="wrong") as sdks:
            for call in (sdks.message, lambda **fields: anext(aiter(sdks.claude.models.list()))):
                with pytest.raises(anthropic.AuthenticationError) as refused:
                    await call()
                assert refused.value.type == "authentication_error"
            for stream in (True, False):
                for request in (sdks.completion, sdks.response):
                    with pytest.raises(openai.AuthenticationError) as unknown:
                        await request(stream=stream)
                    assert unknown.value.code == "invalid_api_key"
                    assert "wrong" not in unknown.value.message
        async with opened(server, api_key="right") as sdks:
            assert (await sdks.message()).content[0].text == "Hello world."
            assert (await sdks.completion()).choices[0].message.content == "Hello world."
            assert (await sdks.response()).output_text == "Hello world."


@pytest.mark.parametrize("header", ["x-api-key: right", "X-Api-Key: right", "authorization: Bearer right"])
async def test_a_key_may_come_in_either_header(header: str):
    async with ScriptedProvider(api_key="right") as server, connected(server) as client:
        client.send(f"GET /v1/models HTTP/1.1\r\nHost: x\r\n{header}\r\n\r\n".encode())
        assert (await client.head()).startswith(b"HTTP/1.1 200")


async def test_several_choices_and_counts_in_every_chunk_fold_like_the_rest():
    odd = [
        chat_wire.text_delta("one", index=0, usage=chat_wire.counts(completion_tokens=1)),
        chat_wire.text_delta("two", index=1),
        chat_wire.finish_chunk("stop", index=0),
        chat_wire.finish_chunk("length", index=1, usage=chat_wire.counts(completion_tokens=2)),
        chat_wire.DONE,
    ]
    async with scripted() as sdks:
        sdks.server.script("m", Script(Send(*odd)))
        completion = await sdks.completion()
        assert [choice.message.content for choice in completion.choices] == ["one", "two"]
        assert completion.usage.completion_tokens == 2
