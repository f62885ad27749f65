"""Chunks of an SDK over a provider's wire → events, by the decoder that a worker uses on the wire itself.

An SDK's chunk is a pydantic model of one message of the wire. It is written as that message, and the decoder of the
wire reads it: the events are those of a worker, and a field of a newer API survives.

The SDKs' helpers (``messages.stream()``, ``chat.completions.stream()``, ``responses.stream()``) add events and fields
of their own, such as a snapshot of the whole text in each event. These are left out.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Final

from broadcaster.core.events import Event, Usage
from broadcaster.dialects.anthropic.decode import AnthropicDecoder
from broadcaster.dialects.anthropic.wire import WIRE_TYPES
from broadcaster.dialects.openai_chat.decode import OpenAIChatDecoder
from broadcaster.dialects.openai_responses.decode import OpenAIResponsesDecoder
from broadcaster.dialects.reading import ProviderDecoder

_AS_SENT: Final[dict[str, Any]] = {
    "exclude": {"snapshot", "parsed"},  # of the helpers
    "exclude_unset": True,
    "by_alias": True,
    "warnings": False,
}


class WireItems:
    """One answer in chunks of one wire; see ItemDecoder."""

    def __init__(self, decoder: ProviderDecoder, begins: Callable[[Any, Any], bool]) -> None:
        """``begins``: whether the second chunk begins another answer than the first one."""
        self._decoder = decoder
        self._begins = begins
        self._first: Any = None

    @property
    def is_whole(self) -> bool:
        """See ItemDecoder."""
        return self._decoder.is_whole

    def begins_another(self, item: Any) -> bool:
        """See ItemDecoder."""
        message = _message(item)
        return self.is_whole and message is not None and self._begins(self._first, message)

    def decode(self, item: Any) -> list[Event]:
        """See ItemDecoder."""
        if (message := _message(item)) is None:
            return []
        self._first = self._first or message
        return self._decoder.decode(b"data: " + _json(message) + b"\n\n")

    def flush(self) -> list[Event]:
        """See ItemDecoder."""
        return self._decoder.flush()

    def usage_so_far(self) -> Usage:
        """See ItemDecoder."""
        return self._decoder.usage_so_far()


def chat_items() -> WireItems:
    """Chat completions: a chunk with a choice and with another id begins another answer."""
    return WireItems(OpenAIChatDecoder(), lambda first, chunk: bool(chunk.choices) and chunk.id != first.id)


def responses_items() -> WireItems:
    """Responses."""
    return WireItems(OpenAIResponsesDecoder(), lambda _, event: event.type == "response.created")


def messages_items() -> WireItems:
    """Messages of Anthropic."""
    return WireItems(AnthropicDecoder(), lambda _, event: event.type == "message_start")


def _message(item: Any) -> Any:
    """The message of the wire in an item; None: an event that a helper of the SDK has added."""
    module = type(item).__module__
    if module.startswith("openai.lib.streaming.chat"):
        return item.chunk if item.type == "chunk" else None
    if module.startswith("anthropic.lib.streaming") and item.type not in WIRE_TYPES:
        return None
    return item


def _json(message: Any) -> bytes:
    try:
        text: str = message.model_dump_json(**_AS_SENT)
        return text.encode()
    except ValueError:  # half of a surrogate pair, which has no UTF-8 form: the decoder mends its escape
        whole = message.model_dump(**_AS_SENT)
        return json.dumps(whole).encode()
