"""Which format an item of a stream has, recognized without importing any SDK.

An item is recognized by its shape (an SDK's own discriminator), because gateways and frameworks subclass the models of
one another. Each row of the table is a shape and the decoder of one answer in it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NamedTuple, Protocol

from broadcaster.core.events import Event, Usage
from broadcaster.library.sources.langchain import LangChainItems, message_in
from broadcaster.library.sources.langgraph import LangGraphItems, part_in
from broadcaster.library.sources.openai_agents import KINDS, OpenAIAgentsItems
from broadcaster.library.sources.pydantic_ai import PydanticAIItems
from broadcaster.library.sources.wires import chat_items, messages_items, responses_items

ACCEPTED: Final = (
    "the stream of an SDK (openai, anthropic, litellm; astream of LangChain and LangGraph; Runner.run_streamed of the "
    "OpenAI Agents SDK; run_stream_events of Pydantic AI), or an iterator, async or not, of texts, events and the "
    "chunks of one SDK"
)


class ItemDecoder(Protocol):
    """One answer in the items of one format → events."""

    @property
    def is_whole(self) -> bool:
        """Whether the answer is complete, apart from its counts: ``flush`` then returns what closes it."""

    def begins_another(self, item: Any) -> bool:
        """Whether this item belongs to the next answer, after this one."""

    def decode(self, item: Any) -> list[Event]:
        """The events of an item. Raises ProviderFailed for an error among the items, and for a broken protocol."""

    def flush(self) -> list[Event]:
        """No item follows: the closing events of an answer that is whole and has not returned them."""

    def usage_so_far(self) -> Usage:
        """The counts known now, estimated until the provider has reported them."""


class Format(NamedTuple):
    """``fits`` recognizes an item; ``create`` makes a decoder from the object that yields the items."""

    name: str
    fits: Callable[[Any], bool]
    create: Callable[[Any], ItemDecoder]


def format_of(item: Any) -> Format:
    """The format of an item. Raises TypeError, which names the item's type and what is accepted."""
    for each in _FORMATS:
        if each.fits(item):
            return each
    remedy = ": decode it to text" if isinstance(item, bytes | bytearray) else ""
    if getattr(item, "object", None) in _WHOLE:
        remedy = ": it is a whole answer, and not a chunk of one; request it with stream=True"
    raise TypeError(f"an item of type {type_name(item)} cannot be published{remedy}. A source is {ACCEPTED}")


def type_name(value: object) -> str:
    """The type's name with its module, but for Python's own types."""
    kind = type(value)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


_WHOLE: Final = ("chat.completion", "response")
_OF_MESSAGES: Final = frozenset(
    {
        *("message_start", "message_delta", "message_stop", "ping"),
        *("content_block_start", "content_block_delta", "content_block_stop"),
    }
)


def _is_model(item: Any) -> bool:
    return hasattr(item, "model_dump_json")


def _type(item: Any) -> str:
    kind = getattr(item, "type", None)
    return kind if isinstance(kind, str) else ""


def _is_chat(item: Any) -> bool:
    is_helpers = type(item).__module__.startswith("openai.lib.streaming.chat")
    return is_helpers or (_is_model(item) and hasattr(item, "choices") and getattr(item, "object", "") not in _WHOLE)


def _is_response(item: Any) -> bool:
    return _is_model(item) and (_type(item).startswith("response.") or _type(item) in ("error", "keepalive"))


def _is_message(item: Any) -> bool:
    is_helpers = type(item).__module__.startswith("anthropic.lib.streaming")
    return _is_model(item) and (is_helpers or _type(item) in _OF_MESSAGES)


def _is_langchain(item: Any) -> bool:
    return hasattr(message_in(item), "response_metadata") or _type(message_in(item)) in ("tool", "AIMessageChunk")


_FORMATS: Final = (
    Format("chat completions", _is_chat, lambda _: chat_items()),
    Format("Responses", _is_response, lambda _: responses_items()),
    Format("Anthropic", _is_message, lambda _: messages_items()),
    Format("LangGraph", lambda item: part_in(item) is not None, lambda _: LangGraphItems()),
    Format("LangChain", _is_langchain, lambda _: LangChainItems()),
    Format("OpenAI Agents", lambda item: _type(item) in KINDS, lambda _: OpenAIAgentsItems()),
    Format("Pydantic AI", lambda item: isinstance(getattr(item, "event_kind", None), str), PydanticAIItems),
)
