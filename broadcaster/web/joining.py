"""How a viewer comes to its stream, whoever drives it: an SSE response, or a reader inside this process.

Rules
1. A stream is found by its meta, which tells whose it is, read once for all who come together (known_streams.py). One
   that is not there yet may be waited for (awaited_streams.py), and a log that cannot say whether it is there (away, or
   back a moment ago) is asked again until that time is over.
2. A log that has expired while its meta lives still ends honestly: one gap, then the terminal event out of meta. When
   Redis broke a moment ago, the log may be lost instead, and its worker may write it again: the log is unavailable.
"""

from __future__ import annotations

import asyncio
import time

from fastapi import Request

from broadcaster.core.cursor import Cursor
from broadcaster.core.entry import Entry
from broadcaster.core.notices import Gap, GapReason
from broadcaster.dialects import NATIVE, AnyDialect, Dialect, Encoder
from broadcaster.errors import Busy, LogUnavailable, UnknownStream
from broadcaster.hub.places import Place
from broadcaster.hub.resolve import Finished
from broadcaster.hub.stop_reasons import Refused, StopReason
from broadcaster.hub.viewer import Viewer
from broadcaster.log.generations import Created
from broadcaster.log.streams import Meta
from broadcaster.web.services import Services
from broadcaster.web.waiting import LOOK_UP_S, has_left, leaving


async def created_meta(services: Services, created: Created, *, tenant: str) -> Meta:
    """The meta of the generation that a request has created, or had created before with the same key.

    Raises LogUnavailable if Redis lost the new generation in this moment: the same request may be sent again. Raises
    UnknownStream if the key's generation is kept no longer.
    """
    try:
        return await services.generations.get(created.id, tenant=tenant)
    except UnknownStream:
        if not created.created:
            raise
        raise LogUnavailable("Redis lost the new generation; send the request again") from None


async def find_stream(
    services: Services, stream_id: str, *, tenant: str, wait_s: float, request: Request | None = None
) -> Meta:
    """The stream's meta, also of one created within ``wait_s``; a request that waits has a viewer's place.

    ``request``: the caller's, whose hanging up ends the waiting. Raises UnknownStream, LogUnavailable, and what
    ``Hub.reserve`` raises.
    """
    deadline = time.monotonic() + wait_s
    try:
        return await services.known_streams.find(stream_id, tenant=tenant)
    except (UnknownStream, LogUnavailable) as error:
        if wait_s <= 0:
            raise
        missing = error
    with services.hub.reserve(tenant, waits=True):
        while (left_s := deadline - time.monotonic()) > 0:
            with services.awaited_streams.awaiting(stream_id, tenant=tenant) as found, leaving(request, found.cancel):
                await asyncio.wait({found}, timeout=min(left_s, LOOK_UP_S))
            if found.cancelled() or (not found.done() and await has_left(request)):
                break
            if found.done() and not found.result():
                raise Busy("this front-end is draining")
            if found.done():
                try:
                    return await services.known_streams.find(stream_id, tenant=tenant)
                except (UnknownStream, LogUnavailable) as error:
                    missing = error
    raise missing


async def join_stream(
    services: Services,
    meta: Meta,
    *,
    cursor: Cursor | None,
    encoder: AnyDialect = NATIVE,
    with_prelude: bool = True,
    place: Place | None = None,
) -> Viewer | Refused | Finished:
    """A viewer of the stream after ``cursor``, to be driven at once; ``with_prelude``: see `Hub.join`.

    ``place``: one that the caller holds already; None: the viewer takes one of the stream's tenant.
    Refused: the log has expired, this block is all that is left of it (rule 2). Finished: there is no more to come.
    Raises UnknownStream when even the end is forgotten, and what `Hub.join` raises.
    """
    if meta.is_over and (await services.streams.tails([meta.id]))[0].last is None:
        if cursor is None or cursor != meta.terminal_id:
            await services.check_gone()
        return _expired(services, meta, cursor=cursor, encoder=encoder)
    services.remember(meta)
    # Nobody waits for a worker to take a feed.
    status = "queued" if meta.kind == "generation" else "running"
    with place or services.hub.reserve(meta.tenant) as held:
        return await services.hub.join(
            meta.id,
            cursor=cursor,
            timeout_s=services.log_timeout_s,
            encoder=encoder,
            status=status,
            with_prelude=with_prelude,
            place=held,
        )


def _expired(services: Services, meta: Meta, *, cursor: Cursor | None, encoder: AnyDialect) -> Refused | Finished:
    """What is still known of a stream whose log is gone: that there was something, and how it ended."""
    if meta.terminal is None or meta.terminal_id is None:
        raise UnknownStream("the stream is kept no longer")
    end = meta.terminal_id
    if cursor == end:
        return Finished(end)
    if isinstance(encoder, Dialect):  # its end alone would look like an answer that says nothing
        return Refused(StopReason.TERMINAL, encoder.open(meta.public_id).bye("expired", reconnect=False))
    return _told_natively(services, meta, cursor=cursor, end=end, terminal=meta.terminal, encoder=encoder)


def _told_natively(
    services: Services, meta: Meta, *, cursor: Cursor | None, end: Cursor, terminal: bytes, encoder: Encoder
) -> Refused:
    blocks = [encoder.hello(meta.public_id, status=meta.status, retry_ms=services.hub.limits.draw_retry_ms())]
    seen_seq = cursor.seq if cursor is not None and cursor.seq < end.seq else 0
    if seen_seq + 1 < end.seq:
        before_end = Cursor(end.epoch, end.seq - 1)
        blocks.append(encoder.gap(Gap(GapReason.EXPIRED, before_end, seen_seq + 1, before_end.seq)))
    blocks.append(encoder.frame(Entry(end.epoch, end.seq, terminal)))
    return Refused(StopReason.TERMINAL, b"".join(blocks))
