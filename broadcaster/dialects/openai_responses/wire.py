"""The Responses wire: its events as structs, and the tables from its names to ours.

A struct holds only what the decoder branches on; whole objects stay dicts, so that fields of a newer API survive. Where
an event belongs is optional throughout: llama.cpp sends neither ``output_index`` nor ``content_index`` nor numbers.
"""

from __future__ import annotations

from typing import Any, ClassVar, Final, TypeAlias

import msgspec

from broadcaster.core.events import DataEvent, FinishReason
from broadcaster.dialects.errors import ProviderFault
from broadcaster.dialects.openai.wire import PASSED_TYPE
from broadcaster.dialects.reading import Json, extras_of


class _Numbered(msgspec.Struct, kw_only=True):
    sequence_number: int | None = None


# --------------------------------------------------------------------------------------------------------- the response


class _OfResponse(_Numbered):
    response: Json | None = None

    @property
    def status(self) -> str:
        """The response's status by the name of the event."""
        return str(self.__struct_config__.tag).removeprefix("response.")


class ResponseCreated(_OfResponse, tag="response.created"):
    """The first event."""


class ResponseQueued(_OfResponse, tag="response.queued"):
    """A response in the background waits."""


class ResponseInProgress(_OfResponse, tag="response.in_progress"):
    """The model works on it."""


Opening: TypeAlias = ResponseCreated | ResponseQueued | ResponseInProgress


class ResponseCompleted(_OfResponse, tag="response.completed"):
    """It is whole."""


class ResponseIncomplete(_OfResponse, tag="response.incomplete"):
    """A bound or a filter ended it."""


class ResponseFailed(_OfResponse, tag="response.failed"):
    """It broke off."""


class ResponseCancelled(_OfResponse, tag="response.cancelled"):
    """Not OpenAI's, which has no event for it: that of gateways."""


Ending: TypeAlias = ResponseCompleted | ResponseIncomplete | ResponseFailed | ResponseCancelled


# -------------------------------------------------------------------------------------------------- the items and parts


class _Placed(_Numbered, kw_only=True):
    output_index: int | None = None


class _WholeItem(_Placed):
    item: Json | None = None


class ItemAdded(_WholeItem, tag="response.output_item.added"):
    """An item opens."""


class ItemDone(_WholeItem, tag="response.output_item.done"):
    """An item is whole."""


class OfItem(_Placed, kw_only=True):
    """An event that belongs to an item, which it may name; ``item_type`` is the type of that item."""

    item_type: ClassVar[str]
    item_id: str | None = None


class _OfContent(OfItem, kw_only=True):
    """``kind`` is the type of the part that such an event belongs to."""

    kind: ClassVar[str]
    index: int | None = msgspec.field(default=None, name="content_index")


class _OfText(_OfContent):
    item_type: ClassVar[str] = "message"
    kind: ClassVar[str] = "output_text"


class _OfRefusal(_OfContent):
    item_type: ClassVar[str] = "message"
    kind: ClassVar[str] = "refusal"


class _OfReasoning(_OfContent):
    item_type: ClassVar[str] = "reasoning"
    kind: ClassVar[str] = "reasoning_text"


class _OfSummary(OfItem, kw_only=True):
    item_type: ClassVar[str] = "reasoning"
    kind: ClassVar[str] = "summary_text"
    index: int | None = msgspec.field(default=None, name="summary_index")


class PartAdded(_OfContent, tag="response.content_part.added"):
    part: Json


class PartDone(_OfContent, tag="response.content_part.done"):
    part: Json


class SummaryAdded(_OfSummary, tag="response.reasoning_summary_part.added"):
    part: Json


class SummaryDone(_OfSummary, tag="response.reasoning_summary_part.done"):
    part: Json


# ------------------------------------------------------------------------------------------- what the parts are made of


class OutputTextDelta(_OfText, tag="response.output_text.delta"):
    delta: str
    logprobs: list[Any] | None = None


class RefusalDelta(_OfRefusal, tag="response.refusal.delta"):
    delta: str


class ReasoningTextDelta(_OfReasoning, tag="response.reasoning_text.delta"):
    delta: str


class SummaryDelta(_OfSummary, tag="response.reasoning_summary_text.delta"):
    delta: str


class OutputTextWhole(_OfText, tag="response.output_text.done"):
    whole: str | None = msgspec.field(default=None, name="text")


class RefusalWhole(_OfRefusal, tag="response.refusal.done"):
    whole: str | None = msgspec.field(default=None, name="refusal")


class ReasoningTextWhole(_OfReasoning, tag="response.reasoning_text.done"):
    whole: str | None = msgspec.field(default=None, name="text")


class SummaryWhole(_OfSummary, tag="response.reasoning_summary_text.done"):
    whole: str | None = msgspec.field(default=None, name="text")


class AnnotationAdded(_OfText, tag="response.output_text.annotation.added"):
    annotation: Json


WrittenDelta: TypeAlias = RefusalDelta | ReasoningTextDelta | SummaryDelta
WrittenWhole: TypeAlias = OutputTextWhole | RefusalWhole | ReasoningTextWhole | SummaryWhole


# ------------------------------------------------------------------------------------------- what tools are called with


class _InputPiece(OfItem):
    delta: str


class ArgumentsDelta(_InputPiece, tag="response.function_call_arguments.delta"):
    item_type: ClassVar[str] = "function_call"


class CustomInputDelta(_InputPiece, tag="response.custom_tool_call_input.delta"):
    item_type: ClassVar[str] = "custom_tool_call"


class McpArgumentsDelta(_InputPiece, tag="response.mcp_call_arguments.delta"):
    item_type: ClassVar[str] = "mcp_call"


class CodeDelta(_InputPiece, tag="response.code_interpreter_call_code.delta"):
    item_type: ClassVar[str] = "code_interpreter_call"


class ArgumentsWhole(OfItem, tag="response.function_call_arguments.done"):
    item_type: ClassVar[str] = "function_call"
    whole: Any = msgspec.field(default=None, name="arguments")


class CustomInputWhole(OfItem, tag="response.custom_tool_call_input.done"):
    item_type: ClassVar[str] = "custom_tool_call"
    whole: Any = msgspec.field(default=None, name="input")


class McpArgumentsWhole(OfItem, tag="response.mcp_call_arguments.done"):
    item_type: ClassVar[str] = "mcp_call"
    whole: Any = msgspec.field(default=None, name="arguments")


class CodeWhole(OfItem, tag="response.code_interpreter_call_code.done"):
    item_type: ClassVar[str] = "code_interpreter_call"
    whole: Any = msgspec.field(default=None, name="code")


InputDelta: TypeAlias = ArgumentsDelta | CustomInputDelta | McpArgumentsDelta | CodeDelta
AnyDelta: TypeAlias = OutputTextDelta | WrittenDelta | InputDelta
InputWhole: TypeAlias = ArgumentsWhole | CustomInputWhole | McpArgumentsWhole | CodeWhole

WireEvent: TypeAlias = (
    Opening
    | Ending
    | ItemAdded
    | ItemDone
    | PartAdded
    | PartDone
    | SummaryAdded
    | SummaryDone
    | OutputTextDelta
    | WrittenDelta
    | WrittenWhole
    | AnnotationAdded
    | InputDelta
    | InputWhole
)

WIRE_TYPES: Final = frozenset(str(struct.__struct_config__.tag) for struct in WireEvent.__args__)


# ---------------------------------------------------------------------------------------------------------- the tables


SILENT_TYPES: Final = frozenset({"keepalive", "response.keep_alive", "ping"})
"""Events that only keep a quiet connection open. ``keepalive`` is in no documentation, is sent, and is numbered."""

_PROGRESS_PREFIXES: Final = (
    *("response.web_search_call.", "response.file_search_call.", "response.code_interpreter_call."),
    *("response.image_generation_call.", "response.mcp_call.", "response.mcp_list_tools."),
    *("response.shell_call_command.", "response.shell_call_output_content."),
)
"""Events of a tool's progress. They are passed on as transient: the item itself holds the outcome."""

INCOMPLETE_REASONS: Final[dict[str, FinishReason]] = {
    "max_output_tokens": "length",
    "content_filter": "content-filter",
}
"""Why a response is incomplete; a reason that is not here becomes ``other``. The raw one is in the metadata."""

CANCELLED: Final = ProviderFault("provider_error", "the answer was cancelled at the provider", False)
"""The response was cancelled at the provider. It is not whole, and another attempt would defy the cancellation."""

_OF_REQUEST: Final = frozenset(
    {
        *("input", "instructions", "metadata", "prompt", "prompt_cache_key"),
        *("safety_identifier", "text", "tool_choice", "tools", "user"),
    }
)
"""Fields of its request that a response object repeats. They stay out of the events: a viewer of an answer must not see
the system prompt."""


def reported_fields(response: Json, *known: str) -> Json:
    """The fields of a response object without a place of their own in our events, and without those of its request."""
    return extras_of(response, *_OF_REQUEST, *known)


def passed(wire_event: Json) -> DataEvent:
    """A wire event that our events cannot express, as a ``data-openai`` event; without the fields of the request."""
    response = wire_event.get("response")
    if isinstance(response, dict):
        kept = {name: value for name, value in response.items() if name not in _OF_REQUEST}
        wire_event = wire_event | {"response": kept}
    is_progress = str(wire_event.get("type")).startswith(_PROGRESS_PREFIXES)
    return DataEvent(type=PASSED_TYPE, data=wire_event, transient=is_progress or None)
