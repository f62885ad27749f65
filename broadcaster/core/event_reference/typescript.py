"""TypeScript types of the events, made from their JSON Schema.

A field that may be left out is optional: events hold no ``null`` for it. Each interface has the suffix ``Event``, since
some types would have names that browsers use (``File``, ``Error``).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from broadcaster.core.event_reference.schema import event_schema, type_of

_HEAD: Final = "// The events of a broadcaster stream. Printed by `broadcaster schema --typescript`.\n"
_SIMPLE: Final = {"string": "string", "boolean": "boolean", "integer": "number", "number": "number"}


def typescript() -> str:
    """The module: an interface for each type, and their union ``StreamEvent``."""
    definitions = event_schema()["$defs"]
    names = {name: name if name.endswith("Event") else f"{name}Event" for name in definitions}
    union = "export type StreamEvent =\n" + "\n".join(f"  | {name}" for name in names.values()) + ";\n"
    return "\n".join([_HEAD, *(_interface(names[name], each) for name, each in definitions.items()), union])


def _interface(name: str, definition: Mapping[str, Any]) -> str:
    lines = [f"/** {definition['description'].replace('*/', '* /')} */", f"export interface {name} {{"]
    for field, schema in definition["properties"].items():
        kind = _type(schema) if field != "type" else _tag(definition)
        lines.append(f"  {field}{'' if field in definition['required'] else '?'}: {kind};")
    return "\n".join([*lines, "}", ""])


def _tag(definition: Mapping[str, Any]) -> str:
    kind = type_of(definition)
    return "`data-${string}`" if kind == "data-<name>" else json.dumps(kind)


def _type(schema: Mapping[str, Any]) -> str:
    if "anyOf" in schema:
        return " | ".join(_type(each) for each in schema["anyOf"] if each != {"type": "null"})
    if "enum" in schema:
        return " | ".join(json.dumps(each) for each in schema["enum"])
    if schema.get("type") == "object":
        values = schema.get("additionalProperties")
        return f"Record<string, {_type(values) if isinstance(values, dict) else 'unknown'}>"
    return _SIMPLE.get(schema.get("type", ""), "unknown")
