"""Decode: what holds on every wire, for every stream and every way the network cuts it."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from broadcaster.core import events as ev
from broadcaster.dialects.anthropic.decode import AnthropicDecoder
from broadcaster.dialects.openai_chat.decode import OpenAIChatDecoder
from broadcaster.dialects.openai_responses.decode import OpenAIResponsesDecoder
from broadcaster.dialects.reading import ProviderDecoder
from tests.dialects.anthropic import anthropic_streams
from tests.dialects.decoding import read_all
from tests.dialects.openai_chat import chat_streams
from tests.dialects.openai_responses import responses_streams

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


def cuts(raw: bytes) -> list[int]:
    """Beside every line's end, in every character of several bytes, and at every seventh byte."""
    beside = {at for end in re.finditer(rb"[\r\n]", raw) for at in range(end.start(), end.end() + 2)}
    inside = {at for at, byte in enumerate(raw) if byte >= 0x80}
    return [at for at in range(len(raw) + 1) if at in beside or at in inside or at % 7 == 0]


@on_every_stream
def test_a_stream_cut_in_two_gives_the_same(create: Create, raw: bytes):
    whole = read_all(create(), raw)
    for cut in cuts(raw):
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
