"""``broadcaster schema``: what events look like, for code generators. Connects to nothing."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from broadcaster.core.event_reference.schema import event_schema
from broadcaster.core.event_reference.typescript import typescript

TypeScript = Annotated[bool, typer.Option("--typescript", help="TypeScript types in place of JSON Schema")]


def schema(as_typescript: TypeScript = False) -> None:
    """Print the JSON Schema of every event type."""
    typer.echo(typescript() if as_typescript else json.dumps(event_schema(), indent=2), nl=not as_typescript)
