"""What a request without ``stream`` gets: the whole object of an answer, folded from the events of its stream.

An error in the stream becomes a status answer. What has no terminal event, or no JSON somewhere, is not whole: its
object is only as far as the events came.
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
            case "content_block_delta":
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
            block["text"] += delta["text"]
        case "thinking_delta":
            block["thinking"] += delta["thinking"]
        case "signature_delta":
            block["signature"] = delta["signature"]
        case "citations_delta":
            block["citations"] = [*(block.get("citations") or []), delta["citation"]]


def _parsed(text: str) -> Any:
    """The arguments of a tool call; empty when the answer was cut inside them."""
    try:
        return json.loads(text)
    except ValueError:
        return {}


# ---------------------------------------------------------------------------------------------------- chat completions


def completion_of(events: Sequence[WireEvent]) -> Whole:
    """The ``chat.completion``."""
    completion: Json = {}
    choices: dict[int, Json] = {}
    for event in events:
        if "error" in event:
            return _openai_failure(event)
        if event == chat_wire.DONE:
            continue
        known = {name: value for name, value in event.items() if name != "choices" and value is not None}
        completion |= {**known, "object": "chat.completion"}
        for choice in event.get("choices") or []:
            _extend_choice(choices.setdefault(choice["index"], _empty_choice(choice["index"])), choice)
    for choice in choices.values():
        message = choice["message"]
        if message["content"] == "" and ("tool_calls" in message or message["refusal"]):
            message["content"] = None
    completion["choices"] = [choices[index] for index in sorted(choices)]
    is_whole = bool(choices) and all(choice["finish_reason"] for choice in choices.values())
    return Whole(_OK, completion, is_whole)


def _empty_choice(index: int) -> Json:
    message: Json = {"role": "assistant", "content": None, "refusal": None, "annotations": []}
    return {"index": index, "message": message, "logprobs": None, "finish_reason": None}


def _extend_choice(choice: Json, chunk: Json) -> None:
    choice["finish_reason"] = chunk.get("finish_reason") or choice["finish_reason"]
    choice["logprobs"] = chunk.get("logprobs") or choice["logprobs"]
    message = choice["message"]
    for name, value in (chunk.get("delta") or {}).items():
        if name == "tool_calls":
            calls = message.setdefault("tool_calls", [])
            for call in value or []:
                _extend_call(calls, call)
        elif isinstance(value, str) and name != "role":
            message[name] = (message.get(name) or "") + value
        elif value is not None:
            message[name] = deepcopy(value)


def _extend_call(calls: list[Json], delta: Json) -> None:
    if delta["index"] == len(calls):
        calls.append({"id": None, "type": "function", "function": {"name": "", "arguments": ""}})
    call, function = calls[delta["index"]], delta.get("function") or {}
    call["id"] = delta.get("id") or call["id"]
    call["function"]["name"] += function.get("name") or ""
    call["function"]["arguments"] += function.get("arguments") or ""


# ----------------------------------------------------------------------------------------------------------- responses


def response_of(events: Sequence[WireEvent]) -> Whole:
    """The ``response``: the terminal event carries it whole, a failed one too."""
    response: Json = {}
    for event in events:
        if event.get("type") == "error":
            code = event.get("code")
            return _openai_failure(chat_wire.error(code or "server_error", event.get("message", ""), code=code))
        if "error" in event:
            return _openai_failure(event)
        response = event.get("response", response)
        if event.get("type") in _TERMINALS:
            return Whole(_OK, response, True)
    return Whole(_OK, response, False)


def _openai_failure(body: Json) -> Whole:
    names = (body["error"].get("code"), body["error"].get("type")) if isinstance(body["error"], dict) else ()
    statuses = (_OPENAI_STATUSES[name] for name in names if name in _OPENAI_STATUSES)
    return Whole(next(statuses, 500), body, True)
