"""Tools and their choice, as Messages and the wires of OpenAI name them.

Rules
1. ``parallel_tool_calls: false`` of OpenAI's wires is ``disable_parallel_tool_use`` inside the choice of Messages.
2. A custom tool takes any text. A model without such tools can still call it: its schema has that text as ``input``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from broadcaster.dialects.openai.own_fields import OPENAI
from broadcaster.dialects.reading import Json

STORED_CHOICES: Final = {"auto": "auto", "required": "any", "none": "none"}
"""``tool_choice`` of OpenAI's wires → the type of a choice in Messages."""
OPENAI_CHOICES: Final = {stored: own for own, stored in STORED_CHOICES.items()}

_DISABLED: Final = "disable_parallel_tool_use"


def stored_choice(choice: Json | None, *, is_parallel: bool | None) -> Json | None:
    """The choice with rule 1 applied."""
    if is_parallel is not False or (choice is not None and choice["type"] == "none"):
        return choice
    return {**(choice or {"type": "auto"}), _DISABLED: True}


def split_choice(choice: Mapping[str, Any]) -> tuple[Json, Json]:
    """The inverse of ``stored_choice``: the bare choice, and ``parallel_tool_calls`` where it was given."""
    bare = dict(choice)
    is_disabled = bare.pop(_DISABLED, None) is True
    return bare, {"parallel_tool_calls": False} if is_disabled else {}


def stored_custom_tool(name: str, own: Json) -> Json:
    """A custom tool as it is stored; ``own`` is its definition in chat completions (rule 2)."""
    description = own["custom"].get("description")
    described = {"description": description} if isinstance(description, str) else {}
    schema = {"type": "object", "properties": {"input": {"type": "string"}}, "required": ["input"]}
    return {"name": name, **described, "input_schema": schema, OPENAI: own}
