"""What the Open Responses specification requires of a response, its items and its events, as models that check it.

Written from the specification (openresponses.org, version 2026-04-24): every field here is required, and null only
where it says so. Two of its names differ from those that OpenAI's API and SDKs have; ours are OpenAI's: the events of
reasoning are ``response.reasoning_text.*``, and the fields of ``error`` stand in the event itself.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter


class _Strict(BaseModel):
    model_config = ConfigDict(strict=True, extra="allow")


# ------------------------------------------------------------------------------------------------------------ the items


class OutputText(_Strict):
    type: Literal["output_text"]
    text: str
    annotations: list[dict[str, Any]]


class Refusal(_Strict):
    type: Literal["refusal"]
    refusal: str


class ReasoningText(_Strict):
    type: Literal["reasoning_text", "summary_text"]
    text: str


Content = Annotated[OutputText | Refusal | ReasoningText, Field(discriminator="type")]
Status = Literal["in_progress", "completed", "incomplete"]


class MessageItem(_Strict):
    type: Literal["message"]
    id: str
    status: Status
    role: Literal["user", "assistant", "system", "developer"]
    content: list[Content]


class FunctionCallItem(_Strict):
    type: Literal["function_call"]
    id: str
    call_id: str
    name: str
    arguments: str
    status: Status


class ReasoningItem(_Strict):
    type: Literal["reasoning"]
    id: str
    summary: list[Content]
    content: list[Content] = []
    encrypted_content: str = ""


OutputItem = Annotated[MessageItem | FunctionCallItem | ReasoningItem, Field(discriminator="type")]


# --------------------------------------------------------------------------------------------------------- the response


class FunctionTool(_Strict):
    type: Literal["function"]
    name: str
    description: str | None
    parameters: dict[str, Any] | None
    strict: bool | None


class PlainFormat(_Strict):
    type: Literal["text", "json_object"]


class SchemaFormat(_Strict):
    type: Literal["json_schema"]
    name: str
    description: str | None
    strict: bool


class TextField(_Strict):
    format: Annotated[PlainFormat | SchemaFormat, Field(discriminator="type")]


class ReasoningField(_Strict):
    effort: Literal["none", "minimal", "low", "medium", "high", "xhigh"] | None
    summary: Literal["concise", "detailed", "auto"] | None


class FunctionChoice(_Strict):
    type: Literal["function"]
    name: str


class AllowedTools(_Strict):
    type: Literal["allowed_tools"]
    tools: list[FunctionChoice]
    mode: Literal["none", "auto", "required"]


class CachedTokens(_Strict):
    cached_tokens: int


class ReasoningTokens(_Strict):
    reasoning_tokens: int


class TokenUsage(_Strict):
    input_tokens: int
    output_tokens: int
    total_tokens: int
    input_tokens_details: CachedTokens
    output_tokens_details: ReasoningTokens


class IncompleteDetails(_Strict):
    reason: str


class ResponseError(_Strict):
    code: str
    message: str


class ResponseObject(_Strict):
    id: str
    object: Literal["response"]
    created_at: int
    completed_at: int | None
    status: Literal["queued", "in_progress", "completed", "incomplete", "failed", "cancelled"]
    incomplete_details: IncompleteDetails | None
    model: str
    previous_response_id: str | None
    instructions: str | None
    output: list[OutputItem]
    error: ResponseError | None
    tools: list[FunctionTool]
    tool_choice: Literal["none", "auto", "required"] | FunctionChoice | AllowedTools
    truncation: Literal["auto", "disabled"]
    parallel_tool_calls: bool
    text: TextField
    top_p: float
    presence_penalty: float
    frequency_penalty: float
    top_logprobs: int
    temperature: float
    reasoning: ReasoningField | None
    usage: TokenUsage | None
    max_output_tokens: int | None
    max_tool_calls: int | None
    store: bool
    background: bool
    service_tier: str
    metadata: dict[str, Any]
    safety_identifier: str | None
    prompt_cache_key: str | None


# ----------------------------------------------------------------------------------------------------------- the events


class _Numbered(_Strict):
    type: str
    sequence_number: int


class OfResponse(_Numbered):
    response: ResponseObject


class OfItem(_Numbered):
    output_index: int
    item: OutputItem


class _Placed(_Numbered):
    item_id: str
    output_index: int


class OfPart(_Placed):
    content_index: int
    part: Content


class TextDelta(_Placed):
    content_index: int
    delta: str


class TextDone(_Placed):
    content_index: int
    text: str


class OfSummaryPart(_Placed):
    summary_index: int
    part: Content


class SummaryDelta(_Placed):
    summary_index: int
    delta: str


class SummaryDone(_Placed):
    summary_index: int
    text: str


class ArgumentsDelta(_Placed):
    delta: str


class ArgumentsDone(_Placed):
    arguments: str


class ErrorFields(BaseModel):
    model_config = ConfigDict(strict=True, extra="allow")

    type: str
    code: str | None
    message: str
    param: str | None


class ErrorEvent(_Numbered):
    error: ErrorFields


EVENTS: dict[str, type[_Numbered]] = {
    **{
        f"response.{name}": OfResponse
        for name in ("created", "queued", "in_progress", "completed", "failed", "incomplete")
    },
    "response.output_item.added": OfItem,
    "response.output_item.done": OfItem,
    "response.content_part.added": OfPart,
    "response.content_part.done": OfPart,
    "response.output_text.delta": TextDelta,
    "response.output_text.done": TextDone,
    "response.reasoning_text.delta": TextDelta,
    "response.reasoning_text.done": TextDone,
    "response.reasoning_summary_part.added": OfSummaryPart,
    "response.reasoning_summary_part.done": OfSummaryPart,
    "response.reasoning_summary_text.delta": SummaryDelta,
    "response.reasoning_summary_text.done": SummaryDone,
    "response.function_call_arguments.delta": ArgumentsDelta,
    "response.function_call_arguments.done": ArgumentsDone,
    "error": ErrorEvent,
}
TERMINAL = frozenset({"response.completed", "response.failed", "response.incomplete"})
_RESPONSE = TypeAdapter(ResponseObject)


def check_response(response: Any) -> ResponseObject:
    """The response, read strictly. Raises ValidationError with every field that is missing or wrong."""
    return _RESPONSE.validate_python(response)


def check_stream(events: list[dict[str, Any]]) -> ResponseObject:
    """The final response of a stream whose events are well-formed, dense in their numbers and in the wire's order."""
    for event in events:
        EVENTS[event["type"]].model_validate(event)
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    types = [event["type"] for event in events]
    assert types[:2] == ["response.created", "response.in_progress"]
    assert [type for type in types if type in TERMINAL] == [types[-1]]
    final = check_response(events[-1]["response"])
    for index, item in enumerate(events[-1]["response"]["output"]):
        _check_item([event for event in events if event.get("output_index") == index], item)
    return final


def _check_item(events: list[dict[str, Any]], item: dict[str, Any]) -> None:
    """An item is added first and done last, and what grew in between amounts to what it is at the end."""
    assert (events[0]["type"], events[-1]["type"]) == ("response.output_item.added", "response.output_item.done")
    assert events[-1]["item"] == item
    assert {event.get("item_id", item["id"]) for event in events} == {item["id"]} == {events[0]["item"]["id"]}
    inside = events[1:-1]
    if item["type"] == "function_call":
        *deltas, done = inside
        assert {event["type"] for event in deltas} <= {"response.function_call_arguments.delta"}
        assert done["type"] == "response.function_call_arguments.done"
        assert "".join(event["delta"] for event in deltas) == done["arguments"] == item["arguments"]
        return
    parts = [*item.get("summary", ()), *item.get("content", ())]
    for part, growing in zip(parts, _by_part(inside), strict=True):
        added, *deltas, done, ended = growing
        assert added["type"].endswith("part.added")
        assert all(event["type"].endswith((".delta", ".annotation.added")) for event in deltas)
        assert done["type"].endswith("text.done")
        assert ended["type"].endswith("part.done")
        assert "".join(event.get("delta", "") for event in deltas) == done["text"] == ended["part"]["text"]
        assert ended["part"] == part


def _by_part(events: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """The events of each part, in the order in which the parts were added; no part begins inside another."""
    groups: list[list[dict[str, Any]]] = []
    for event in events:
        if event["type"].endswith("part.added"):
            groups.append([])
        groups[-1].append(event)
    return groups
