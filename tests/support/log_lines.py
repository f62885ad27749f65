"""The lines that a real process has logged, as objects."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from broadcaster.observability.lines import LINES
from tests.support.servers.processes import Running

COMMON = {"event", "level", "timestamp"}
KINDS = {line.event: line for line in LINES}


def lines_of(process: Running) -> list[dict[str, Any]]:
    """All lines; the front-end's own announcement on stdout is left out."""
    texts = process.log.read_text("utf-8").split("\n")
    return [json.loads(text) for text in texts if text and not text.startswith("listening on ")]


def chosen(process: Running, event: str, **fields: object) -> list[dict[str, Any]]:
    """The lines of this name with these values; each holds documented fields alone."""
    found = [line for line in lines_of(process) if line["event"] == event and fields.items() <= line.items()]
    for line in found:
        assert line.keys() <= COMMON | KINDS[event].meanings().keys(), line
    return found


async def only(process: Running, event: str, **fields: object) -> dict[str, Any]:
    """The one line of this name with these values, as soon as it is written."""
    async with asyncio.timeout(10):
        while not (found := chosen(process, event, **fields)):
            await asyncio.sleep(0.02)
    assert len(found) == 1, found
    return found[0]
