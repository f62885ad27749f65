"""What of a stored request only OpenAI's wires have, removed or translated for other wires.

Its fields stand under the key ``openai`` of the request, a message, a part or a tool (openai_chat/request.py).

Rules
1. Fields that express a preference (a seed, an effort, a penalty, the detail of an image) are left out.
2. Fields without which the answer would not be the requested one (its format, log probabilities, a search) are
   translated or refused. The provider translates ``json_object``, since it needs a tool (``answer_format``, rule 3).
3. A search that the model of a Responses request may run is left out where it is only offered: Codex offers one to
   every model, and an answer without it is a good one. The provider refuses a search that is forced. Where nothing else
   was offered, a choice that forces nothing is left out too: the APIs refuse a choice without tools.
4. A conversation of the Messages API begins with a turn of the user. System messages become that turn where they begin
   a conversation and no turn of the user follows them.
5. Reasoning that OpenAI sealed, and the tools that it ran with their results, are records for its Responses API, and
   left out: a conversation can change its model, and a fallback can be on another wire. An answer without any other
   part is left out too. Items that hold more of the conversation (``compaction``) stay, and the provider refuses them.
6. The Messages API refuses an empty text, and a message with no other texts than blank ones. An answer may be empty,
   and clients send it back: such texts are left out, and so are such messages of the assistant and the system. A
   message of the user stays, and the provider refuses it.
7. It refuses an answer that ends in thinking. Where the call that followed was cut off or has no result, the thinking
   is left out too.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import takewhile
from typing import Any, Final

from broadcaster.dialects.answer_format import is_json_object, schema_of
from broadcaster.dialects.errors import BAD_REQUEST
from broadcaster.dialects.reading import Json

OPENAI: Final = "openai"
"""The key of what only OpenAI's wires know, under the names of chat completions."""
BREAKPOINT: Final = "prompt_cache_breakpoint"
"""The mark on a part where a prompt that OpenAI keeps ends; both of its wires have it under this name."""
REASONING: Final = "reasoning"
"""The key, under ``openai`` of an assistant's message, of its reasoning, for servers that take it back as text."""
_KINDS: Final = frozenset({"itemType", "toolType"})
"""Metadata of a call that is not the wire's own: the kind of the call."""
_THOUGHTS: Final = ("thinking", "redacted_thinking")
_PROVIDER_RECORDS: Final = frozenset({*_THOUGHTS, "server_tool_use", "mcp_tool_use"})
_RESULT_SUFFIX: Final = "_tool_result"
_RESPONSES_RECORDS: Final = frozenset(
    {
        *("reasoning", "web_search_call", "file_search_call", "code_interpreter_call", "image_generation_call"),
        *("mcp_call", "mcp_list_tools"),
    }
)
_SEARCH: Final = re.compile(r"web_search(_preview)?(_\d{4}_\d\d_\d\d)?")
"""The types of that tool. Anthropic's own search has a type that ends in eight digits."""


def own_fields(holder: Mapping[str, Any], key: str = OPENAI) -> Json:
    """A copy of what the holder (a request, message, part or tool) keeps under the key; empty when it keeps nothing."""
    own = holder.get(key)
    return dict(own) if isinstance(own, Mapping) else {}


def attached_to_call(metadata: Mapping[str, Any]) -> Json:
    """What a server of chat completions attached to a call (a signature), from the call's metadata.

    An item of Responses has nothing of that kind: chat completions do not know its fields.
    """
    own = own_fields(metadata)
    return {} if "itemId" in own else {name: value for name, value in own.items() if name not in _KINDS}


def without_own_fields(holder: Mapping[str, Any]) -> Json:
    """The holder without what only OpenAI's wires know."""
    return {name: value for name, value in holder.items() if name != OPENAI}


def breakpoint_of(part: object) -> Json:
    """The mark that a stored part keeps, as a field of its part on the wire; empty when it has none."""
    mark = own_fields(part).get(BREAKPOINT) if isinstance(part, Mapping) else None
    return {} if mark is None else {BREAKPOINT: mark}


def is_provider_record(type: object) -> bool:
    """Whether a part of this type is a provider's record for itself, which no other provider can read."""
    return isinstance(type, str) and (type in _PROVIDER_RECORDS or type.endswith(_RESULT_SUFFIX))


def is_responses_record(type: object) -> bool:
    """Whether a part of this type is a record of OpenAI's Responses API for itself (rule 5)."""
    return isinstance(type, str) and type in _RESPONSES_RECORDS


def result_text(text: Any, *, is_error: bool) -> Any:
    """The text of a tool's result. OpenAI's wires have no mark for an error: an empty text of one reports it."""
    if text in (None, ""):
        return "error" if is_error else ""
    return text


def document_parts(part: Mapping[str, Any]) -> list[Any]:
    """The parts of a document of text or of parts, behind a text with its title and its sender's context."""
    source = part["source"]
    body = {"type": "text", "text": source["data"]} if source["type"] == "text" else source["content"]
    head = [text for name in ("title", "context") if isinstance(text := part.get(name), str) and text]
    texts = ["\n".join(head)] if head else []
    return [*texts, *(body if isinstance(body, list | tuple) else [body])]


def plain_messages(messages: Iterable[Mapping[str, Any]]) -> list[Json]:
    """The messages without those fields, down to the parts of tool results; the input of a call stays as it is.

    What rules 5 to 7 leave out is missing too.
    """
    plain = [kept for message in messages if not _is_empty(kept := _message(message))]
    head = list(takewhile(lambda message: message.get("role") == "system", plain))
    rest = plain[len(head) :]
    if rest and rest[0].get("role") == "user":
        return plain
    return [{**message, "role": "user"} for message in head] + rest  # rule 4


def plain_system(system: Any) -> Any:
    """The system prompt without those fields, and without empty texts (rule 6)."""
    return _kept([_part(part) for part in system]) if isinstance(system, list | tuple) else system


def plain_tools(tools: Iterable[Mapping[str, Any]]) -> list[Json]:
    """The tools without those fields."""
    return [without_own_fields(tool) for tool in without_search(tools)]


def without_search(tools: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The tools without the search of Responses, which no other wire knows (rule 3)."""
    return [tool for tool in tools if not _SEARCH.fullmatch(str(tool.get("type")))]


def without_idle_choice(fields: Mapping[str, Any], *, offered: Sequence[Any], sent: Sequence[Any]) -> Mapping[str, Any]:
    """The other fields, without a choice that forces nothing if no tool of those offered is sent (rule 3)."""
    match fields.get("tool_choice"):
        case {"type": "auto" | "none"} if offered and not sent:
            own = {name: value for name, value in own_fields(fields).items() if name != "tool_choice"}
            kept = {name: value for name, value in fields.items() if name not in ("tool_choice", OPENAI)}
            return {**kept, OPENAI: own}
        case _:
            return fields


def messages_options(fields: Mapping[str, Any]) -> Json:
    """The other fields, as the Messages API takes them. Raises ProviderFailed (rule 2)."""
    options = without_own_fields(fields)
    own = own_fields(fields)
    if (name := unmet(own)) is not None:
        raise BAD_REQUEST.failure(detail=f"this model's API has no such {name}")
    if (schema := schema_of(own.get("response_format"))) is None:
        return options
    config = options.get("output_config")
    shape = {"format": {"type": "json_schema", "schema": schema}}
    return {**options, "output_config": {**(config if isinstance(config, Mapping) else {}), **shape}}


def unmet(own: Mapping[str, Any]) -> str | None:
    """The first of OpenAI's fields that the Messages API cannot fulfil (rule 2); None: it can fulfil all."""
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
    return is_json_object(own_fields(fields).get("response_format"))


def _message(message: Mapping[str, Any]) -> Json:
    plain = _plain(message)
    content = plain.get("content")
    if plain.get("role") == "assistant" and isinstance(content, list):
        while content and _is_thought(content[-1]):  # rule 7
            content.pop()
    return plain


def _is_thought(part: Any) -> bool:
    return isinstance(part, Mapping) and part.get("type") in _THOUGHTS


def _is_empty(message: Json) -> bool:
    """Whether nothing is left of a message, and its conversation is the same without it (rules 5 to 7)."""
    content = message.get("content")
    return message.get("role") != "user" and (content == [] or (isinstance(content, str) and not content.strip()))


def _kept(parts: list[Any]) -> list[Any]:
    """Those of the parts that the Messages API accepts (rules 5 and 6)."""
    texts = [part["text"] for part in parts if _is_text(part)]
    is_blank = not any(map(str.strip, texts))
    return [part for part in parts if not (_is_record(part) or (_is_text(part) and (is_blank or not part["text"])))]


def _is_text(part: Any) -> bool:
    return isinstance(part, Mapping) and part.get("type") == "text" and isinstance(part.get("text"), str)


def _is_record(part: Any) -> bool:
    return isinstance(part, Mapping) and is_responses_record(part.get("type"))


def _plain(holder: Mapping[str, Any]) -> Json:
    """A message or a tool's result: both hold parts."""
    plain = without_own_fields(holder)
    if isinstance(content := plain.get("content"), list | tuple):
        plain["content"] = _kept([_part(part) for part in content])
    return plain


def _part(part: Any) -> Any:
    if not isinstance(part, Mapping):
        return part
    return _plain(part) if part.get("type") == "tool_result" else without_own_fields(part)
