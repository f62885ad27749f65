"""Telling Redis how many viewers this front-end has: all of it in turn, first and last viewers at once.

Without the first, a viewer that comes and goes between two turns would never have been here, and one that comes back
just before its generation's grace is over would come too late.
"""

from __future__ import annotations

import asyncio
from typing import Final

from broadcaster.errors import LogUnavailable
from broadcaster.hub.hub import Hub
from broadcaster.log.presence import Presence
from broadcaster.logs import get_logger

_log = get_logger(__name__)

# An ending front-end waits no longer for a Redis that does not answer.
LAST_REPORT_S: Final = 2.0


async def tell_presence(hub: Hub, presence: Presence, *, every_s: float) -> None:
    """Say it until cancelled. What could not be told is told with the next word, also that somebody was here."""
    loop = asyncio.get_running_loop()
    due = loop.time() + every_s
    untold: dict[str, int] = {}
    while True:
        untold |= await hub.turns(max(0.0, due - loop.time()))
        try:
            if loop.time() >= due:
                due = loop.time() + every_s
                await presence.tell({**dict.fromkeys(untold, 0), **hub.viewers()})
            else:
                await presence.tell_some(untold)
            untold = {}
        except LogUnavailable:
            _log.warning("presence_later")


async def report_no_viewers(presence: Presence) -> None:
    """What a front-end that ends in order says last: else its viewers would count until its presence lapses."""
    try:
        async with asyncio.timeout(LAST_REPORT_S):
            await presence.tell({})
    except (LogUnavailable, TimeoutError):
        _log.warning("presence_left_to_lapse")
