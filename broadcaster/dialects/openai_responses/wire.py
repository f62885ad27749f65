"""What is on the Responses wire: its events as structs.

A struct holds only what the decoder branches on; whole objects stay dicts, so that fields of a newer API survive. Where
an event belongs is optional throughout: llama.cpp sends neither ``output_index`` nor ``content_index`` nor numbers.
"""

from __future__ import annotations

from typing import Any, ClassVar, Final, TypeAlias

import msgspec

from broadcaster.dialects.reading import Json


class _Numbered(msgspec.Struct, kw_only=True):
    sequence_number: int | None = None


# --------------------------------------------------------------------------------------------------------- the response


class ResponseCreated(_Numbered, tag="response.created"):
    response: Json | None = None


class ResponseQueued(_Numbered, tag="response.queued"):
    response: Json | None = None


class ResponseInProgress(_Numbered, tag="response.in_progress"):
    response: Json | None = None


Opening: TypeAlias = ResponseCreated | ResponseQueued | ResponseInProgress


class ResponseCompleted(_Numbered, tag="response.completed"):
    outcome: ClassVar[str] = "completed"
    response: Json | None = None


class ResponseIncomplete(_Numbered, tag="response.incomplete"):
    outcome: ClassVar[str] = "incomplete"
    response: Json | None = None


class ResponseFailed(_Numbered, tag="response.failed"):
    outcome: ClassVar[str] = "failed"
    response: Json | None = None


class ResponseCancelled(_Numbered, tag="response.cancelled"):
    """Not OpenAI's, which has no event for it: that of gateways."""

    outcome: ClassVar[str] = "cancelled"
    response: Json | None = None


Ending: TypeAlias = ResponseCompleted | ResponseIncomplete | ResponseFailed | ResponseCancelled


# -------------------------------------------------------------------------------------------------- the items and parts


class ItemAdded(_Numbered, tag="response.output_item.added"):
    output_index: int | None = None
    item: Json | None = None


class ItemDone(_Numbered, tag="response.output_item.done"):
    output_index: int | None = None
    item: Json | None = None


class _OfItem(_Numbered, kw_only=True):
    """``item_type`` is the type of the item that such an event belongs to."""

    item_type: ClassVar[str]
    item_id: str | None = None
    output_index: int | None = None


class _OfContent(_OfItem, kw_only=True):
    """``kind`` is the type of the part that such an event belongs to."""

    kind: ClassVar[str]
    index: int | None = msgspec.field(default=None, name="content_index")


class _OfSummary(_OfItem, kw_only=True):
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


class OutputTextDelta(_OfContent, tag="response.output_text.delta"):
    item_type: ClassVar[str] = "message"
    kind: ClassVar[str] = "output_text"
    delta: str
    logprobs: list[Any] | None = None


class RefusalDelta(_OfContent, tag="response.refusal.delta"):
    item_type: ClassVar[str] = "message"
    kind: ClassVar[str] = "refusal"
    delta: str


class ReasoningTextDelta(_OfContent, tag="response.reasoning_text.delta"):
    item_type: ClassVar[str] = "reasoning"
    kind: ClassVar[str] = "reasoning_text"
    delta: str


class SummaryDelta(_OfSummary, tag="response.reasoning_summary_text.delta"):
    delta: str


class OutputTextWhole(_OfContent, tag="response.output_text.done"):
    item_type: ClassVar[str] = "message"
    kind: ClassVar[str] = "output_text"
    whole: str | None = msgspec.field(default=None, name="text")


class RefusalWhole(_OfContent, tag="response.refusal.done"):
    item_type: ClassVar[str] = "message"
    kind: ClassVar[str] = "refusal"
    whole: str | None = msgspec.field(default=None, name="refusal")


class ReasoningTextWhole(_OfContent, tag="response.reasoning_text.done"):
    item_type: ClassVar[str] = "reasoning"
    kind: ClassVar[str] = "reasoning_text"
    whole: str | None = msgspec.field(default=None, name="text")


class SummaryWhole(_OfSummary, tag="response.reasoning_summary_text.done"):
    whole: str | None = msgspec.field(default=None, name="text")


class AnnotationAdded(_OfContent, tag="response.output_text.annotation.added"):
    item_type: ClassVar[str] = "message"
    kind: ClassVar[str] = "output_text"
    annotation: Json


WrittenDelta: TypeAlias = RefusalDelta | ReasoningTextDelta | SummaryDelta
WrittenWhole: TypeAlias = OutputTextWhole | RefusalWhole | ReasoningTextWhole | SummaryWhole


# ------------------------------------------------------------------------------------------- what tools are called with


class ArgumentsDelta(_OfItem, tag="response.function_call_arguments.delta"):
    item_type: ClassVar[str] = "function_call"
    delta: str


class CustomInputDelta(_OfItem, tag="response.custom_tool_call_input.delta"):
    item_type: ClassVar[str] = "custom_tool_call"
    delta: str


class McpArgumentsDelta(_OfItem, tag="response.mcp_call_arguments.delta"):
    item_type: ClassVar[str] = "mcp_call"
    delta: str


class CodeDelta(_OfItem, tag="response.code_interpreter_call_code.delta"):
    item_type: ClassVar[str] = "code_interpreter_call"
    delta: str


class ArgumentsWhole(_OfItem, tag="response.function_call_arguments.done"):
    item_type: ClassVar[str] = "function_call"
    whole: Any = msgspec.field(default=None, name="arguments")


class CustomInputWhole(_OfItem, tag="response.custom_tool_call_input.done"):
    item_type: ClassVar[str] = "custom_tool_call"
    whole: Any = msgspec.field(default=None, name="input")


class McpArgumentsWhole(_OfItem, tag="response.mcp_call_arguments.done"):
    item_type: ClassVar[str] = "mcp_call"
    whole: Any = msgspec.field(default=None, name="arguments")


class CodeWhole(_OfItem, tag="response.code_interpreter_call_code.done"):
    item_type: ClassVar[str] = "code_interpreter_call"
    whole: Any = msgspec.field(default=None, name="code")


InputDelta: TypeAlias = ArgumentsDelta | CustomInputDelta | McpArgumentsDelta | CodeDelta
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
