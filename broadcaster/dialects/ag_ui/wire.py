"""The events of AG-UI 1.0 as plain objects, and how ours map to them.

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
"""The beginnings of an ``encryptedValue``: the client returns it unread, and the next request knows its kind."""

_INPUTS: Final = ("inputTokens", "cachedInputTokens", "cacheWriteInputTokens")
_PLAIN: Final = ("reasoningTokens", "cachedInputTokens", "cacheWriteInputTokens")
COUNTS: Final = frozenset({*_INPUTS, *_PLAIN, "outputTokens"})
"""The counts that AG-UI has, under the names that our events share with it."""


def run_error(message: str, code: str, *, usage: Json | None = None) -> Json:
    """The end of a run that failed."""
    event: Json = {"type": "RUN_ERROR", "message": message, "code": code}
    return event if usage is None else {**event, "usage": [usage]}


def custom(name: str, value: Any, *, id: str | None = None) -> Json:
    """The protocol's event for everything that it does not define."""
    event: Json = {"type": "CUSTOM", "name": name, "value": value}
    return event if id is None else {**event, "metadata": {"id": id}}


def as_custom(event: ev.SourceUrl | ev.SourceDocument | ev.File) -> Json:
    """A source or a file, without its provider's extras."""
    value: Json = msgspec.to_builtins(event)
    value.pop("providerMetadata", None)
    return custom(value.pop("type"), value)


def usage_item(counts: Mapping[str, int], *, model: str | None) -> Json:
    """The counts as AG-UI counts: the input includes what was read from a cache and written to it."""
    item: Json = {} if model is None else {"model": model}
    inputs = [counts[name] for name in _INPUTS if name in counts]
    if inputs:
        item["inputTokens"] = sum(inputs)
    if "outputTokens" in counts:
        item["outputTokens"] = counts["outputTokens"]
        if inputs:
            item["totalTokens"] = sum(inputs) + counts["outputTokens"]
    return item | {name: counts[name] for name in _PLAIN if name in counts}


def encrypted_value(metadata: ev.ProviderMetadata | None) -> str | None:
    """What a provider expects back unchanged with the next request; None: nothing."""
    extras = (metadata or {}).get("anthropic", {})
    for name, prefix in (("signature", SIGNATURE), ("redactedData", REDACTED)):
        if isinstance(value := extras.get(name), str) and value:
            return prefix + value
    return None
