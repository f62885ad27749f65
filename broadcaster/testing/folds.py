"""What a request without ``stream`` gets: the whole object of an answer, folded from the events of its stream.

An error in the stream becomes a status answer. A stream without a terminal event, or with bad JSON, is incomplete: its
object contains only the events that came.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, Final

from broadcaster.testing import chat_wire, wire
from broadcaster.testing.wire import Json, WireEvent

_OK: Final = 200
_ANTHROPIC_STATUSES: Final = {type: status for status, type in wire.ERROR_TYPES.items()}
_OPENAI_STATUSES: Final = {
    **{name: status for status, names in sorted(chat_wire.ERROR_TYPES.items()) for name in names if name is not None},
    "invalid_request_error": 400,
    "server_error": 500,
    "insufficient_quota": 429,
}
_TERMINALS: Final = ("response.completed", "response.incomplete", "response.failed")


@dataclass(frozen=True)
class Whole:
    """Status and body of the answer, and whether its terminal event came."""

    status: int
    body: Json
    is_whole: bool


# ------------------------------------------------------------------------------------------------------------ messages


def message_of(events: Sequence[WireEvent]) -> Whole:
    """The ``message`` of the Messages API."""
    message: Json = {}
    blocks: dict[int, Json] = {}
    fragments: dict[int, str] = {}
    for event in events:
        match event.get("type"):
            case "error":
                return Whole(_ANTHROPIC_STATUSES.get(event["error"]["type"], 500), event, True)
            case "message_start":
                message = deepcopy(event["message"])
            case "content_block_start":
                blocks[event["index"]] = deepcopy(event["content_block"])
            case "content_block_delta" if event["index"] in blocks:
                _extend(blocks[event["index"]], event["delta"])
                fragment = event["delta"].get("partial_json", "")
                fragments[event["index"]] = fragments.get(event["index"], "") + fragment
            case "message_delta":
                message |= event["delta"]
                message["usage"] = {**message.get("usage", {}), **event["usage"]}
    for index, text in fragments.items():
        if text:
            blocks[index]["input"] = _parsed(text)
    message["content"] = [blocks[index] for index in sorted(blocks)]
    return Whole(_OK, message, any(event.get("type") == "message_stop" for event in events))


def _extend(block: Json, delta: Json) -> None:
    match delta.get("type"):
        case "text_delta":
            block["text"] = block.get("text", "") + delta["text"]
        case "thinking_delta":
            block["thinking"] = block.get("thinking", "") + delta["thinking"]
        case "signature_delta":
            block["signature"] = delta["signature"]
        case "citations_delta":
            block["citations"] = [*(block.get("citations") or []), delta["citation"]]


def _parsed(text: str) -> Any:
    """The arguments of a tool call; empty if the answer was cut inside them."""
    try:
        return json.loads(text)
    except ValueError:
        return {}


# ---------------------------------------------------------------------------------------------------- chat completions


def completion_of(events: Sequence[WireEvent]) -> Whole:
    """The ``chat.completion``."""
    completion: Json = {}
    choices: dict[int, _Choice] = {}
    for event in events:
        if "error" in event:
            return openai_failure(event)
        if event == chat_wire.DONE:
            continue
        known = {name: value for name, value in event.items() if name != "choices" and value is not None}
        completion |= {**known, "object": "chat.completion"}
        for chunk in event.get("choices") or []:
            choices.setdefault(chunk.get("index", 0), _Choice()).extend(chunk)
    completion["choices"] = [{"index": index, **choices[index].as_json()} for index in sorted(choices)]
    return Whole(_OK, completion, bool(choices) and all(choice.finish_reason for choice in choices.values()))


class _Choice:
    def __init__(self) -> None:
        self.finish_reason: str | None = None
        self._logprobs: Json | None = None
        self._message: Json = {"role": "assistant", "content": None, "refusal": None, "annotations": []}
        self._calls: dict[int, Json] = {}

    def extend(self, chunk: Json) -> None:
        """Add the chunk of this choice: strings are appended, everything else replaces."""
        self.finish_reason = chunk.get("finish_reason") or self.finish_reason
        self._logprobs = chunk.get("logprobs") or self._logprobs
        for name, value in (chunk.get("delta") or {}).items():
            if name == "tool_calls":
                for call in value or []:
                    self._extend_call(call)
            elif isinstance(value, str) and name != "role":
                self._message[name] = (self._message.get(name) or "") + value
            elif value is not None:
                self._message[name] = deepcopy(value)

    def as_json(self) -> Json:
        """The choice without its index; a message of only calls or a refusal has no content."""
        message = dict(self._message)
        if self._calls:
            message["tool_calls"] = [self._calls[index] for index in sorted(self._calls)]
        if message["content"] == "" and (self._calls or message["refusal"]):
            message["content"] = None
        return {"message": message, "logprobs": self._logprobs, "finish_reason": self.finish_reason}

    def _extend_call(self, delta: Json) -> None:
        empty = {"id": None, "type": "function", "function": {"name": "", "arguments": ""}}
        call, function = self._calls.setdefault(delta.get("index", 0), empty), delta.get("function") or {}
        call["id"] = delta.get("id") or call["id"]
        call["function"]["name"] += function.get("name") or ""
        call["function"]["arguments"] += function.get("arguments") or ""


# ----------------------------------------------------------------------------------------------------------- responses


def response_of(events: Sequence[WireEvent]) -> Whole:
    """The ``response``: the terminal event carries it whole, a failed one too."""
    response: Json = {}
    for event in events:
        if "error" in event:  # the form of compatible servers and gateways
            return openai_failure(event)
        if event.get("type") == "error":
            code = event.get("code")
            return openai_failure(chat_wire.error(code or "server_error", event.get("message", ""), code=code))
        response = event.get("response", response)
        if event.get("type") in _TERMINALS:
            return Whole(_OK, response, True)
    return Whole(_OK, response, False)


def openai_failure(body: Json) -> Whole:
    """An error object as a status answer."""
    names = (body["error"].get("code"), body["error"].get("type")) if isinstance(body["error"], dict) else ()
    statuses = (_OPENAI_STATUSES[name] for name in names if name in _OPENAI_STATUSES)
    return Whole(next(statuses, 500), body, True)
