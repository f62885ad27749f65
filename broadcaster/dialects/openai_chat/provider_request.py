"""Encode a request: from the Messages API, in which requests are stored, to chat completions.

Rules
1. What already has the wire's own shape passes untouched, and so does what has no form there: the provider's refusal
   names it, and nothing of a request is lost in silence.
2. Only another provider's records for itself are left out: thinking, and tools which that provider ran with their
   results, whether they are Anthropic's or those of the Responses API. An answer of these alone is left out whole.
   Marks for it on what stays (``cache_control``, ``citations``) are left out too.
3. Results of tools are messages of their own and stand right behind the calls, before the rest of their message. They
   are text: images and documents of a result open the rest. A failed one without a text reports the error.
4. A single text part becomes a string, as do all texts of an answer: not every server takes a list there.
5. Fields of this wire that a stored request keeps under ``openai`` (of itself, a message, a part or a tool) return to
   their places: see openai_chat/request.py.
6. A server that takes reasoning back as text receives what a message keeps of it there, and an empty text with calls
   that have none: such servers refuse calls without the field. Other servers receive no reasoning, which many refuse.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeAlias

from broadcaster.dialects.answer_format import with_response_format
from broadcaster.dialects.openai.namespaces import NAMESPACE
from broadcaster.dialects.openai.own_fields import (
    BREAKPOINT,
    OPENAI,
    REASONING,
    breakpoint_of,
    document_parts,
    is_provider_record,
    is_responses_record,
    own_fields,
    result_text,
    without_own_fields,
    without_search,
)
from broadcaster.dialects.openai.tools import openai_choice
from broadcaster.dialects.reading import Json, as_text

Part: TypeAlias = Mapping[str, Any]

_MARKS: Final = frozenset({"cache_control", "citations"})
_RESPONSES_ONLY: Final = "responses"
"""The key, under ``openai``, of what this wire cannot express (openai_responses/provider_request.py)."""


def chat_messages(
    messages: Sequence[Part], *, system: str | Sequence[Part] | None, reasoning_field: str | None = None
) -> list[Json]:
    """The messages of a chat completions request; ``system`` is its first one. ``reasoning_field``: see rule 6."""
    encoded: list[Json] = []
    if system:
        encoded.append({"role": "system", "content": _joined_if_one(_parts(_as_list(system)))})
    for stored in messages:
        own = own_fields(stored)
        reasoning = own.pop(REASONING, "")
        message = {**without_own_fields(stored), **own}
        content = message.get("content")
        if message.get("role") == "assistant":
            answers = _answer(message, content) if isinstance(content, list | tuple) else [message]
            encoded += [_with_reasoning(each, reasoning, field=reasoning_field) for each in answers]
        elif isinstance(content, list | tuple):
            encoded += _messages(message, content)
        else:
            encoded.append(message)
    return encoded


def _with_reasoning(answer: Json, reasoning: Any, *, field: str | None) -> Json:
    """Rule 6."""
    if field is None or not (reasoning or answer.get("tool_calls")):
        return answer
    return {field: reasoning, **answer}


def chat_tools(tools: Sequence[Part]) -> list[Json]:
    """The tools of a chat completions request."""
    return [_tool(tool) for tool in without_search(tools)]


def chat_options(fields: Part) -> Json:
    """The other fields, as chat completions name them; what has no form there passes (rule 1)."""
    turned = with_response_format(fields)
    options = {name: value for name, value in turned.items() if name not in (OPENAI, "stop_sequences", "tool_choice")}
    if (stops := fields.get("stop_sequences")) is not None:
        options["stop"] = stops
    own = own_fields(fields)
    own.pop(_RESPONSES_ONLY, None)
    return {**options, **openai_choice(fields.get("tool_choice"), turned=_named_choice), **own}


def _named_choice(choice: Json) -> Json:
    """A choice that names its tool; one in this wire's shape passes."""
    match choice:
        case {"type": "tool", "name": name}:
            return {"type": "function", "function": {"name": name}}
        case _:
            return choice


def _answer(message: Part, content: Sequence[Any]) -> list[Json]:
    """A message of the assistant: its text, and the calls beside it; no message if it held records alone (rule 2)."""
    calls: list[Any] = [*(message.get("tool_calls") or ())]
    kept: list[Any] = []
    for part in content:
        match part:
            case {"type": "tool_use", "id": id, "name": name}:
                calls.append(_call(part, id, name))
            case {"type": type} if is_provider_record(type) or is_responses_record(type):
                pass
            case _:
                kept.append(part)
    if content and not (kept or calls):
        return []
    parts = _parts(kept)
    text: Any = "".join(part["text"] for part in parts) if all(map(_is_text, parts)) else parts
    answer = {**message, "content": text}
    if calls:
        answer |= {"content": text or None, "tool_calls": calls}
    return [answer]


def _call(part: Part, id: Any, name: Any) -> Json:
    own = {key: value for key, value in own_fields(part).items() if key not in (NAMESPACE, _RESPONSES_ONLY)}
    match own:
        case {"type": "custom", "input": text, **rest}:
            return {**rest, "id": id, "type": "custom", "custom": {"name": name, "input": text}}
        case _:
            arguments = own.pop("arguments", None) or as_text(part.get("input", {}))
            return {**own, "id": id, "type": "function", "function": {"name": name, "arguments": arguments}}


def _messages(message: Part, content: Sequence[Any]) -> list[Json]:
    """Rule 3, for a message of any other role."""
    results: list[Json] = []
    rest: list[Any] = []
    kept: list[Any] = []
    for part in content:
        match part:
            case {"type": "tool_result", "tool_use_id": id}:
                text, media = _result(part.get("content"))
                text = result_text(text, is_error=part.get("is_error") is True)
                results.append({"role": "tool", "tool_call_id": id, "content": text})
                rest += media
            case _:
                kept.append(part)
    rest += _parts(kept)
    if rest or not results:
        return [*results, {**message, "content": _joined_if_one(rest)}]
    return results


def _result(content: Any) -> tuple[Any, list[Any]]:
    """A tool's result as text, and what of it has no form as text."""
    if content is None or isinstance(content, str):
        return content or "", []
    texts: list[Any] = []
    media: list[Any] = []
    for part in _parts(_as_list(content)):
        match part:
            case {"type": "text", "text": str()}:
                texts.append(part)
            case {"type": "image_url" | "file"}:
                media.append(part)
            case _:
                texts.append({"type": "text", "text": as_text(part)})
    return _joined_if_one(texts) or "", media


def _parts(parts: Sequence[Any]) -> list[Any]:
    return [encoded for part in parts for encoded in _part(part)]


def _part(part: Any) -> list[Any]:
    """A part of a message: one, or as many as a document holds. A breakpoint stands on the last."""
    encoded = _encoded(part)
    if encoded and (mark := breakpoint_of(part)):
        return [*encoded[:-1], {**encoded[-1], **mark}]
    return encoded


def _encoded(part: Any) -> list[Any]:
    match part:
        case str():
            return [{"type": "text", "text": part}]
        case {"type": "text", "openai": {"type": "refusal"}}:
            return [{"type": "refusal", "refusal": part.get("text", "")}]
        case {"type": "text"}:
            return [{name: value for name, value in without_own_fields(part).items() if name not in _MARKS}]
        case {"type": "image", "source": {"type": "base64", "media_type": str(media_type), "data": str(data)}}:
            return [_image(part, f"data:{media_type};base64,{data}")]
        case {"type": "image", "source": {"type": "url", "url": str(url)}}:
            return [_image(part, url)]
        case {"type": "image" | "document", "source": {"type": "file", "file_id": str(id)}}:
            return [{"type": "file", "file": {"file_id": id}}]
        case {"type": "document", "source": {"type": "text", "data": str()} | {"type": "content", "content": _}}:
            return _parts(document_parts(part))
        case {"type": "document", "source": {"type": "base64", "media_type": str(media_type), "data": str(data)}}:
            # A file is refused without a name.
            file = {"filename": part.get("title") or "document.pdf", "file_data": f"data:{media_type};base64,{data}"}
            return [{"type": "file", "file": file}]
        case _:
            return [part]


def _image(part: Part, url: str) -> Json:
    own = own_fields(part)
    own.pop(BREAKPOINT, None)
    return {"type": "image_url", "image_url": {"url": url, **own}}


def _tool(tool: Part) -> Json:
    match tool:
        case {"openai": {"type": str()} as own}:
            return dict(own)
        case {"type": "function", "function": _} | {"type": "custom", "custom": _}:
            return dict(tool)
        case {"name": str(name)} if "input_schema" in tool or tool.get("type") in (None, "function", "custom"):
            schema = tool.get("input_schema", tool.get("parameters"))
            declared = {"description": tool.get("description"), "parameters": schema, "strict": tool.get("strict")}
            known = {field: value for field, value in declared.items() if value is not None}
            return {"type": "function", "function": {"name": name, **known}}
        case _:
            return dict(tool)


def _joined_if_one(parts: list[Any]) -> Any:
    """Rule 4."""
    return parts[0]["text"] if len(parts) == 1 and _is_text(parts[0]) else parts


def _is_text(part: Any) -> bool:
    match part:
        case {"type": "text", "text": str(), **rest}:
            return not rest
        case _:
            return False


def _as_list(content: Any) -> list[Any]:
    return list(content) if isinstance(content, list | tuple) else [content]
