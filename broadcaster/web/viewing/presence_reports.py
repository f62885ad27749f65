"""Reports to Redis of how many viewers this front-end has: all streams periodically, first and last viewers at once.

Without the immediate reports, a viewer that connects and disconnects between two periodic ones would not be counted,
and one that returns just before its generation's grace is over would be reported too late.
"""

from __future__ import annotations

import asyncio
from typing import Final

from broadcaster.errors import LogUnavailable
from broadcaster.hub.hub import Hub
from broadcaster.log.streams.presence import Presence
from broadcaster.observability.logs import get_logger

_log = get_logger(__name__)

# The longest wait of an ending front-end for a Redis that does not respond.
LAST_REPORT_S: Final = 2.0


async def report_presence(hub: Hub, presence: Presence, *, every_s: float) -> None:
    """Report until cancelled. A report that failed, also of viewers that have left, is sent with the next one."""
    loop = asyncio.get_running_loop()
    due = loop.time() + every_s
    unreported: dict[str, int] = {}
    while True:
        unreported |= await hub.turns(max(0.0, due - loop.time()))
        try:
            if loop.time() >= due:
                due = loop.time() + every_s
                await presence.report({**dict.fromkeys(unreported, 0), **hub.viewers()})
            else:
                await presence.report_some(unreported)
            unreported = {}
        except LogUnavailable:
            _log.warning("presence_later")


async def report_no_viewers(presence: Presence) -> None:
    """The last report of an orderly end: without it, the viewers would count until the presence expires."""
    try:
        async with asyncio.timeout(LAST_REPORT_S):
            await presence.report({})
    except (LogUnavailable, TimeoutError):
        _log.warning("presence_left_to_lapse")
