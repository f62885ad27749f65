"""A stored request in the format of the Messages API → the ``input`` and ``tools`` of the Responses API.

Rules
1. What already has the shape of Responses passes untouched, and so does what is unknown: the provider reports best what
   is wrong with it. Texts stay strings.
2. Calls and results are items of their own: they leave their message where they stand, and what is before and after
   them becomes messages of its own. A message without anything left is dropped.
3. Left out is what only the provider that wrote it can read: ``thinking`` with its signature, the tools it ran itself.
4. A result has no mark for an error here: its text reports it, else we add one.
5. The shape of chat completions (``image_url``, ``tool_calls``, role ``tool``) is translated too: callers send the
   messages that they have.
6. Every message has its type: OpenAI does not require it, llama.cpp refuses an assistant's without it.
7. A function is not ``strict`` unless the caller sets it: the API would refuse most schemas otherwise.
8. What only OpenAI's wires know is stored under ``openai`` (openai_chat/request.py): the detail of an image, custom
   tools and their calls, arguments that are no JSON object, and other options. Other fields there have no place on this
   wire.
9. A model that labels its messages (``phase``: commentary, final answer) needs the labels back. Texts of different
   phases are messages of their own.

Source: the openai package's ``ResponseInputParam`` and ``ToolParam``; the anthropic package's ``MessageParam``.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, Final

from broadcaster.dialects.answer_format import with_response_format
from broadcaster.dialects.openai.namespaces import NAMESPACE, bare, grouped
from broadcaster.dialects.openai.own_fields import (
    OPENAI,
    breakpoint_of,
    document_parts,
    is_provider_record,
    own_fields,
    result_text,
    without_own_fields,
)
from broadcaster.dialects.openai.tools import openai_choice
from broadcaster.dialects.reading import Json

NATIVE_ITEMS: Final = frozenset(
    {
        *("custom_tool_call", "custom_tool_call_output", "web_search_call", "file_search_call"),
        *("code_interpreter_call", "image_generation_call", "computer_call", "computer_call_output", "compaction"),
        *("local_shell_call", "local_shell_call_output", "shell_call", "shell_call_output"),
        *("apply_patch_call", "apply_patch_call_output", "tool_search_call", "tool_search_output"),
        *("mcp_call", "mcp_list_tools", "mcp_approval_request", "mcp_approval_response"),
        *("additional_tools", "configuration_update", "compaction_trigger", "program", "program_output"),
    }
)
"""Items of this API that the Messages API does not have: a stored request holds them as parts."""
_ITEMS: Final = NATIVE_ITEMS | {"reasoning", "item_reference", "function_call", "function_call_output"}
"""Parts in a message that are items of this API."""
RESPONSES_ONLY: Final = "responses"
"""The key, under ``openai``, of what chat completions do not know: preferences, which they leave out."""
PHASE: Final = "phase"
"""The label of an assistant's message, which its texts keep under ``openai``."""
LOGPROBS: Final = "message.output_text.logprobs"
"""The ``include`` value for what chat completions call ``logprobs``."""
_TURNED: Final = ("response_format", "reasoning_effort")
"""The fields of ``output_config`` that chat completions have."""
_PLAIN: Final = frozenset({None, "custom"})
"""The types of a tool that is the caller's own; ``function`` is in the shape of Responses."""


def responses_input(messages: Iterable[Mapping[str, Any]]) -> list[Json]:
    """The messages as input items. The system prompt is not among them: it is ``instructions``."""
    known = [dict(message) for message in messages]
    custom = {part["id"] for message in known for part in _list(message.get("content")) if _is_custom(part)}
    items = [item for message in known for item in _items_of(without_own_fields(message))]
    return [_result_of_custom(item) if item.get("call_id") in custom else item for item in items]


def responses_tools(tools: Iterable[Mapping[str, Any]]) -> list[Json]:
    """The tools as Responses define them."""
    return grouped((_tool(dict(tool)), own_fields(tool).get(NAMESPACE)) for tool in tools)


def responses_options(fields: Mapping[str, Any]) -> Json:
    """The other fields, as Responses name them: the tool choice of Messages, and the fields under ``openai``.

    These are what only OpenAI's wires know, under the names of chat completions if both have it. Unknown fields pass.
    """
    options = {
        name: value for name, value in with_response_format(fields).items() if name not in ("tool_choice", OPENAI)
    }
    own = {name: options.pop(name) for name in _TURNED if name in options} | own_fields(fields)
    responses = own_fields(own, RESPONSES_ONLY)
    own.pop(RESPONSES_ONLY, None)
    if (effort := own.pop("reasoning_effort", None)) is not None:
        responses["reasoning"] = {"effort": effort, **responses.get("reasoning", {})}
    if own.pop("logprobs", None) is True:
        responses["include"] = [*responses.get("include", ()), LOGPROBS]
    text: Json = {}
    if (verbosity := own.pop("verbosity", None)) is not None:
        text["verbosity"] = verbosity
    match own.pop("response_format", None):
        case {"type": "json_schema", "json_schema": dict(schema)}:
            text["format"] = {"type": "json_schema", **schema}
        case {"type": str()} as plain:
            text["format"] = plain
    choice = openai_choice(fields.get("tool_choice"), turned=_turned_choice)
    choice |= openai_choice(own.pop("tool_choice", None), turned=_turned_choice)
    return {**choice, **options, **own, **responses, **({"text": text} if text else {})}


def _turned_choice(choice: Json) -> Json:
    """A choice that names its tools; one in the shape of Responses passes."""
    match choice:
        case {"type": "tool", "name": name}:
            return {"type": "function", "name": name}
        case {"type": "function" | "custom" as type, "function": {"name": name}}:
            return {"type": type, "name": name}
        case {"type": "function" | "custom" as type, "custom": {"name": name}}:
            return {"type": type, "name": name}
        case {"type": "allowed_tools", "allowed_tools": {"mode": mode, "tools": [*tools]}}:
            return {"type": "allowed_tools", "mode": mode, "tools": [_named(tool) for tool in tools]}
        case _:
            return choice


def _named(tool: Any) -> Any:
    """A tool that is named, out of its wrapping."""
    match tool:
        case {"type": str(type)} if isinstance(wrapped := tool.get(type), Mapping):
            return {"type": type, **wrapped}
        case _:
            return tool


# -------------------------------------------------------------------------------------------------------- the messages


def _items_of(message: Json) -> list[Json]:
    role, content, calls = message.get("role"), message.get("content"), message.get("tool_calls")
    if role == "tool" and "tool_call_id" in message:
        return [_result(message["tool_call_id"], content)]
    if role is not None:
        message = {"type": "message", **message}
    kept = {name: value for name, value in message.items() if name != "tool_calls"} if calls else message
    items = [kept] if content is not None or not calls else []
    if isinstance(content, list | tuple):
        items = _split(kept, content)
    return items + [_chat_call(call) for call in calls or ()]


def _split(message: Json, content: Any) -> list[Json]:
    """A message, and the calls and results that stood in it, in their order."""
    items: list[Json] = []
    parts: list[Any] = []
    phase: Json = {}
    for part in content:
        if _is_left_out(part):
            continue
        item, part_phase = _item_of(part), _phase_of(part)
        if parts and (item is not None or part_phase != phase):
            items.append(message | phase | {"content": parts})
            parts = []
        if item is not None:
            items.append(item)
            continue
        phase = part_phase
        parts += _parts_of(part, role=message.get("role"))
    return [*items, message | phase | {"content": parts}] if parts else items


def _phase_of(part: Any) -> Json:
    """The phase of the answer that a text belongs to (rule 9); empty when its model does not label phases."""
    phase = own_fields(part).get(PHASE) if isinstance(part, dict) else None
    return {} if phase is None else {PHASE: phase}


def _is_left_out(part: Any) -> bool:
    return isinstance(part, dict) and is_provider_record(part.get("type"))


def _item_of(part: Any) -> Json | None:
    """The item that a part becomes; None when it stays in its message."""
    match part:
        case {"type": "tool_use", "id": id, "name": name} if _is_custom(part):
            input = own_fields(part).get("input", "")
            return {"type": "custom_tool_call", "call_id": id, "name": name, "input": input, **_kept(part)}
        case {"type": "tool_use", "id": id, "name": name}:
            own = own_fields(part)
            call = {**_call(id, name, own.get("arguments") or part.get("input", {})), **_kept(part)}
            return {**call, **bare(name, own.get(NAMESPACE))}
        case {"type": "tool_result", "tool_use_id": id}:
            return {**_result(id, part.get("content"), is_error=part.get("is_error") is True), **_kept(part)}
        case {"type": str(type)} if type in _ITEMS:
            return dict(part)
        case _:
            return None


def _kept(part: Json) -> Json:
    """The fields of a call or result that only this wire knows."""
    return own_fields(own_fields(part), RESPONSES_ONLY)


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
            case [{"type": "input_text", "text": str(text), **rest}] if not rest:
                content = text
            case _:
                content = parts
    return {"type": "function_call_output", "call_id": id, "output": result_text(content, is_error=is_error)}


def _is_custom(part: Any) -> bool:
    return isinstance(part, dict) and part.get("type") == "tool_use" and own_fields(part).get("type") == "custom"


def _result_of_custom(item: Json) -> Json:
    is_output = item.get("type") == "function_call_output"
    return {**item, "type": "custom_tool_call_output"} if is_output else item


# ----------------------------------------------------------------------------------------------------------- the parts


def _parts_of(part: Any, *, role: Any) -> list[Any]:
    """What a part of a message becomes: mostly one, several for a document made of parts.

    A breakpoint stands on the last; the texts of an answer have none.
    """
    turned = _turned(part, role=role)
    if turned and role != "assistant" and (mark := breakpoint_of(part)):
        return [*turned[:-1], {**turned[-1], **mark}]
    return turned


def _turned(part: Any, *, role: Any) -> list[Any]:
    match part:
        case str():
            return [_text(part, role=role)]
        case {"type": "text", "text": text, "openai": {"type": "refusal"}} if role == "assistant":
            return [{"type": "refusal", "refusal": text}]
        case {"type": "text", "text": text}:
            return [_text(text, role=role)]
        case {"type": "image", "source": dict(source)}:
            return [_image(source, own_fields(part).get("detail", "auto"))]
        case {"type": "image_url", "image_url": {"url": url, **rest}}:
            return [{"type": "input_image", "image_url": url, "detail": rest.get("detail", "auto")}]
        case {"type": "image_url", "image_url": str(url)}:
            return [{"type": "input_image", "image_url": url, "detail": "auto"}]
        case {"type": "file", "file": dict(file)}:
            return [{"type": "input_file", **file}]
        case {"type": "document", "source": dict(source)}:
            return _document(part, source, role=role)
        case dict():
            return [without_own_fields(part)]
        case _:
            return [part]


def _text(text: Any, *, role: Any) -> Json:
    return {"type": "output_text" if role == "assistant" else "input_text", "text": text}


def _image(source: Json, detail: Any) -> Json:
    match source:
        case {"type": "file", "file_id": id}:
            return {"type": "input_image", "file_id": id, "detail": detail}
        case _:
            return {"type": "input_image", "image_url": _url(source), "detail": detail}


def _document(part: Json, source: Json, *, role: Any) -> list[Any]:
    detail = {name: value for name, value in own_fields(part).items() if name == "detail"}
    match source:
        case {"type": "text", "data": _} | {"type": "content", "content": _}:
            return [turned for each in document_parts(part) for turned in _parts_of(each, role=role)]
        case {"type": "file", "file_id": id}:
            return [{"type": "input_file", "file_id": id, **detail}]
        case {"type": "url", "url": url}:
            return [{"type": "input_file", "file_url": url, **detail}]
        case _:
            # A file is refused without a name.
            named = {"filename": part.get("title") or "document.pdf", "file_data": _url(source)}
            return [{"type": "input_file", **named, **detail}]


def _url(source: Json) -> Any:
    """Where the bytes are: their address, or they themselves."""
    if "url" in source:
        return source["url"]
    return f"data:{source.get('media_type', 'application/octet-stream')};base64,{source.get('data', '')}"


# ----------------------------------------------------------------------------------------------------------- the tools


def _tool(tool: Json) -> Json:
    own = own_fields(tool)
    responses = own_fields(own, RESPONSES_ONLY)
    own = {name: value for name, value in own.items() if name not in (RESPONSES_ONLY, NAMESPACE)}
    return _declared(tool, own) | responses


def _declared(tool: Json, own: Json) -> Json:
    match own or without_own_fields(tool):
        case {"type": "function", "function": dict(function)}:
            return {"type": "function", "parameters": None, **function, "strict": function.get("strict") is True}
        case {"type": "custom", "custom": dict(custom)}:
            return {"type": "custom", **custom, **_grammar(custom.get("format"))}
        case {"name": name, "input_schema": schema} | {"name": name, "parameters": schema} if (
            tool.get("type") in _PLAIN
        ):
            described = {"description": tool["description"]} if isinstance(tool.get("description"), str) else {}
            strict = tool.get("strict") is True
            return {"type": "function", "name": name, **described, "parameters": schema, "strict": strict}
        case _:
            return without_own_fields(tool)


def _grammar(format: Any) -> Json:
    match format:
        case {"type": "grammar", "grammar": dict(grammar)}:
            return {"format": {"type": "grammar", **grammar}}
        case _:
            return {}


def _list(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else []
