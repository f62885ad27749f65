"""Every fault, on every wire, does to the real SDKs what the real thing does to them."""

import asyncio
import json
from collections.abc import Callable
from typing import Any

import anthropic
import httpx2
import openai
import pytest

from broadcaster.testing import (
    Answer,
    BadJson,
    Cut,
    Gate,
    Hang,
    Headers,
    Reset,
    Script,
    Send,
    SendCut,
    SendRaw,
    Step,
    Wait,
    chat_wire,
    responses_wire,
    wire,
)
from tests.testing.sdks import MESSAGES, collect, scripted

WIRES = ["messages", "completions", "responses"]
EVENTS: dict[str, list[wire.WireEvent]] = {
    "messages": wire.message(wire.text("half an ", "answer")),
    "completions": chat_wire.answer(chat_wire.text("half an ", "answer")),
    "responses": responses_wire.answer(responses_wire.text("half an ", "answer")),
}
FRAMES: dict[str, Callable[[wire.WireEvent], bytes]] = {
    "messages": wire.frame,
    "completions": chat_wire.frame,
    "responses": responses_wire.frame,
}
NO_ANTHROPIC_ERROR = (httpx2.RemoteProtocolError, httpx2.ReadError)
"""What Anthropic's SDK lets through when a stream breaks: it maps errors before the stream only."""

every_wire = pytest.mark.parametrize("name", WIRES)


def half(name: str) -> Send:
    """Everything up to the last piece of text."""
    texts = [index for index, event in enumerate(EVENTS[name]) if '"answer"' in json.dumps(event)]
    return Send(*EVENTS[name][: texts[0] + 1])


async def streamed(name: str, *steps: Step, timeout_s: float = 5.0) -> list[Any]:
    async with scripted(timeout_s=timeout_s) as sdks:
        sdks.server.script("m", Script(*steps))
        return await collect(await sdks.answer(name, stream=True))


async def whole(name: str, *steps: Step, timeout_s: float = 5.0) -> Any:
    async with scripted(timeout_s=timeout_s) as sdks:
        sdks.server.script("m", Script(*steps))
        return await sdks.answer(name)


def text_of(events: list[Any]) -> str:
    """The text in the deltas of any wire."""
    found = ""
    for event in events:
        match getattr(event, "type", "chunk"):
            case "content_block_delta":
                found += event.delta.text
            case "response.output_text.delta":
                found += event.delta
            case "chunk":
                found += "".join(choice.delta.content or "" for choice in event.choices)
    return found


# -------------------------------------------------------------------------------------------------------------- status


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, "BadRequestError"),
        (401, "AuthenticationError"),
        (403, "PermissionDeniedError"),
        (404, "NotFoundError"),
        (409, "ConflictError"),
        (422, "UnprocessableEntityError"),
        (429, "RateLimitError"),
        (500, "InternalServerError"),
        (503, "InternalServerError"),
        (529, "InternalServerError"),
    ],
)
@every_wire
async def test_a_status_is_the_sdks_own_error_with_the_request_id_and_the_wires_body(
    name: str, status: int, error: str
):
    sdk: Any = anthropic if name == "messages" else openai
    for call in (streamed, whole):
        with pytest.raises(getattr(sdk, error)) as caught:
            await call(name, Answer(status, message="because"))
        assert caught.value.status_code == status
        assert caught.value.request_id == "req_scripted_1"
        assert "because" in caught.value.message
        if name == "messages":
            assert caught.value.body["error"]["type"] == wire.ERROR_TYPES.get(status, "api_error")
        else:
            assert (caught.value.type, caught.value.code) == chat_wire.ERROR_TYPES[status]


@every_wire
async def test_refusals_before_the_answer_are_retried_by_the_sdk_and_counted_by_the_server(name: str):
    at_once = {"retry-after-ms": "1"}
    async with scripted() as sdks:
        sdks.server.script("m", *[Script(Answer(529, headers=at_once))] * 2, Script(Send(*EVENTS[name])))
        client: Any = sdks.claude if name == "messages" else sdks.openai
        client.max_retries = 2
        assert text_of(await collect(await sdks.answer(name, stream=True))) == "half an answer"
        retries = [request.headers["x-stainless-retry-count"] for request in sdks.server.requests]
        assert retries == ["0", "1", "2"]


@every_wire
async def test_a_cut_after_the_head_is_not_retried(name: str):
    async with scripted() as sdks:
        client: Any = sdks.claude if name == "messages" else sdks.openai
        client.max_retries = 2
        sdks.server.script("m", Script(Headers(), Cut()))
        with pytest.raises((openai.APIConnectionError, *NO_ANTHROPIC_ERROR)):
            await collect(await sdks.answer(name, stream=True))
        assert len(sdks.server.requests) == 1


# ------------------------------------------------------------------------------------------------ errors in the stream


async def test_an_error_in_a_stream_of_messages_has_status_200_and_its_type():
    with pytest.raises(anthropic.APIStatusError) as caught:
        await streamed("messages", half("messages"), Send(wire.error("overloaded_error", "busy")))
    assert (caught.value.status_code, caught.value.type) == (200, "overloaded_error")
    assert caught.value.request_id == "req_scripted_1"


async def test_an_error_in_a_stream_of_chunks_is_an_api_error_with_its_type_and_code():
    failure = chat_wire.error("server_error", "busy", code="server_overloaded")
    with pytest.raises(openai.APIError) as caught:
        await streamed("completions", half("completions"), Send(failure))
    assert (caught.value.message, caught.value.type, caught.value.code) == ("busy", "server_error", "server_overloaded")


@pytest.mark.parametrize(
    ("failure", "type"),
    [
        (responses_wire.error("rate_limit_exceeded", "busy"), "error"),
        (responses_wire.failed("rate_limit_exceeded", "busy"), "response.failed"),
    ],
)
async def test_an_error_in_a_stream_of_a_response_is_an_event_and_the_helper_has_no_final_answer(
    failure: wire.WireEvent, type: str
):
    async with scripted() as sdks:
        sdks.server.script("m", Script(half("responses"), Send(failure)))
        last = (await collect(await sdks.response(stream=True)))[-1]
        error = last if type == "error" else last.response.error
        assert (last.type, error.code, error.message) == (type, "rate_limit_exceeded", "busy")
        async with sdks.openai.responses.stream(model="m", input="Hi") as stream:
            with pytest.raises(RuntimeError):
                await stream.get_final_response()


@pytest.mark.parametrize(
    ("name", "failure", "status"),
    [
        ("messages", wire.error("overloaded_error"), 529),
        ("messages", wire.error("rate_limit_error"), 429),
        ("messages", wire.error("brand_new_error"), 500),
        ("completions", chat_wire.error("server_error", code="server_overloaded"), 503),
        ("completions", chat_wire.error("insufficient_quota"), 429),
        ("completions", {"error": "out of memory"}, 500),
        ("responses", responses_wire.error("rate_limit_exceeded"), 429),
        ("responses", responses_wire.error("brand_new_error"), 500),
        ("responses", chat_wire.error("server_error"), 500),
        ("responses", {"type": "error", **chat_wire.error("rate_limit_exceeded")}, 429),
    ],
)
async def test_an_error_in_the_stream_is_a_status_for_a_request_without_stream(
    name: str, failure: wire.WireEvent, status: int
):
    sdk: Any = anthropic if name == "messages" else openai
    with pytest.raises(sdk.APIStatusError) as caught:
        await whole(name, half(name), Send(failure))
    assert caught.value.status_code == status


async def test_a_failed_response_is_complete_with_its_error():
    response = await whole("responses", Send(*responses_wire.failed_answer(responses_wire.text("a"), code="x")))
    assert (response.status, response.error.code) == ("failed", "x")


# -------------------------------------------------------------------------------------------------- ends that are none


@every_wire
async def test_a_clean_truncation_is_no_error_for_a_streaming_client(name: str):
    assert text_of(await streamed(name, half(name))) == "half an answer"


async def test_the_helper_for_responses_alone_notices_a_truncation_or_an_incomplete_answer():
    cut = responses_wire.answer(responses_wire.text("a"), finish_reason="max_output_tokens")
    for steps in (half("responses"), Send(*cut)):
        async with scripted() as sdks:
            sdks.server.script("m", Script(steps))
            async with sdks.openai.responses.stream(model="m", input="Hi") as stream:
                with pytest.raises(RuntimeError):
                    await stream.get_final_response()


async def test_the_helper_for_chat_refuses_an_answer_that_its_length_cut():
    async with scripted() as sdks:
        sdks.server.script("m", Script(Send(*chat_wire.answer(chat_wire.text("a"), finish_reason="length"))))
        async with sdks.openai.chat.completions.stream(model="m", messages=MESSAGES) as stream:
            with pytest.raises(openai.LengthFinishReasonError):
                await stream.get_final_completion()


@pytest.mark.parametrize("break_off", [Cut(), Reset()], ids=["cut", "reset"])
@every_wire
async def test_a_broken_connection_is_an_error_for_every_sdk(name: str, break_off: Step):
    for steps in ((break_off,), (Headers(), break_off), (half(name), break_off)):
        for call in (streamed, whole):
            with pytest.raises((openai.APIConnectionError, anthropic.APIConnectionError, *NO_ANTHROPIC_ERROR)):
                await call(name, *steps)


@every_wire
async def test_silence_is_a_timeout_before_and_after_the_head(name: str):
    for steps in ((Hang(),), (Headers(), Hang()), (half(name), Hang())):
        for call in (streamed, whole):
            with pytest.raises((openai.APITimeoutError, anthropic.APITimeoutError, httpx2.ReadTimeout)):
                await call(name, *steps, timeout_s=0.2)


@every_wire
async def test_bad_json_does_not_parse(name: str):
    with pytest.raises(json.JSONDecodeError):
        await streamed(name, half(name), BadJson())


@pytest.mark.parametrize("how", ["truncated", "bad json", "nothing at all", "nothing but a head"])
@every_wire
async def test_an_incomplete_stream_is_a_body_that_stops_within_its_json(name: str, how: str):
    steps: dict[str, tuple[Step, ...]] = {
        "truncated": (half(name),),
        "bad json": (Send(*EVENTS[name]), BadJson()),
        "nothing at all": (),
        "nothing but a head": (Headers(), half(name)),
    }
    with pytest.raises(json.JSONDecodeError):
        await whole(name, *steps[how])


# -------------------------------------------------------------------------------------------- bytes that are still fine


@pytest.mark.parametrize("how", ["comments", "CRLF", "cut at every byte", "comment alone first"])
@every_wire
async def test_unusual_but_valid_bytes_change_nothing(name: str, how: str):
    stream = b"".join(FRAMES[name](event) for event in EVENTS[name])
    steps: dict[str, tuple[Step, ...]] = {
        "comments": (SendRaw(stream.replace(b"data:", b": quiet\ndata:")),),
        "CRLF": (SendRaw(stream.replace(b"\n", b"\r\n")),),
        "cut at every byte": (SendCut(stream, at=range(1, len(stream))),),
        "comment alone first": (SendRaw(b": hello\n\n"), SendRaw(stream)),
    }
    assert text_of(await streamed(name, *steps[how])) == "half an answer"
    assert "half an answer" in (await whole(name, *steps[how])).model_dump_json()


@every_wire
async def test_characters_of_every_length_arrive_as_they_were_scripted(name: str):
    odd = "é日本🌊a\u2028b\u0085c"
    async with scripted() as sdks:
        sdks.server.script("m", Script.of_text(*odd))
        assert text_of(await collect(await sdks.answer(name, stream=True))) == odd
        assert odd in (await sdks.answer(name)).model_dump_json()


# ---------------------------------------------------------------------------------------------------------- disconnect


@pytest.mark.parametrize("is_streaming", [True, False])
@every_wire
async def test_a_client_that_leaves_is_seen_at_once_whether_it_streams_or_waits(name: str, is_streaming: bool):
    gate = Gate()
    async with scripted(timeout_s=20 if is_streaming else 0.5) as sdks:
        sdks.server.script("m", Script(half(name), Wait(gate)))
        if is_streaming:
            stream = await sdks.answer(name, stream=True)
            await gate.wait_reached()
            await stream.close()
        else:
            with pytest.raises((openai.APITimeoutError, anthropic.APITimeoutError)):
                await sdks.answer(name)
        left_at = asyncio.get_running_loop().time()
        (request,) = sdks.server.requests
        assert request.started_at <= await request.wait_disconnected() < left_at + 1
        assert request.ended_at is None
