"""The format of an answer: ``output_config`` of Messages into ``response_format`` of chat completions, and back.

Rules
1. A schema is never changed: it belongs to the caller, and the provider reports best what is wrong with it.
2. Messages guarantees every schema, OpenAI only a ``strict`` one, which has rules of its own: every object is closed
   and requires all of its properties. A schema that obeys these rules is sent as strict; any other one is not, because
   OpenAI would refuse it.
3. Messages has no counterpart of ``json_object`` (any JSON object). The answer is then the input of a tool that the
   model must call: the API itself writes that input as JSON, without prose or a fence around it, which no system prompt
   can promise. ``AnthropicDecoder`` turns the call into the text of the answer.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from broadcaster.dialects.errors import BAD_REQUEST
from broadcaster.dialects.reading import Json

JSON_OBJECT: Final = "json_object"
_NAME: Final = "answer"
"""OpenAI requires a name for each schema; Messages has no such field."""
_TOOL: Final = "json_answer"
_DESCRIPTION: Final = (
    "Gives your answer to the user. The input of this tool is the answer: a JSON object with the fields that the "
    "conversation asks for."
)
_FORCED: Final = frozenset({"any", "tool"})


def with_response_format(fields: Mapping[str, Any]) -> Json:
    """The fields with ``output_config`` as chat completions name it; what they do not have stays in it."""
    config = fields.get("output_config")
    if not isinstance(config, Mapping):
        return dict(fields)
    rest = dict(config)
    turned: Json = {}
    match rest.get("format"):
        case {"type": "json_schema", "schema": Mapping() as schema, **more} if not more:
            strict = {"strict": True} if _is_strict(schema) else {}
            turned["response_format"] = {
                "type": "json_schema",
                "json_schema": {"name": _NAME, "schema": schema, **strict},
            }
            del rest["format"]
    if isinstance(rest.get("effort"), str):
        turned["reasoning_effort"] = rest.pop("effort")
    kept = {name: value for name, value in fields.items() if name != "output_config"}
    return {**kept, **turned, **({"output_config": rest} if rest else {})}


def schema_of(shape: Any) -> Any:
    """The JSON schema in a ``response_format``; None when it has no schema."""
    match shape:
        case {"type": "json_schema", "json_schema": {"schema": Mapping() as schema}}:
            return schema
        case _:
            return None


def is_json_object(shape: Any) -> bool:
    """Whether a ``response_format`` requests any JSON object."""
    return isinstance(shape, Mapping) and shape.get("type") == JSON_OBJECT


def with_json_answer(body: Json) -> str | None:
    """Add the tool of rule 3 to a request of the Messages wire, and the choice of it; returns the tool's name.

    None when the caller forces a tool of its own: the answer then has no text. Raises ProviderFailed when the model is
    to think first: the API forces no tool then.
    """
    thinking = body.get("thinking")
    if isinstance(thinking, Mapping) and thinking.get("type") != "disabled":
        raise BAD_REQUEST.failure(
            detail="response_format: this model's API gives no json_object while it thinks; send a json_schema instead"
        )
    tools = list(body.get("tools", ()))
    choice = body.get("tool_choice")
    kind = choice.get("type") if isinstance(choice, Mapping) else None
    if tools and kind in _FORCED:
        return None
    taken = {tool.get("name") for tool in tools}
    name = _TOOL
    while name in taken:
        name += "_"
    forced: Json = {"type": "tool", "name": name} if not tools or kind == "none" else {"type": "any"}
    body["tools"] = [*tools, {"name": name, "description": _DESCRIPTION, "input_schema": {"type": "object"}}]
    body["tool_choice"] = {**forced, "disable_parallel_tool_use": True}
    return name


def _is_strict(schema: Any) -> bool:
    """Rule 2."""
    if isinstance(schema, list | tuple):
        return all(map(_is_strict, schema))
    if not isinstance(schema, Mapping):
        return True
    properties = schema.get("properties")
    if schema.get("type") == "object" or isinstance(properties, Mapping):
        names = set(properties) if isinstance(properties, Mapping) else set()
        required = schema.get("required", [])
        is_closed = schema.get("additionalProperties") is False
        if not is_closed or not isinstance(required, list | tuple) or names != set(required):
            return False
    return all(map(_is_strict, schema.values()))
