"""What only OpenAI's wires know of a stored request, for those who speak another: taken out, or turned.

Such words stand under the key ``openai`` of the request, a message, a part or a tool (``openai_chat_request``).

Rules
1. What a caller asks as a favour (a seed, an effort, a penalty, the detail of an image) is left out.
2. What the answer would not be what was asked for without (its format, log probabilities, a search) is turned, or
   refused. ``json_object`` is turned by the provider, since it needs a tool (``answer_format``, rule 3).
3. A conversation of that API begins with a turn of the user. Messages of the system become that turn where they begin a
   conversation and no turn of the user follows them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import takewhile
from typing import Any

from broadcaster.dialects.answer_format import is_json_object, schema_of
from broadcaster.dialects.faults import BAD_REQUEST
from broadcaster.dialects.openai_chat_messages import OPENAI
from broadcaster.dialects.reading import Json


def plain_messages(messages: Iterable[Mapping[str, Any]]) -> list[Json]:
    """The messages without those words, down to the parts of tools' results; what is in a call's input stays."""
    plain = [_plain(message) for message in messages]
    head = list(takewhile(_is_of_system, plain))
    rest = plain[len(head) :]
    if rest and rest[0].get("role") == "user":
        return plain
    return [{**message, "role": "user"} for message in head] + rest  # rule 3


def plain_tools(tools: Iterable[Mapping[str, Any]]) -> list[Json]:
    """The tools without those words."""
    return [_without(tool) for tool in tools]


def messages_options(fields: Mapping[str, Any]) -> Json:
    """What else is asked for, as the Messages API takes it. Raises ProviderFailed (rule 2)."""
    options = _without(fields)
    own = fields.get(OPENAI)
    if not isinstance(own, Mapping):
        return options
    if (name := unmet(own)) is not None:
        raise BAD_REQUEST.failure(detail=f"this model's API has no such {name}")
    if (schema := schema_of(own.get("response_format"))) is None:
        return options
    config = options.get("output_config")
    shape = {"format": {"type": "json_schema", "schema": schema}}
    return {**options, "output_config": {**(config if isinstance(config, Mapping) else {}), **shape}}


def unmet(own: Mapping[str, Any]) -> str | None:
    """The first of OpenAI's words that the Messages API cannot do without a loss that shows (rule 2)."""
    if own.get("logprobs") is True:
        return "logprobs"
    if own.get("web_search_options") is not None:
        return "web_search_options"
    match own.get("response_format"):
        case None | {"type": "text"}:
            return None
        case shape:
            return None if schema_of(shape) is not None or is_json_object(shape) else "response_format"


def wants_json_object(fields: Mapping[str, Any]) -> bool:
    """Whether the answer is to be any JSON object."""
    own = fields.get(OPENAI)
    return isinstance(own, Mapping) and is_json_object(own.get("response_format"))


def _is_of_system(message: Mapping[str, Any]) -> bool:
    return message.get("role") == "system"


def _plain(holder: Mapping[str, Any]) -> Json:
    """A message or a tool's result: both hold parts."""
    told = _without(holder)
    if isinstance(content := told.get("content"), list | tuple):
        told["content"] = [_part(part) for part in content]
    return told


def _part(part: Any) -> Any:
    if not isinstance(part, Mapping):
        return part
    return _plain(part) if part.get("type") == "tool_result" else _without(part)


def _without(whole: Mapping[str, Any]) -> Json:
    return {name: value for name, value in whole.items() if name != OPENAI}
