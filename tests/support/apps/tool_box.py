"""Tools for workers in processes of their own: ``BROADCASTER_TOOLS=tests.support.apps.tool_box:box``.

Every run of a tool is a line in the file TOOL_RUNS: its idempotency key. A call waits while the file TOOL_HOLD exists.
"""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path
from typing import Any

from worker.tools import ToolBox, ToolContext

box = ToolBox()


def _note(context: ToolContext) -> None:
    with Path(os.environ["TOOL_RUNS"]).open("a") as runs:
        runs.write(f"{context.idempotency_key}\n")


def _is_held() -> bool:
    return Path(os.environ["TOOL_HOLD"]).exists()


async def _look_up(city: str, context: ToolContext) -> dict[str, Any]:
    _note(context)
    await context.progress({"done": 0, "total": 1, "message": city})
    while _is_held():
        await asyncio.sleep(0.01)
    return {"city": city, "celsius": 21}


@box.tool(repeatable=True)
async def weather(city: str, context: ToolContext) -> dict[str, Any]:
    """The weather in a city: calling twice does no harm."""
    return await _look_up(city, context)


@box.tool
async def book(city: str, context: ToolContext) -> dict[str, Any]:
    """Book a journey: once."""
    return await _look_up(city, context)


@box.tool
def slow(city: str, context: ToolContext) -> str:
    """The same in a thread, which cannot be stopped."""
    _note(context)
    while _is_held():
        time.sleep(0.01)
    return city
