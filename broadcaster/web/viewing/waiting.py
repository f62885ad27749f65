"""Waiting for a generation's end without a stream, and for the first content of a streamed response.

Rules
1. A waiter is a viewer that reads nothing: it shares the stream's room, has a viewer's place (`Hub.reserve`), and is
   disconnected by a drain.
2. It begins at the log's end: the wait costs nothing, also with a long answer.
3. A caller that disconnects gives its place back at once; the generation continues.
4. The head of a streamed response waits for the first content, so that a refused request keeps its status. The wait
   ends with the first content, with the end of the stream, or after ``head_wait_s``: then the head is 200. A generation
   that is still queued by then gets its 200 too.
5. A client that waits for a head is a viewer: it holds a viewer's place, and one that disconnects has left. The wait
   runs in the request's own task, and pulls no bytes: the stream that follows is the same as without a wait.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Final

from broadcaster.core.entry import Entry
from broadcaster.errors import Busy
from broadcaster.hub.places import Place
from broadcaster.hub.replay.resolve import Finished
from broadcaster.hub.stop_reasons import StopReason
from broadcaster.hub.viewer import Viewer
from broadcaster.observability.limits import limit_reached
from broadcaster.web.services import Services
from broadcaster.web.viewing.client_connection import connection_of

if TYPE_CHECKING:
    from fastapi import Request

# The interval of checks for a disconnect, on servers that do not report it (all but our own runner).
DISCONNECT_CHECK_S: Final = 5.0
DISCARDED_AT_ONCE: Final = 256 * 2**10

_WAIT: Final = re.compile(r"(?:^|[,;])\s*wait\s*=\s*\"?([0-9]{1,9})\"?\s*(?=$|[,;])", re.ASCII | re.IGNORECASE)


async def wait_for_end(
    services: Services, request: Request, *, generation_id: str, wait_s: float, place: Place
) -> None:
    """Return when the stream or the time is over, this front-end drains, or the caller is gone.

    Raises Busy when this front-end drains already, LogUnavailable when Redis does not respond.
    """
    deadline = time.monotonic() + wait_s
    (tail,) = await services.streams.tails([generation_id])
    viewer = await services.hub.join(generation_id, cursor=tail.last, timeout_s=services.log_timeout_s, place=place)
    if isinstance(viewer, Finished):
        return
    with ExitStack() as stack:
        stack.callback(viewer.leave)
        stack.enter_context(leaving(request, viewer.leave))
        while (left_s := deadline - time.monotonic()) > 0:
            if viewer.pull(DISCARDED_AT_ONCE):
                continue
            if viewer.is_over:
                return
            if not await viewer.wait(min(left_s, DISCONNECT_CHECK_S)) and await has_left(request):
                return


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
                if viewer.stop_reason is StopReason.CLIENT_GONE:
                    return None
                if (left_s := until - loop.time()) <= 0:
                    limit_reached("HEAD_WAIT_S")
                    return None
                if viewer.stop_reason is not None:
                    raise Busy("this front-end does not serve the stream any more; repeat the request")
                if not await viewer.wait(min(left_s, DISCONNECT_CHECK_S)) and await has_left(request):
                    viewer.leave()
            return None
    except BaseException:
        viewer.leave()
        raise


def preferred_wait_s(prefer: str) -> float | None:
    """The seconds of ``Prefer: wait=10`` (RFC 7240, 4.3); None without a valid value."""
    found = _WAIT.search(prefer)
    return None if found is None else float(found[1])


@contextmanager
def leaving(request: Request | None, leave: Callable[[], object]) -> Iterator[None]:
    """Call ``leave`` when the caller disconnects within the block, on a server that reports it (our own runner)."""
    connection = None if request is None else connection_of(request.scope)
    if connection is None:
        yield
        return

    def disconnected(_: asyncio.Future[None]) -> None:
        leave()

    connection.lost.add_done_callback(disconnected)
    try:
        yield
    finally:
        connection.lost.remove_done_callback(disconnected)


async def has_left(request: Request | None) -> bool:
    """Whether the caller has disconnected, on any server; False without a request."""
    return request is not None and await request.is_disconnected()
