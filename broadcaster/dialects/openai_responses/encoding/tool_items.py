"""The item that a tool call of ours becomes, and the fields of its result.

Rules
1. What came over the Responses wire goes back as what it was: the decoder kept the item's type and its fields.
2. A tool that the caller runs is a ``function_call``; its output, where the worker ran it, a ``function_call_output``.
   It is a ``custom_tool_call`` if the caller offered a custom tool under its name, or chat completions reported one.
3. A tool that another provider ran itself (Claude's web search, …) becomes an ``mcp_call``: these items have a name,
   arguments and an output, and clients do not take them for calls to answer themselves.
4. No arguments are ``{}``: an empty text is not JSON.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from broadcaster.core import events as ev
from broadcaster.dialects.openai.tools import custom_text, is_custom_call
from broadcaster.dialects.openai.wire import PROVIDER, extras_in
from broadcaster.dialects.openai_responses.encoding.items import INPUTS
from broadcaster.dialects.reading import Json, as_text

_NAMED: Final = frozenset({"function_call", "custom_tool_call", "mcp_call"})
"""The types that have a name of their own; the others' fields are their input."""
_WITH_CALL_ID: Final = frozenset(
    {"function_call", "custom_tool_call", "computer_call", "local_shell_call", "apply_patch_call"}
)
_NOT_FIELDS: Final = frozenset({"itemId", "itemType", "toolType", "toolResult", "requestId"})
UNNAMED: Final = "provider"
"""The server label of a call whose provider's events do not name it."""


class CallShape(NamedTuple):
    """An item to be: its type, the provider's id for it, whether it is named by a ``call_id``, its fields.

    ``is_wrapped``: a model without custom tools called one of the caller's, so the text stands in an object.
    """

    type: str
    item_id: str | None
    has_call_id: bool
    fields: Json
    awaits_result: bool
    has_progress_events: bool
    is_wrapped: bool = False


def shape_of(
    event: ev.ToolInputStart | ev.ToolInputAvailable | ev.ToolInputError, *, custom_tools: frozenset[str]
) -> CallShape:
    """The item that this call becomes; ``custom_tools``: the caller's."""
    metadata = event.provider_metadata or {}
    reported: Mapping[str, Any] = metadata.get(PROVIDER, {})
    item_id, awaits = reported.get("itemId"), event.provider_executed is True
    known = isinstance(item_id, str) or "itemType" in reported or PROVIDER in metadata
    fields = {name: value for name, value in reported.items() if name not in _NOT_FIELDS}
    type = reported.get("itemType") if isinstance(reported.get("itemType"), str) else None
    if awaits and not (known and type):
        label = next(iter(metadata), None) or UNNAMED
        fields = {"name": event.tool_name, "server_label": label}
        return CallShape("mcp_call", None, False, fields, True, False)
    is_custom = is_custom_call(reported)
    is_wrapped = not is_custom and type is None and event.tool_name in custom_tools
    type = type or ("custom_tool_call" if is_custom or is_wrapped else "function_call")
    if type in _NAMED:
        fields = {"name": event.tool_name, **fields}
    name = item_id if isinstance(item_id, str) and item_id else None
    return CallShape(type, name, type in _WITH_CALL_ID, fields, awaits, True, is_wrapped=is_wrapped)


def input_text(type: str, input: Any) -> str:
    """The text of an input that came whole."""
    if type == "code_interpreter_call":
        code = input.get("code") if isinstance(input, dict) else None
        return code if isinstance(code, str) else ""
    return custom_text(input) if type == "custom_tool_call" else as_text(input)


def input_fields(type: str, input: Any) -> Json:
    """The fields of an item that keeps its input in fields."""
    if type in _NAMED or not isinstance(input, dict):
        return {}
    family = INPUTS.get(type)
    return {name: value for name, value in input.items() if family is None or name != family[1]}


def result_fields(event: ev.ToolOutputAvailable | ev.ToolOutputError, *, is_native: bool) -> Json:
    """What the result of a provider's tool adds to its item."""
    reported = extras_in(event)
    if isinstance(event, ev.ToolOutputAvailable):
        if not is_native:
            return {"output": as_text(event.output), "status": "completed"}
        output = event.output if isinstance(event.output, dict) else {"output": event.output}
        return {**_late(reported), **output}
    results = reported.get("toolResult")
    if is_native and isinstance(results, dict):
        return {**_late(reported), **results}
    error = {"type": "mcp_tool_execution_error", "content": event.error_text}
    return {"output": None, "error": error, "status": "failed"}


def _late(reported: Mapping[str, Any]) -> Json:
    return {name: value for name, value in reported.items() if name not in _NOT_FIELDS}
