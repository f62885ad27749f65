"""The stream of an SDK is published as a worker would publish the same wire."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import anthropic
import openai
import pytest

from broadcaster import Broadcaster
from broadcaster.errors import ProviderFailed
from broadcaster.log.redis.connect import LogConnection
from broadcaster.testing import BadJson, Cut, Script, Send, chat_wire, responses_wire, wire
from tests.library.sources.sdk_streams import CALLS, MODEL, SdkStream, publish_and_compare
from tests.worker.providers.provider_support import ANTHROPIC, CHAT, RESPONSES

every_call = pytest.mark.parametrize("call", CALLS, ids=str)


WHOLE: dict[Any, tuple[Callable[..., Any], Callable[..., Any]]] = {
    ANTHROPIC: (wire.text, wire.message),
    CHAT: (chat_wire.text, chat_wire.answer),
    RESPONSES: (responses_wire.text, responses_wire.answer),
}
"""For each wire, a text and an answer with its counts."""


@every_call
async def test_reasoning_text_calls_counts_and_the_finish_reason_are_those_of_a_worker(
    broadcaster: Broadcaster, connection: LogConnection, call: SdkStream
):
    scripted = call.wire.scripted
    text, answer = WHOLE[call.wire]
    events = answer(
        scripted.reasoning("Let me ", "see."),
        text("It is ", "wärm — 🌊"),
        scripted.tool_call("get_weather", '{"city": ', '"Paris"}', id="call_1"),
    )
    found = await publish_and_compare(broadcaster, connection, call, Script(Send(*events)))
    assert found.error is None
    assert found.events == found.of_a_worker
    types = [event["type"] for event in found.events]
    assert {"reasoning-delta", "text-delta", "tool-input-available", "usage"} <= {*types}
    assert found.events[-1]["finishReason"] == ("stop" if call.wire is ANTHROPIC else "tool-calls")
    assert not found.events[-3].get("estimated", False)


@every_call
async def test_a_refusal_is_that_of_a_worker(broadcaster: Broadcaster, connection: LogConnection, call: SdkStream):
    composer = call.wire.scripted.compose(MODEL)
    refused = composer.part(call.wire.scripted.refusal("I cannot help."))
    ended = composer.finish("refusal" if call.wire is ANTHROPIC else None)
    script = Script(Send(*composer.start(), *refused, *ended))
    found = await publish_and_compare(broadcaster, connection, call, script)
    assert found.error is None
    assert found.events == found.of_a_worker
    assert found.events[-1]["finishReason"] == "content-filter"


@every_call
async def test_an_error_in_mid_stream_ends_as_a_worker_ends_it_and_the_sdk_s_exception_is_raised(
    broadcaster: Broadcaster, connection: LogConnection, call: SdkStream
):
    composer = call.wire.scripted.compose(MODEL)
    events = [*composer.start(), *composer.text("half an")]
    failure = composer.fail(call.wire.scripted.overloaded, "Overloaded: secret")
    found = await publish_and_compare(broadcaster, connection, call, Script(Send(*events, *failure)))
    assert found.events == found.of_a_worker
    assert [event["type"] for event in found.events[-2:]] == ["usage", "error"]
    assert found.events[-1]["code"] == "provider_overloaded"
    assert "secret" not in str(found.events)
    assert isinstance(found.error, openai.APIError | anthropic.APIError | ProviderFailed)


@every_call
async def test_an_answer_without_its_end_is_truncated(
    broadcaster: Broadcaster, connection: LogConnection, call: SdkStream
):
    composer = call.wire.scripted.compose(MODEL)
    script = Script(Send(*composer.start(), *composer.text("half an")))
    found = await publish_and_compare(broadcaster, connection, call, script)
    assert found.events[-1]["code"] == "provider_truncated"
    assert found.events[-2]["estimated"] is True
    if "Responses, helper" not in call.name:
        assert found.events == found.of_a_worker
        assert isinstance(found.error, ProviderFailed)


@every_call
async def test_a_broken_connection_is_disconnected(
    broadcaster: Broadcaster, connection: LogConnection, call: SdkStream
):
    composer = call.wire.scripted.compose(MODEL)
    script = Script(Send(*composer.start(), *composer.text("half an")), Cut())
    found = await publish_and_compare(broadcaster, connection, call, script)
    assert found.error is not None
    assert [event["type"] for event in found.events[-2:]] == ["usage", "error"]
    assert found.events[-1]["code"] == "provider_disconnected"
    assert found.events == found.of_a_worker


@pytest.mark.parametrize("call", CALLS[:1], ids=str)
async def test_data_that_the_sdk_cannot_parse_is_the_error_of_the_publisher(
    broadcaster: Broadcaster, connection: LogConnection, call: SdkStream
):
    composer = call.wire.scripted.compose(MODEL)
    script = Script(Send(*composer.start(), *composer.text("half an")), BadJson())
    found = await publish_and_compare(broadcaster, connection, call, script)
    assert isinstance(found.error, ValueError)
    assert [event["type"] for event in found.events[-2:]] == ["usage", "error"]
    assert found.events[-1]["code"] == "publisher_failed"
