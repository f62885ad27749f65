"""A JSON Schema (draft 2020-12) of every event type that a log holds.

The notices of the native dialect (``hub.*``) are no events of a log: docs/dialects.md has them. A client ignores types
that it does not know, so a stream may hold events that this schema does not describe (docs/protocol.md §8).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from broadcaster.core.events import FORMAT_VERSION, DataEvent, KnownEvent

_REFERENCE: Final = "#/$defs/{name}"
_NAMES: Final = re.compile(r"``(.+?)``")
_DATA_TYPE: Final = {"type": "string", "pattern": "^data-"}


def event_schema() -> dict[str, Any]:
    """The schema of one event; ``$defs`` has one definition for each type."""
    kinds = (*KnownEvent.__args__, DataEvent)
    references, definitions = msgspec.json.schema_components(kinds, ref_template=_REFERENCE)
    definitions["DataEvent"]["properties"]["type"] = _DATA_TYPE
    for each in definitions.values():
        each["description"] = _NAMES.sub(_in_json, each["description"])
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Event",
        "description": f"An event of a generation or a feed; format {FORMAT_VERSION}.",
        "oneOf": list(references),
        "$defs": definitions,
    }


def event_table() -> str:
    """The types and their fields as Markdown, for docs/events.md."""
    return "\n\n".join(map(_section, event_schema()["$defs"].values()))


def type_of(definition: Mapping[str, Any]) -> str:
    """The ``type`` of these events; ``data-<name>`` for all whose name the application chooses."""
    kinds = definition["properties"]["type"].get("enum")
    return str(kinds[0]) if kinds else "data-<name>"


def _in_json(quoted: re.Match[str]) -> str:
    """A name of Python as it is in JSON."""
    first, *others = quoted[1].split("_")
    return f"`{first}{''.join(each.capitalize() for each in others)}`"


def _section(definition: Mapping[str, Any]) -> str:
    kind = type_of(definition)
    rows = ["| Field | | Value |", "| --- | --- | --- |"]
    for name, field in definition["properties"].items():
        if name != "type":
            needed = "required" if name in definition["required"] else ""
            rows.append(f"| `{name}` | {needed} | {_value(field)} |")
    table = "\n".join(rows) if len(rows) > 2 else "It has no fields."
    return f"### `{kind}`\n\n{definition['description']}\n\n{table}"


def _value(field: Mapping[str, Any]) -> str:
    if "anyOf" in field:
        return " or ".join(_value(each) for each in field["anyOf"] if each != {"type": "null"})
    if "enum" in field:
        return ", ".join(f"`{each}`" for each in field["enum"])
    kind = str(field.get("type", "any JSON value"))
    return f"{kind}, by default `{field['default']}`".lower() if field.get("default") is not None else kind
