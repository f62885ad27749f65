"""The message of the assistant that an answer continues (its client ran a tool): stored, and sent again on resume.

Rules
1. A client that resumes a stream empties the message at the first ``start`` (``resumeStreamIsReplay``), and with it the
   parts from before this answer. So it receives them first, behind a ``start`` of their own. The answer's ``start``
   follows: it names the same message, which then stays as it is.
2. The parts are stored with the request, as the page sent them: they expire and are deleted with it. No provider gets
   them. They are not part of the body that identifies the request of an Idempotency-Key.
3. A client calls ``onToolCall`` at ``tool-input-available``. A call that has a result must not run once more, so its
   input is streamed. The client keeps that input raw as well, until ``tool-output-available``: an output that failed
   follows behind one.
4. Left out is what version 6 has no chunk for: approvals of calls, a file's name, and parts that only version 7 has.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from broadcaster.core.requests.passed_headers import CONTINUED, SURFACE
from broadcaster.dialects.ai_sdk.parts import START_STEP, Chunk, UiTextPart
from broadcaster.dialects.ai_sdk.request import Part, continued_message
from broadcaster.dialects.reading import Json
from broadcaster.dialects.writing import blocks

_TOOL: Final = "tool-"
_OF_CALL: Final = ("title", "providerExecuted", "toolMetadata")


def with_continued(request: Json, ui_messages: Sequence[Part]) -> Json:
    """The request as it is stored, with the message that its answer continues."""
    if continued_message(ui_messages) is None:
        return request
    message = ui_messages[-1]
    return {**request, SURFACE: {"name": CONTINUED, "message": _given(message, "metadata", "parts")}}


def earlier_blocks(request: Mapping[str, Any], *, message_id: str | None) -> bytes:
    """What precedes the answer to this stored request where it is resumed; ``b""``: it continues no message."""
    match request.get(SURFACE):
        case {"name": str(name), "message": {"parts": [*parts]} as message} if name == CONTINUED:
            start = {"type": "start", "messageId": message_id, **_given(message, messageMetadata="metadata")}
            shown = (chunk for place, part in enumerate(parts) for chunk in _chunks(part, place))
            return blocks([start, *shown], id=None)
    return b""


def _chunks(part: Part, place: int) -> list[Chunk]:
    match part:
        case {"type": "step-start"}:
            return [START_STEP]
        case {"type": "text" | "reasoning", "text": str(text)}:
            return _text(part, text, place)
        case {"type": "source-url", "sourceId": str(), "url": str()}:
            return [_given(part, "type", "sourceId", "url", "title", "providerMetadata")]
        case {"type": "source-document", "sourceId": str(), "mediaType": str(), "title": str()}:
            return [_given(part, "type", "sourceId", "mediaType", "title", "filename", "providerMetadata")]
        case {"type": "file", "url": str(), "mediaType": str()}:
            return [_given(part, "type", "url", "mediaType", "providerMetadata")]
        case {"type": "dynamic-tool", "toolName": str(name), "toolCallId": str(id)}:
            return _call(part, {"toolCallId": id, "toolName": name, "dynamic": True})
        case {"type": str(type), "toolCallId": str(id)} if type.startswith(_TOOL):
            return _call(part, {"toolCallId": id, "toolName": type.removeprefix(_TOOL)})
        case {"type": str(type), "data": data} if type.startswith("data-"):
            return [{**_given(part, "type", "id"), "data": data}]
        case _:
            return []


def _text(part: Part, text: str, place: int) -> list[Chunk]:
    """A text; of reasoning, the page also holds the id."""
    id = part.get("id")
    shown = UiTextPart(part["type"], id if isinstance(id, str) else f"before-{place}")
    shown.grow(text, part.get("providerMetadata"))
    shown.is_whole = part.get("state") != "streaming"
    return shown.chunks()


def _call(part: Part, named: Chunk) -> list[Chunk]:
    """A call as far as it is (rule 3)."""
    id = {"toolCallId": named["toolCallId"]}
    named = {**named, **_given(part, *_OF_CALL)}
    of_input, of_output = (_given(part, providerMetadata=f"{which}ProviderMetadata") for which in ("call", "result"))
    start = {"type": "tool-input-start", **named, **of_input}
    error = {"errorText": str(part.get("errorText", "")), **of_output}
    match part.get("state"):
        case "input-streaming":
            raw = part.get("rawInput")
            half = [_fragment(id, raw)] if isinstance(raw, str) else _streamed(id, part)
            return [{**start, **_given(part, "inputEncoding")}, *half]
        case "input-available":
            return [{**start, "type": "tool-input-available", "input": part.get("input")}]
        case "output-available":
            output = {**_given(part, "preliminary"), "output": part.get("output"), **of_output}
            return [start, *_streamed(id, part), {"type": "tool-output-available", **id, **output}]
        case "output-error" if "rawInput" in part and "input" not in part:
            return [start, {"type": "tool-input-error", **named, "input": part["rawInput"], **error}]
        case "output-error":
            unraw = {"type": "tool-output-available", **id, "output": None}
            return [start, *_streamed(id, part), unraw, {"type": "tool-output-error", **id, **error}]
        case _:
            return []


def _streamed(id: Chunk, part: Part) -> list[Chunk]:
    return [_fragment(id, msgspec.json.encode(part["input"]).decode())] if "input" in part else []


def _fragment(id: Chunk, text: str) -> Chunk:
    return {"type": "tool-input-delta", **id, "inputTextDelta": text}


def _given(part: Part, *names: str, **renamed: str) -> Chunk:
    """These members of the part, as far as it has them, some under other names."""
    all_names = {**dict(zip(names, names, strict=True)), **renamed}
    return {name: part[own] for name, own in all_names.items() if part.get(own) is not None}
