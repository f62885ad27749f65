"""The workers' tools: ``BROADCASTER_TOOLS=tests.hunt.system.tools:box``.

Each run of a tool is a line in the file that the environment variable HUNT_TOOL_RUNS names.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from worker.tools import ToolBox, ToolContext

REPEATABLE = "look_up"
ONCE = "book"
box = ToolBox()


async def _run(name: str, answer: str, context: ToolContext) -> str:
    with Path(os.environ["HUNT_TOOL_RUNS"]).open("a") as runs:
        runs.write(f"{name} {answer} {context.idempotency_key}\n")
    await context.progress({"done": 0, "total": 1})
    await asyncio.sleep(0.2)
    return f"result for {answer}"


@box.tool(repeatable=True)
async def look_up(answer: str, context: ToolContext) -> str:
    """Look something up: twice does no harm."""
    return await _run(REPEATABLE, answer, context)


@box.tool
async def book(answer: str, context: ToolContext) -> str:
    """Book something: once."""
    return await _run(ONCE, answer, context)
