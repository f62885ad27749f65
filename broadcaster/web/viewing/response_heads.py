"""The head of a streamed response waits for the first content, so that a refused request keeps its status.

Rules
1. The wait ends with the first content, with the end of the stream, or after ``head_wait_s``: then the head is 200. A
   generation that is still queued by then gets its 200 too.
2. A client that waits for a head is a viewer: it holds a viewer's place, and one that disconnects has left. The wait
   runs in the request's own task.
3. The wait pulls no bytes: the stream that follows is the same as without a wait.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from fastapi import Request

from broadcaster.core.entry import Entry
from broadcaster.errors import Busy
from broadcaster.hub.stop_reasons import StopReason
from broadcaster.hub.viewer import Viewer
from broadcaster.web.viewing.waiting import DISCONNECT_CHECK_S, has_left, leaving


async def end_without_content(viewer: Viewer, request: Request, *, wait_s: float) -> Sequence[Entry] | None:
    """All entries of a stream that failed before its first content, whose viewer has left; None: send the stream.

    Raises Busy when this front-end disconnects the viewer meanwhile (a drain).
    """
    loop = asyncio.get_running_loop()
    until = loop.time() + wait_s
    try:
        with leaving(request, viewer.leave):
            while (opening := viewer.entries_without_content()) is not None:
                if opening and opening[-1].is_terminal:
                    viewer.leave()
                    return opening
                if viewer.stop_reason is StopReason.CLIENT_GONE or (left_s := until - loop.time()) <= 0:
                    return None
                if viewer.stop_reason is not None:
                    raise Busy("this front-end does not serve the stream any more; repeat the request")
                if not await viewer.wait(min(left_s, DISCONNECT_CHECK_S)) and await has_left(request):
                    viewer.leave()
            return None
    except BaseException:
        viewer.leave()
        raise
