"""What the real SDK makes of a body, and entries made of decoded bytes: shared by the tests of the encoder."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any, Final

import anthropic
import httpx2
import pydantic

from broadcaster.core import events as ev
from broadcaster.core.entry import Entry
from broadcaster.dialects import Transcript
from broadcaster.dialects.anthropic.decode import AnthropicDecoder
from broadcaster.dialects.anthropic.encode import AnthropicDialect
from broadcaster.dialects.reading import ProviderDecoder
from tests.dialects.decoding import read_all

EPOCH = 1_790_000_000_000


def entries_of(events: Iterable[Any], *, epoch: int = EPOCH) -> list[Entry]:
    """The events as a log holds them."""
    return [Entry(epoch, seq, ev.encode_event(event)) for seq, event in enumerate(events, start=1)]


def decoded(raw: bytes, decoder: ProviderDecoder | None = None) -> list[Entry]:
    """A provider's bytes as the worker writes them: what was broken off ends with an error."""
    outcome = read_all(decoder or AnthropicDecoder(), raw)
    events = list(outcome.events)
    if not (events and isinstance(events[-1], ev.Finish)):
        events += [outcome.usage, ev.Error(error_text="broken off", code=outcome.reason or "provider_truncated")]
    return entries_of(events)


def encoded(entries: Sequence[Entry]) -> bytes:
    """The whole stream of a viewer that joined at the beginning."""
    return AnthropicDialect().open("gen_1").encode(entries)


class Sdk:
    """The Anthropic SDK, before a server that answers with the bytes it is given."""

    def __init__(self, *, beta: bool = False) -> None:
        self._body = b""
        self._type = ""
        transport = httpx2.MockTransport(self._answer)
        client = anthropic.Anthropic(
            api_key="none", base_url="http://sdk.test", max_retries=0, http_client=httpx2.Client(transport=transport)
        )
        self._messages: Any = client.beta.messages if beta else client.messages

    def read(self, body: bytes) -> dict[str, Any]:
        """The final message of ``messages.stream``; an ``error`` event is ``{"error": its type}``."""
        self._body, self._type = body, "text/event-stream"
        try:
            with self._messages.stream(**_REQUEST) as stream:
                return _as_json(stream.get_final_message())
        except anthropic.APIStatusError as error:
            return {"error": error.type}
        except ValueError:
            return {"refused": "arguments that are no JSON"}

    def read_whole(self, message: dict[str, Any]) -> dict[str, Any]:
        """What ``messages.create`` makes of a message."""
        self._body, self._type = json.dumps(message).encode(), "application/json"
        return _as_json(self._messages.create(**_REQUEST))

    def _answer(self, request: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(200, headers={"content-type": self._type}, content=self._body)


_REQUEST: Final[Any] = {"model": "any", "max_tokens": 10, "messages": [{"role": "user", "content": "?"}]}


def _as_json(message: pydantic.BaseModel) -> dict[str, Any]:
    """The message as JSON; nothing and no citations, no reason, are the same: no event of ours distinguishes them."""
    fields = message.model_dump(mode="json", warnings=False)
    fields["stop_reason"] = fields["stop_reason"] or None
    for block in fields["content"]:
        block.pop("parsed_output", None)
        if "citations" in block:
            block["citations"] = block["citations"] or None
    return fields


def received_after(entries: Sequence[Entry], k: int) -> bytes:
    """What a viewer receives that joins after ``k`` entries: the snapshot, then what every viewer is sent."""
    transcript: Transcript = AnthropicDialect().open("gen_1")
    transcript.encode(entries[:k])
    return transcript.snapshot() + transcript.encode(entries[k:])
