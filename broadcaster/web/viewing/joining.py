"""Joining a viewer to its stream, for any driver: an SSE response, or a reader inside this process.

Rules
1. A stream is found by its meta, which names its tenant, read once for all viewers that come together
   (known_streams.py). A request may wait for a stream that does not exist yet (awaited_streams.py), and a Redis that
   does not know whether it exists (away, or back a moment ago) is read again until that time is over.
2. A log that has expired while its meta lives still has its end: one gap, then the terminal event from meta. When
   Redis broke a moment ago, the log may be lost instead, and its worker may write it again: the log is unavailable. The
   gap is a reset for a cursor from before the creation of this stream (resolve.py, rule 4).
3. The id of a feed may be used anew: the feed was replaced, or it expired or was lost and then created anew. The room
   that has followed the earlier feed to its end is closed then, because it would show the earlier content.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Final

from broadcaster.core.cursor import Cursor
from broadcaster.core.entry import Entry
from broadcaster.core.notices import Gap, GapReason
from broadcaster.dialects import NATIVE, Dialect
from broadcaster.errors import Busy, LogUnavailable, UnknownStream
from broadcaster.hub.places import Place
from broadcaster.hub.replay.resolve import Finished
from broadcaster.hub.stop_reasons import Refused, StopReason
from broadcaster.hub.viewer import Viewer
from broadcaster.log.jobs.generations import Created
from broadcaster.log.streams.reader import Meta
from broadcaster.web.services import Services
from broadcaster.web.viewing.waiting import DISCONNECT_CHECK_S, has_left, leaving

if TYPE_CHECKING:
    from fastapi import Request


EXPIRED: Final = "the answer has expired; a request with a new Idempotency-Key gets a new one"
"""What a request learns that repeats an earlier one too late."""


async def created_meta(services: Services, created: Created, *, tenant: str) -> Meta:
    """The meta of the generation that a request has created, or had created before with the same key.

    Raises LogUnavailable if Redis has just lost the new generation: the request may be repeated. Raises UnknownStream
    if the key's generation has expired.
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

    ``request``: the caller's, whose disconnect ends the wait. Raises UnknownStream, LogUnavailable, and what
    ``Hub.reserve`` raises.
    """
    deadline = time.monotonic() + wait_s
    try:
        return await services.known_streams.find(stream_id, tenant=tenant)
    except (UnknownStream, LogUnavailable) as error:
        if wait_s <= 0:
            raise
        missing = error
    with services.reserve(tenant, waits=True):
        while (left_s := deadline - time.monotonic()) > 0:
            with services.awaited_streams.awaiting(stream_id, tenant=tenant) as found, leaving(request, found.cancel):
                await asyncio.wait({found}, timeout=min(left_s, DISCONNECT_CHECK_S))
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
    dialect: Dialect = NATIVE,
    with_snapshot: bool = True,
    place: Place | None = None,
) -> Viewer | Refused | Finished:
    """A viewer of the stream after ``cursor``, to be driven at once; ``with_snapshot``: see `Hub.join`.

    ``place``: one that the caller has already; None: the viewer takes one of the stream's tenant.
    Refused: the log has expired, this block is all that is left of it (rule 2). Finished: there are no more events.
    Raises UnknownStream when even the end is forgotten, and what `Hub.join` raises.
    """
    if meta.is_over and (await services.streams.tails([meta.id]))[0].last is None:
        if cursor is None or cursor != meta.terminal_id:
            await services.check_gone()
        return _expired(services, meta, cursor=cursor, dialect=dialect)
    services.remember(meta)
    if meta.kind == "feed" and services.hub.end_of(meta.id) not in (None, meta.terminal_id):
        if meta.terminal_id is None:  # it may have ended since its meta was read
            meta = await services.feeds.get(meta.public_id, tenant=meta.tenant)
        services.hub.close_replaced(meta.id, end=meta.terminal_id)
    # A feed does not wait for a worker.
    status = "queued" if meta.kind == "generation" else "running"
    with place or services.reserve(meta.tenant) as taken_place:
        return await services.hub.join(
            meta.id,
            cursor=cursor,
            timeout_s=services.log_timeout_s,
            dialect=dialect,
            status=status,
            with_snapshot=with_snapshot,
            place=taken_place,
        )


async def check_kept(services: Services, *, is_whole: bool, detail: str) -> None:
    """Check that the log of an answer that is over was read whole.

    The end alone, which meta keeps longer, would look like an empty answer, and behind a part of the answer like the
    end of a short one. Raises UnknownStream with ``detail`` when the log has expired, LogUnavailable while a lost one
    may be written again.
    """
    if not is_whole:
        await services.check_gone()
        raise UnknownStream(detail)


async def has_beginning(services: Services, stream_id: str) -> bool:
    """Whether the log still holds its first entry. Raises LogUnavailable."""
    first = await services.streams.first(stream_id)
    return first is not None and first.seq == 1


def _expired(services: Services, meta: Meta, *, cursor: Cursor | None, dialect: Dialect) -> Refused | Finished:
    """The end of a stream whose log has expired: a gap, and the terminal event."""
    if meta.terminal is None or meta.terminal_id is None:
        raise UnknownStream("the stream has expired")
    end = meta.terminal_id
    if cursor == end:
        return Finished(end)
    transcript, retry_ms = dialect.open(meta.public_id), services.hub.limits.draw_retry_ms()
    if transcript.chunk_alone is None:  # the terminal event alone would look like an empty answer
        return Refused(StopReason.TERMINAL, transcript.bye(StopReason.EXPIRED.code, reconnect=False, retry_ms=retry_ms))
    blocks = [transcript.hello(status=meta.status, retry_ms=retry_ms)]
    seen_seq = cursor.seq if cursor is not None and cursor.seq < end.seq else 0
    before_end = Cursor(end.epoch, end.seq - 1)
    if cursor is not None and cursor.seq > 0 and cursor.epoch < meta.since_epoch <= end.epoch:
        blocks.append(transcript.gap(Gap(GapReason.RESET, before_end, 0, 0)) or b"")
    elif seen_seq + 1 < end.seq:
        blocks.append(transcript.gap(Gap(GapReason.EXPIRED, before_end, seen_seq + 1, before_end.seq)) or b"")
    blocks.append(transcript.encode([Entry(end.epoch, end.seq, meta.terminal)]))
    return Refused(StopReason.TERMINAL, b"".join(blocks))
