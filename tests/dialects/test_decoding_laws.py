"""Decode: what holds on every wire, for every stream and every way the network cuts it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from broadcaster.core import events as ev
from broadcaster.dialects.anthropic import AnthropicDecoder
from broadcaster.dialects.openai_chat import OpenAIChatDecoder
from broadcaster.dialects.openai_responses import OpenAIResponsesDecoder
from broadcaster.dialects.reading import ProviderDecoder
from tests.dialects import anthropic_streams, chat_streams, responses_streams
from tests.dialects.decoding import read_all

Create = Callable[[], ProviderDecoder]

WIRES: dict[str, tuple[Create, dict[str, bytes]]] = {
    "anthropic": (AnthropicDecoder, anthropic_streams.STREAMS),
    "chat": (OpenAIChatDecoder, chat_streams.STREAMS),
    "responses": (OpenAIResponsesDecoder, responses_streams.STREAMS),
}
CASES = [
    pytest.param(create, raw, id=f"{wire}-{name}")
    for wire, (create, streams) in WIRES.items()
    for name, raw in streams.items()
]

on_every_stream = pytest.mark.parametrize(("create", "raw"), CASES)


@on_every_stream
def test_a_stream_cut_at_any_byte_gives_the_same(create: Create, raw: bytes):
    whole = read_all(create(), raw)
    for cut in range(len(raw) + 1):
        assert read_all(create(), raw[:cut], raw[cut:]) == whole, f"cut at {cut}"


@on_every_stream
def test_a_stream_that_comes_byte_by_byte_gives_the_same(create: Create, raw: bytes):
    assert read_all(create(), *(raw[at : at + 1] for at in range(len(raw)))) == read_all(create(), raw)


@on_every_stream
def test_every_event_can_be_stored_and_read_back(create: Create, raw: bytes):
    for event in read_all(create(), raw).events:
        assert not isinstance(event, ev.UnknownEvent)
        stored = ev.encode_event(event)
        assert b"\n" not in stored
        assert b"\r" not in stored
        assert ev.decode_event(stored) == event
