"""One delta of a chat answer, field by field, into the parts of the answer.

Reasoning comes before the text of the same delta, tool calls after it. Servers send it under either of two names, some
under both: a value of the second name that differs from the first is an extra.
"""

from __future__ import annotations

from typing import Any, Final

from broadcaster.core import events as ev
from broadcaster.dialects.errors import BAD_DATA
from broadcaster.dialects.openai_chat.parts import ChatParts, TextKind
from broadcaster.dialects.openai_chat.tool_calls import fragment_of, legacy_fragment_of
from broadcaster.dialects.openai_chat.wire import DELTA_FIELDS
from broadcaster.dialects.reading import Json, extras_of

_REASONING_FIELDS: Final = ("reasoning_content", "reasoning")


def read_delta(delta: Json, parts: ChatParts, out: list[ev.Event]) -> Json:
    """Append the delta's events; returns the fields that they cannot express. Raises ProviderFailed."""
    texts = [text for name in _REASONING_FIELDS if isinstance(text := delta.get(name), str) and text]
    rest = extras_of(delta, *DELTA_FIELDS)
    rest |= extras_of({name: delta.get(name) for name in _REASONING_FIELDS if delta.get(name) not in texts[:1]})
    if texts:
        parts.write(TextKind.REASONING, texts[0], out)
    content = delta.get("content")
    if isinstance(content, list):
        rest |= extras_of({"content": _read_content(content, parts, out)})
    elif text := _text(content, "content"):
        parts.write(TextKind.TEXT, text, out)
    if refusal := _text(delta.get("refusal"), "refusal"):
        parts.write(TextKind.REFUSAL, refusal, out)
    annotations = objects(delta.get("annotations"), "list of annotations")
    rest |= extras_of({"annotations": [each for each in annotations if not parts.cite(each, out)]})
    if (call := delta.get("function_call")) is not None:
        parts.call(legacy_fragment_of(*objects([call], "function_call")), 0, out)
    for place, call in enumerate(objects(delta.get("tool_calls"), "list of tool calls")):
        parts.call(fragment_of(call), place, out)
    return rest


def _read_content(content: list[Any], parts: ChatParts, out: list[ev.Event]) -> list[Any]:
    """Content in parts, as Mistral's reasoning models send it; returns the parts that events cannot express."""
    rest = []
    for part in content:
        match part:
            case {"type": "text", "text": str(text)}:
                parts.write(TextKind.TEXT, text, out)
            case {"type": "thinking", "thinking": [{"type": "text", "text": str(text)}]}:
                parts.write(TextKind.REASONING, text, out)
            case _:
                rest.append(part)
    return rest


def objects(values: Any, what: str) -> list[Json]:
    """A list of objects, where null means an empty one. Raises ProviderFailed when it is anything else."""
    if values is None:
        return []
    if not isinstance(values, list) or not all(isinstance(value, dict) for value in values):
        raise BAD_DATA.failure(detail=f"a malformed {what}")
    return values


def _text(value: Any, what: str) -> str:
    """A piece of text, where null means an empty one. Raises ProviderFailed when it is anything else."""
    if value is None:
        return ""
    if not isinstance(value, str):
        raise BAD_DATA.failure(detail=f"a malformed {what}")
    return value
