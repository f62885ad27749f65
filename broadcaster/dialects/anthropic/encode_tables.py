"""The tables from our events to the Messages wire: reasons, errors, counts, and the beginnings of blocks.

Rules
1. What the Anthropic decoder stored under its provider is sent as it came. What another provider reported is sent as
   the nearest thing that this wire has, or left out.
2. A tool that another provider ran is a ``server_tool_use``, or an ``mcp_tool_use``, with a result block behind it.
3. The input of a call is an object here: any other input stands in an object under ``input``.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from broadcaster.core import events as ev
from broadcaster.dialects.anthropic.wire import PROVIDER
from broadcaster.dialects.reading import Json

_OPENAI: Final = "openai"
_JSON_CALLS: Final = frozenset({"function_call", "mcp_call"})
"""OpenAI's calls whose fragments are JSON."""
_DELTA_FIELDS: Final = frozenset({"stopReason", "stopSequence"})
_TOP_LEVEL: Final = frozenset({"context_management"})
"""What of a ``message_delta`` stands beside its delta."""

STOP_REASONS: Final[dict[str | None, str | None]] = {
    "stop": "end_turn",
    "length": "max_tokens",
    "tool-calls": "tool_use",
    "content-filter": "refusal",
    "other": "end_turn",
    # The model broke off, or no reason is known: no reason of this wire would be true.
    "error": None,
    None: None,
}
"""Our reason → the wire's, where the provider's own is not known."""

_ERROR_TYPES: Final = {
    "provider_overloaded": "overloaded_error",
    "provider_rate_limited": "rate_limit_error",
    "provider_bad_request": "invalid_request_error",
    "unknown_tool": "invalid_request_error",
    "provider_timeout": "timeout_error",
    "generation_timeout": "timeout_error",
    "queue_timeout": "overloaded_error",
}
"""Code of an ``error`` event → the wire's type; all others are an ``api_error``."""


def extras(metadata: ev.ProviderMetadata | None, provider: str = PROVIDER) -> Json:
    """What the metadata hold under a provider."""
    found = (metadata or {}).get(provider)
    return found if isinstance(found, dict) else {}


def error(type: str, message: str, *, details: Json | None = None) -> Json:
    """An ``error`` event: as a whole it is also the body of a failed request."""
    more = {} if details is None else {"details": details}
    return {"type": "error", "error": {"type": type, "message": message, **more}}


def error_of(event: ev.Error) -> Json:
    """What our terminal error is on the wire."""
    return error(_ERROR_TYPES.get(event.code, "api_error"), f"{event.error_text} ({event.code})")


# ------------------------------------------------------------------------------------------------------ begin and end


def message_start(event: ev.Start | None, *, stream_id: str) -> Json:
    """``message_start``. A provider's own id is kept if it is one of this wire."""
    reported = dict(extras(event.provider_metadata)) if event is not None else {}
    reported.pop("requestId", None)  # it is the header of another request
    id = event.message_id if event is not None else None
    is_own = bool(reported) or (id or "").startswith("msg_")
    model = (event.message_metadata or {}).get("model") if event is not None else None
    usage = reported.pop("usage", None)
    message: Json = {
        "id": id if id and is_own else f"msg_{stream_id}",
        "type": "message",
        "role": "assistant",
        "model": model if isinstance(model, str) else "unknown",
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": {"input_tokens": 0, "output_tokens": 0, **(usage if isinstance(usage, dict) else {})},
    }
    return {"type": "message_start", "message": _opened(message, reported)}


def message_delta(reason: str | None, reported: Json, *, usage: Json) -> Json:
    """``message_delta``: why it stopped, and all counts; ``reported`` is what the provider sent with its end."""
    sequence = reported.get("stopSequence")
    delta: Json = {"stop_reason": reason, "stop_sequence": sequence if isinstance(sequence, str) else None}
    beside: Json = {}
    for name, value in reported.items():
        if name not in _DELTA_FIELDS:
            (beside if name in _TOP_LEVEL else delta).setdefault(name, value)
    return {"type": "message_delta", "delta": delta, "usage": {"output_tokens": 0, **usage}, **beside}


def stop_reason(reason: str | None, reported: Json) -> str | None:
    """The provider's own reason, else the nearest one."""
    own = reported.get("stopReason")
    return own if isinstance(own, str) else STOP_REASONS.get(reason)


def counts(usage: ev.Usage) -> Json:
    """The counts in the wire's names; what is not known is left out, so that an earlier count stands."""
    own = extras(usage.provider_metadata).get("usage")
    merged: Json = dict(own) if isinstance(own, dict) else {}
    known = {
        "input_tokens": usage.input_tokens,
        "output_tokens": usage.output_tokens,
        "cache_read_input_tokens": usage.cached_input_tokens,
        "cache_creation_input_tokens": usage.cache_write_input_tokens,
    }
    merged |= {name: count for name, count in known.items() if count is not None}
    if usage.reasoning_tokens is not None:
        details = merged.get("output_tokens_details")
        rest = details if isinstance(details, dict) else {}
        merged["output_tokens_details"] = {**rest, "thinking_tokens": usage.reasoning_tokens}
    return merged


# ---------------------------------------------------------------------------------------------------------- the blocks


def text_start(metadata: ev.ProviderMetadata | None) -> Json:
    """The start of a text block."""
    return _opened({"type": "text", "text": ""}, extras(metadata))


def thinking_start(metadata: ev.ProviderMetadata | None) -> Json:
    """The start of a thinking block; without a signature it is only for people."""
    reported = dict(extras(metadata))
    if isinstance(data := reported.pop("redactedData", None), str):
        return _opened({"type": "redacted_thinking", "data": data}, reported)
    return _opened({"type": "thinking", "thinking": "", "signature": ""}, reported)


def tool_start(event: ev.ToolInputStart | ev.ToolInputAvailable | ev.ToolInputError) -> Json:
    """The start of a tool call."""
    reported = dict(extras(event.provider_metadata))
    kind = reported.pop("blockType", None)
    if _item_type(event.provider_metadata) == "mcp_call":
        kind = "mcp_tool_use"
        reported.setdefault("server_name", extras(event.provider_metadata, _OPENAI).get("server_label", _OPENAI))
    if not isinstance(kind, str):
        kind = "server_tool_use" if event.provider_executed else "tool_use"
    return _opened({"type": kind, "id": event.tool_call_id, "name": event.tool_name, "input": {}}, reported)


def streams_text(metadata: ev.ProviderMetadata | None) -> bool:
    """Whether the fragments of this call are no JSON."""
    kind = _item_type(metadata)
    return isinstance(kind, str) and (kind == "custom" or (kind.endswith("_call") and kind not in _JSON_CALLS))


def input_text(value: Any) -> str:
    """The input of a call as one fragment (rule 3)."""
    return msgspec.json.encode(value if isinstance(value, dict) else {"input": value}).decode()


def citations(metadata: ev.ProviderMetadata | None, *, all_of_text: bool = False) -> list[Json]:
    """The citations that an event carries: one with a delta, all with the end of a text."""
    own, other = extras(metadata), extras(metadata, _OPENAI)
    if all_of_text:
        cited, annotations = _list(own.get("citations")), _list(other.get("annotations"))
    else:
        cited, annotations = [own.get("citation")], [other.get("annotation")]
    turned: list[Json] = [each for each in cited if isinstance(each, dict)]
    return turned + [page for each in annotations if (page := _page(each)) is not None]


def tool_result(event: ev.ToolOutputAvailable | ev.ToolOutputError, call: Json | None) -> Json:
    """The result block of a tool that a provider ran; ``call`` is the start of its call, if that was sent."""
    block = extras(event.provider_metadata).get("toolResult")
    block = block if isinstance(block, dict) and isinstance(block.get("type"), str) else None
    if isinstance(event, ev.ToolOutputError):
        if block is not None:
            return {**block, "tool_use_id": event.tool_call_id}
    elif block is not None:
        return {"type": block["type"], "tool_use_id": event.tool_call_id, "content": event.output, **block}
    if call is not None and call["type"] == "mcp_tool_use":
        return _mcp_result(event)
    type = f"{call['name'] if call is not None else 'server'}_tool_result"
    if isinstance(event, ev.ToolOutputError):
        content: Any = {"type": f"{type}_error", "error_code": "unavailable", "message": event.error_text}
    else:
        content = event.output
        if type == "web_search_tool_result" and not isinstance(content, list):
            content = []  # the pages stand in the text's citations
    return {"type": type, "tool_use_id": event.tool_call_id, "content": content}


def _mcp_result(event: ev.ToolOutputAvailable | ev.ToolOutputError) -> Json:
    if isinstance(event, ev.ToolOutputError):
        text = event.error_text
    else:
        output = event.output.get("output", event.output) if isinstance(event.output, dict) else event.output
        text = output if isinstance(output, str) else msgspec.json.encode(output).decode()
    return {
        "type": "mcp_tool_result",
        "tool_use_id": event.tool_call_id,
        "is_error": isinstance(event, ev.ToolOutputError),
        "content": [{"type": "text", "text": text}],
    }


def _page(annotation: Any) -> Json | None:
    """A page that OpenAI's models cite, as a search result of this wire."""
    match annotation:
        case {"url_citation": {"url": str(url)} as cited}:
            pass
        case {"type": "url_citation", "url": str(url)}:
            cited = annotation
        case _:
            return None
    return {
        "type": "web_search_result_location",
        "url": url,
        "title": cited.get("title"),
        "cited_text": "",
        "encrypted_index": "",
    }


def _item_type(metadata: ev.ProviderMetadata | None) -> Any:
    reported = extras(metadata, _OPENAI)
    return reported.get("itemType", reported.get("toolType"))


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _opened(fixed: Json, reported: Json) -> Json:
    """An object with the fields that are ours to set, and those of the provider that are not."""
    return {**fixed, **{name: value for name, value in reported.items() if name not in fixed}}
