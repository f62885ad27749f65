"""A stored request, in the words of the Messages API → the ``input`` and ``tools`` of the Responses API.

Rules
1. What is in the shape of Responses already passes untouched, and so does what we do not know: the provider says best
   what is wrong with it. Texts stay strings.
2. Calls and results are items of their own: they leave their message where they stand, and what is before and after
   them becomes messages of its own. A message without anything left is none.
3. Left out is what only the provider that wrote it can read: ``thinking`` with its signature, the tools it ran itself.
4. A result has no mark for an error here; its text says so, or else we do.
5. What comes in the shape of chat completions (``image_url``, ``tool_calls``, role ``tool``) is turned too: people send
   the messages that they have.
6. Every message says that it is one: OpenAI does not ask for it, llama.cpp refuses an assistant's without it.
7. A function is not ``strict`` unless the caller says so: the API would refuse most schemas otherwise.

Source: the openai package's ``ResponseInputParam`` and ``ToolParam``; the anthropic package's ``MessageParam``.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, Final

from broadcaster.dialects.reading import Json

_LEFT_OUT: Final = frozenset({"thinking", "redacted_thinking", "server_tool_use", "mcp_tool_use"})
_RESULT_SUFFIX: Final = "_tool_result"
_ITEMS: Final = frozenset({"reasoning", "item_reference", "function_call", "function_call_output"})
"""Parts in a message that are items over there."""
_PLAIN: Final = frozenset({None, "custom"})
"""The types of a tool that is the caller's own; ``function`` is in the shape of Responses."""
_SCHEMAS: Final = frozenset({"input_schema", "parameters"})


def responses_input(messages: Iterable[Mapping[str, Any]]) -> list[Json]:
    """The messages as input items. The system prompt is not among them: it is ``instructions``."""
    return [item for message in messages for item in _items_of(dict(message))]


def responses_tools(tools: Iterable[Mapping[str, Any]]) -> list[Json]:
    """The tools in the words of Responses."""
    return [_tool(dict(tool)) for tool in tools]


# -------------------------------------------------------------------------------------------------------- the messages


def _items_of(message: Json) -> list[Json]:
    role, content, calls = message.get("role"), message.get("content"), message.get("tool_calls")
    if role == "tool" and "tool_call_id" in message:
        return [_result(message["tool_call_id"], content)]
    if role is not None:
        message = {"type": "message", **message}
    kept = {name: value for name, value in message.items() if name != "tool_calls"} if calls else message
    items = (
        _split(kept, content)
        if isinstance(content, list | tuple)
        else [kept]
        if content is not None or not calls
        else []
    )
    return items + [_chat_call(call) for call in calls or ()]


def _split(message: Json, content: Any) -> list[Json]:
    """A message, and the calls and results that stood in it, in their order."""
    if not isinstance(content, list | tuple):
        return [message]
    items: list[Json] = []
    parts: list[Any] = []
    for part in content:
        if _is_left_out(part):
            continue
        if (item := _item_of(part)) is None:
            parts += _parts_of(part, role=message.get("role"))
            continue
        if parts:
            items.append(message | {"content": parts})
            parts = []
        items.append(item)
    return [*items, message | {"content": parts}] if parts else items


def _is_left_out(part: Any) -> bool:
    type = part.get("type") if isinstance(part, dict) else None
    return isinstance(type, str) and (type in _LEFT_OUT or type.endswith(_RESULT_SUFFIX))


def _item_of(part: Any) -> Json | None:
    """The item that a part becomes; None when it stays in its message."""
    match part:
        case {"type": "tool_use", "id": id, "name": name}:
            return _call(id, name, part.get("input", {}))
        case {"type": "tool_result", "tool_use_id": id}:
            return _result(id, part.get("content"), is_error=part.get("is_error") is True)
        case {"type": str(type)} if type in _ITEMS:
            return dict(part)
        case _:
            return None


def _call(id: Any, name: Any, input: Any) -> Json:
    arguments = input if isinstance(input, str) else json.dumps(input, ensure_ascii=False, separators=(",", ":"))
    return {"type": "function_call", "call_id": id, "name": name, "arguments": arguments}


def _chat_call(call: Json) -> Json:
    match call:
        case {"id": id, "function": {"name": name, "arguments": arguments}}:
            return _call(id, name, arguments)
        case {"id": id, "custom": {"name": name, "input": input}}:
            return {"type": "custom_tool_call", "call_id": id, "name": name, "input": input}
        case _:
            return dict(call)


def _result(id: Any, content: Any, *, is_error: bool = False) -> Json:
    if isinstance(content, list | tuple):
        parts = [turned for part in content if not _is_left_out(part) for turned in _parts_of(part, role="user")]
        match parts:
            case []:
                content = ""
            case [{"type": "input_text", "text": str(text)}]:
                content = text
            case _:
                content = parts
    if content in (None, ""):
        content = "error" if is_error else ""
    return {"type": "function_call_output", "call_id": id, "output": content}


# ----------------------------------------------------------------------------------------------------------- the parts


def _parts_of(part: Any, *, role: Any) -> list[Any]:
    """What a part of a message becomes: mostly one, several for a document made of parts."""
    match part:
        case str():
            return [_text(part, role=role)]
        case {"type": "text", "text": text}:
            return [_text(text, role=role)]
        case {"type": "image", "source": dict(source)}:
            return [_image(source)]
        case {"type": "image_url", "image_url": {"url": url, **rest}}:
            return [{"type": "input_image", "image_url": url, "detail": rest.get("detail", "auto")}]
        case {"type": "image_url", "image_url": str(url)}:
            return [{"type": "input_image", "image_url": url, "detail": "auto"}]
        case {"type": "file", "file": dict(file)}:
            return [{"type": "input_file", **file}]
        case {"type": "document", "source": dict(source)}:
            return _document(part, source, role=role)
        case _:
            return [part]


def _text(text: Any, *, role: Any) -> Json:
    return {"type": "output_text" if role == "assistant" else "input_text", "text": text}


def _image(source: Json) -> Json:
    match source:
        case {"type": "file", "file_id": id}:
            return {"type": "input_image", "file_id": id, "detail": "auto"}
        case _:
            return {"type": "input_image", "image_url": _url(source), "detail": "auto"}


def _document(part: Json, source: Json, *, role: Any) -> list[Any]:
    match source:
        case {"type": "text", "data": text}:
            return _headed(part, [_text(text, role=role)], role=role)
        case {"type": "content", "content": content}:
            inner = content if isinstance(content, list | tuple) else [content]
            return _headed(part, [turned for each in inner for turned in _parts_of(each, role=role)], role=role)
        case {"type": "file", "file_id": id}:
            return [{"type": "input_file", "file_id": id}]
        case {"type": "url", "url": url}:
            return [{"type": "input_file", "file_url": url}]
        case _:
            # A file is refused without a name.
            return [{"type": "input_file", "filename": part.get("title") or "document.pdf", "file_data": _url(source)}]


def _headed(part: Json, body: list[Any], *, role: Any) -> list[Any]:
    """A document's parts behind its title and what its sender says of it."""
    told = (part.get(name) for name in ("title", "context"))
    head = "\n".join(text for text in told if isinstance(text, str) and text)
    return [_text(head, role=role), *body] if head else body


def _url(source: Json) -> Any:
    """Where the bytes are: their address, or they themselves."""
    if "url" in source:
        return source["url"]
    return f"data:{source.get('media_type', 'application/octet-stream')};base64,{source.get('data', '')}"


# ----------------------------------------------------------------------------------------------------------- the tools


def _tool(tool: Json) -> Json:
    match tool:
        case {"type": "function", "function": dict(function)}:
            return {"type": "function", "parameters": None, **function, "strict": function.get("strict") is True}
        case {"type": "custom", "custom": dict(custom)}:
            return {"type": "custom", **custom}
        case {"name": name, "input_schema": schema} | {"name": name, "parameters": schema} if (
            tool.get("type") in _PLAIN
        ):
            told = {"description": tool["description"]} if isinstance(tool.get("description"), str) else {}
            strict = tool.get("strict") is True
            return {"type": "function", "name": name, **told, "parameters": schema, "strict": strict}
        case _:
            return tool
