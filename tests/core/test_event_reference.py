"""The JSON Schema of the events holds for every event, and for nothing else; the TypeScript types say the same."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given

from broadcaster.core.event_reference.schema import event_schema
from broadcaster.core.event_reference.typescript import typescript
from broadcaster.core.events import KNOWN_TYPES, Event, TextDelta, Usage, encode_event
from tests.compat.node_clients import FOLDER
from tests.core.test_events import any_event
from tests.support.servers.programs import lacking

VALIDATOR = jsonschema.Draft202012Validator(event_schema())
COMPILER = FOLDER / "node_modules" / "typescript" / "bin" / "tsc"

# Fails to compile where a field is missing, has another type, or is not optional.
READER = """
import type { StreamEvent, UsageEvent } from "./events";

export function show(event: StreamEvent): string {
  switch (event.type) {
    case "text-delta":
      return event.delta;
    case "tool-input-available":
      return event.toolName + String(event.input);
    case "finish":
      return event.finishReason ?? "none";
    case "error":
      return event.errorText;
    case "usage":
      return String((event.outputTokens ?? 0) + (event.inputTokens ?? 0));
    case "attempt":
      return String(event.attempt);
    case "start":
      return String(event.messageMetadata?.["model"]);
    default:
      return event.type;
  }
}
export const usage: UsageEvent = { type: "usage" };
export const progress: StreamEvent = { type: "data-progress", data: { done: 1 } };
"""


@given(any_event)
def test_every_stored_event_is_valid(event: Event) -> None:
    VALIDATOR.validate(json.loads(encode_event(event)))


@pytest.mark.parametrize(
    "event",
    [
        {"type": "text-delta", "id": "0"},
        {"type": "text-delta", "id": "0", "delta": 1},
        {"type": "finish", "finishReason": "tired"},
        {"type": "usage", "inputTokens": "3"},
        {"type": "progress", "data": 1},
        {"delta": "x"},
    ],
)
def test_an_event_with_a_wrong_field_or_an_unknown_type_is_not_valid(event: dict[str, Any]) -> None:
    assert not VALIDATOR.is_valid(event)


def test_the_schema_names_every_type_and_its_fields_as_they_are_in_json() -> None:
    schema = event_schema()
    kinds = {kind for each in schema["$defs"].values() for kind in each["properties"]["type"].get("enum", ())}
    assert kinds == KNOWN_TYPES
    assert "message_id" not in json.dumps(schema)
    assert "`messageId` is the provider's" in schema["$defs"]["Start"]["description"]


def test_a_strict_typescript_program_reads_events_by_their_type(tmp_path: Path) -> None:
    if not COMPILER.exists():
        lacking("no TypeScript found: make compat-modules")
    (tmp_path / "events.ts").write_text(typescript(), "utf-8")
    readers = {"right.ts": READER}
    readers |= {
        f"{name}.ts": READER.replace("return event.type;", f"return event.{name};") for name in ("delta", "text")
    }
    for name, source in readers.items():
        (tmp_path / name).write_text(source, "utf-8")
    # Of the compiler's own declarations, which it would check each time, these programs need those of the language.
    options = ("--strict", "--noEmit", "--target", "es2022", "--lib", "es2022", "--skipLibCheck")
    command = ["node", str(COMPILER), *options, *readers]
    errors = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False).stdout
    found = re.findall(r"^(\S+)\(.*Property '(\w+)' does not exist", errors, re.MULTILINE)
    assert found == [("delta.ts", "delta"), ("text.ts", "text")], errors
    assert errors.count("error TS") == 2, errors


def test_values_of_fields_keep_their_types_in_typescript() -> None:
    types = typescript()
    assert 'type: "text-delta";\n  id: string;\n  delta: string;' in types
    assert "inputTokens?: number;" in types
    assert {TextDelta.__struct_config__.tag, Usage.__struct_config__.tag} <= KNOWN_TYPES
