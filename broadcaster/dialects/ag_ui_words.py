"""The words of AG-UI 1.0: its events as plain objects, and what of ours goes into each.

Field names are camelCase, and an optional field without a value is left out: the client's schema refuses null.

Source: the schemas of ``@ag-ui/core`` 1.0.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from broadcaster.core import events as ev
from broadcaster.dialects.reading import Json

PROTOCOL_VERSION: Final = "1.0"

SIGNATURE: Final = "anthropic:signature:"
REDACTED: Final = "anthropic:redacted:"
"""What an ``encryptedValue`` begins with: a client gives it back unread, and the next request knows whose it is."""

_PLAIN_USAGE: Final = ("reasoning_tokens", "cached_input_tokens", "cache_write_input_tokens")


def run_started(thread_id: str, run_id: str) -> Json:
    """The first event of every run."""
    return {"type": "RUN_STARTED", "threadId": thread_id, "runId": run_id, "protocolVersion": PROTOCOL_VERSION}


def run_finished(thread_id: str, run_id: str, *, outcome: Json, usage: Json | None, metadata: Json) -> Json:
    """The end of a run that did not fail."""
    told: Json = {"type": "RUN_FINISHED", "threadId": thread_id, "runId": run_id, "outcome": outcome}
    if usage is not None:
        told["usage"] = [usage]
    return told | ({"metadata": metadata} if metadata else {})


def run_error(message: str, code: str, *, usage: Json | None = None) -> Json:
    """The end of a run that failed."""
    told: Json = {"type": "RUN_ERROR", "message": message, "code": code}
    return told if usage is None else {**told, "usage": [usage]}


def custom(name: str, value: Any, *, id: str | None = None) -> Json:
    """The protocol's place for what it has no word for."""
    told: Json = {"type": "CUSTOM", "name": name, "value": value}
    return told if id is None else {**told, "metadata": {"id": id}}


def shown(event: ev.SourceUrl | ev.SourceDocument | ev.File) -> Json:
    """A source or a file, without its provider's extras."""
    value: Json = msgspec.to_builtins(event)
    value.pop("providerMetadata", None)
    return custom(value.pop("type"), value)


def usage_item(counts: Mapping[str, Any], *, model: str | None) -> Json:
    """The counts as AG-UI counts: the input is all of it, what a cache gave or took is a part of that."""
    item: Json = {} if model is None else {"model": model}
    inputs = [counts.get(name) for name in ("input_tokens", "cached_input_tokens", "cache_write_input_tokens")]
    known = [count for count in inputs if count is not None]
    output = counts.get("output_tokens")
    if known:
        item["inputTokens"] = sum(known)
    if output is not None:
        item["outputTokens"] = output
    if known and output is not None:
        item["totalTokens"] = sum(known) + output
    for name in _PLAIN_USAGE:
        if (count := counts.get(name)) is not None:
            head, *rest = name.split("_")
            item[head + "".join(word.title() for word in rest)] = count
    return item


def encrypted_value(metadata: ev.ProviderMetadata | None) -> str | None:
    """What a provider wants back untouched with the next request, if there is any."""
    extras = (metadata or {}).get("anthropic", {})
    for name, prefix in (("signature", SIGNATURE), ("redactedData", REDACTED)):
        if isinstance(value := extras.get(name), str) and value:
            return prefix + value
    return None


def text_of(value: Any) -> str:
    """A tool's output as text: what is text stays as it is, anything else is JSON."""
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()
