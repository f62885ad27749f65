"""Tools and their choice, as Messages and the wires of OpenAI name them.

Rules
1. ``parallel_tool_calls: false`` of OpenAI's wires is ``disable_parallel_tool_use`` inside the choice of Messages.
2. A custom tool takes any text. A model without such tools can still call it: its schema has that text as ``input``.
   The dialects of OpenAI's wires show its call as one of the custom tool. Both read the kind that either wire reported.
3. A model may write arguments that are not a JSON object, and clients send such a call back with an error as its
   result. Messages requires an object, so it is empty there; OpenAI's wires get the text as it came. An object that is
   larger or nested deeper than the bounds (arguments.py) stands in the same way.
4. ``allowed_tools`` limits which tools the model may call. Messages has no such choice: it is sent these tools alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from broadcaster.dialects.arguments import ArgumentsReader, UnparsedArguments
from broadcaster.dialects.errors import BAD_REQUEST
from broadcaster.dialects.openai.own_fields import OPENAI, own_fields
from broadcaster.dialects.openai.parameters import WRONG_VALUE, BadParameter
from broadcaster.dialects.reading import Json, as_text

STORED_CHOICES: Final = {"auto": "auto", "required": "any", "none": "none"}
"""``tool_choice`` of OpenAI's wires → the type of a choice in Messages."""
OPENAI_CHOICES: Final = {stored: own for own, stored in STORED_CHOICES.items()}

_DISABLED: Final = "disable_parallel_tool_use"


def parse_choice(choice: Any, own: Json) -> Json | None:
    """A choice of chat completions as Messages has it; one that only OpenAI knows is also kept in ``own``.

    Raises BadParameter.
    """
    match choice:
        case None:
            return None
        case str(mode_name) if mode_name in STORED_CHOICES:
            return {"type": STORED_CHOICES[mode_name]}
        case {"type": "function", "function": {"name": str(name)}}:
            return {"type": "tool", "name": name}
        case {"type": "custom", "custom": {"name": str(name)}}:
            own["tool_choice"] = choice
            return {"type": "tool", "name": name}
        case {"type": "allowed_tools", "allowed_tools": {"mode": mode, "tools": [*_]}}:
            own["tool_choice"] = choice
            return {"type": "any" if mode == "required" else "auto"}
        case _:
            raise BadParameter("tool_choice", "is auto, none, required, or names a tool", api_code=WRONG_VALUE)


def stored_choice(choice: Json | None, *, is_parallel: bool | None, has_tools: bool) -> Json | None:
    """The choice with rule 1 applied; None where there is nothing to choose from. Raises BadParameter."""
    if not has_tools:
        if choice is not None and choice["type"] not in ("auto", "none"):
            raise BadParameter("tool_choice", "is of no use without tools", api_code=WRONG_VALUE)
        return None
    if is_parallel is not False or (choice is not None and choice["type"] == "none"):
        return choice
    return {**(choice or {"type": "auto"}), _DISABLED: True}


def openai_choice(choice: Any, *, turned: Callable[[Json], Any]) -> Json:
    """``tool_choice`` and ``parallel_tool_calls`` of OpenAI's wires, the inverse of ``stored_choice``.

    ``turned`` gives the wire's form of a choice that is more than a name. A value that is not a choice of
    Messages is passed on.
    """
    if not isinstance(choice, Mapping):
        return {} if choice is None else {"tool_choice": choice}
    bare = dict(choice)
    parallel = {"parallel_tool_calls": False} if bare.pop(_DISABLED, None) is True else {}
    match bare:
        case {"type": str(type)} if type in OPENAI_CHOICES:
            return {"tool_choice": OPENAI_CHOICES[type], **parallel}
        case _:
            return {"tool_choice": turned(bare), **parallel}


def stored_arguments(text: str, reader: ArgumentsReader) -> tuple[Json, Json]:
    """The arguments of a call as an object; if they are not one, also as they came, for its ``openai`` (rule 3)."""
    try:
        input = reader.parse(text) if text.strip() else {}
    except UnparsedArguments:
        input = None
    return (input, {}) if isinstance(input, dict) else ({}, {"arguments": text})


def allowed_tools(tools: Sequence[Mapping[str, Any]], fields: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    """The tools that the choice in the request's fields allows (rule 4). Raises ProviderFailed if it allows none."""
    match own_fields(fields).get("tool_choice"):
        case {"type": "allowed_tools", "allowed_tools": {"tools": [*named]}}:
            kept = [tool for tool in tools if any(_is_named(tool, each) for each in named)]
            if not kept:
                raise BAD_REQUEST.failure(detail="tool_choice allows none of the request's tools")
            return kept
        case _:
            return tools


def _is_named(tool: Mapping[str, Any], named: Any) -> bool:
    """Whether a choice names this tool; one that is not the caller's is named by fields of its own."""
    match named:
        case {"function": {"name": name}} | {"custom": {"name": name}}:
            return bool(tool.get("name") == name)
        case {"type": str()}:
            return all(tool.get(field) == value for field, value in named.items())
        case _:
            return False


def stored_custom_tool(name: str, own: Json) -> Json:
    """A custom tool as it is stored; ``own`` is its definition in chat completions (rule 2)."""
    description = own["custom"].get("description")
    described = {"description": description} if isinstance(description, str) else {}
    schema = {"type": "object", "properties": {"input": {"type": "string"}}, "required": ["input"]}
    return {"name": name, **described, "input_schema": schema, OPENAI: own}


def custom_names(tools: Any) -> frozenset[str]:
    """The names of the custom tools among the tools of a request, as either wire of OpenAI's has them."""
    return frozenset(name for tool in tools if (name := _custom_name(tool))) if isinstance(tools, list) else frozenset()


def _custom_name(tool: Any) -> str | None:
    match tool:
        case {"type": "custom", "custom": {"name": str(name)}} | {"type": "custom", "name": str(name)}:
            return name
        case _:
            return None


def is_custom_call(reported: Mapping[str, Any]) -> bool:
    """Whether a call is of a custom tool, by what its wire reported (rule 2)."""
    return reported.get("itemType") == "custom_tool_call" or reported.get("toolType") == "custom"


def custom_text(input: Any) -> str:
    """The text for a custom tool in the input of its call, which may stand in an object (rule 2)."""
    match input:
        case {"input": str(text)}:
            return text
        case _:
            return "" if input == {} else as_text(input)
