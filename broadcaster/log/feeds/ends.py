"""The ends of feeds, for those that wait for them or cause them: a stop, and what became of a writer's own feed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Final, NamedTuple

from broadcaster.core.cursor import Cursor
from broadcaster.core.events import Abort, encode_event
from broadcaster.core.requests.stream_ids import stored_ids
from broadcaster.core.status import OVER
from broadcaster.errors import LogUnavailable, StreamClosed, UnknownStream
from broadcaster.log.feeds.feeds import Feeds
from broadcaster.log.redis.connect import reply_to
from broadcaster.log.streams import terminals
from broadcaster.log.streams.tails import or_unread

REPLACED: Final = encode_event(Abort(reason="replaced"))

_FIELDS: Final = ("tenant", "config", "status", "terminal", "terminal_id", "deleted_ms")


class FeedEnd(NamedTuple):
    """The terminal event of a feed; without a cursor it is not in the log: the feed was replaced before."""

    event: bytes
    cursor: Cursor | None


class FeedEnds:
    """Every method raises LogUnavailable while Redis cannot answer; each is safe to repeat. ``creation``: `fenced`."""

    def __init__(self, feeds: Feeds) -> None:
        self._feeds = feeds

    async def stop(self, stream_id: str, *, tenant: str) -> None:
        """End it with ``abort`` (``stopped``), whichever program writes it. Raises UnknownStream."""
        meta = await self._feeds.get(stream_id, tenant=tenant)
        if not meta.is_over:
            with suppress(StreamClosed):  # it has ended meanwhile
                await self._feeds.close(stream_id, terminals.STOPPED, tenant=tenant)

    async def stop_creation(self, stream_id: str, creation: str, *, tenant: str) -> None:
        """As ``stop``, only the feed of this creation: nothing is done when it is over, replaced or gone."""
        with suppress(StreamClosed, UnknownStream):
            await self._feeds.close(stream_id, terminals.STOPPED, tenant=tenant, creation=creation)

    async def read(self, stream_id: str, creation: str, *, tenant: str) -> FeedEnd | None:
        """How the feed of this creation has ended; None while it is open, and when nothing is known of it."""
        ends = [end for _, end in await self._ends_of({creation: stream_id}, tenant=tenant)]
        for end in ends:
            if isinstance(end, LogUnavailable):
                raise end
        return next((end for end in ends if isinstance(end, FeedEnd)), None)

    async def ended(self, feeds: Mapping[str, str], *, tenant: str) -> set[str]:
        """Which of these creations, each with its feed's id, take nothing more: over, deleted or replaced.

        On a cluster, the feeds of a server that does not answer now count as open.
        """
        ends = await self._ends_of(feeds, tenant=tenant)
        return {creation for creation, end in ends if isinstance(end, FeedEnd)}

    async def _ends_of(
        self, feeds: Mapping[str, str], *, tenant: str
    ) -> list[tuple[str, FeedEnd | LogUnavailable | None]]:
        """For each id under which a feed may be stored: its creation, and its end or the error of its server."""
        connection = self._feeds.connection
        places = [(creation, stored) for creation, id in feeds.items() for stored in stored_ids(id, tenant=tenant)]
        if not places:
            return []
        pipeline = connection.pipeline()
        for _, stored in places:
            pipeline.hmget(connection.keys.meta(stored), list(_FIELDS))
        rows = await reply_to(pipeline.execute(raise_on_error=False))
        return [
            (creation, or_unread(partial(_end_in, creation=creation, tenant=tenant), row))
            for (creation, _), row in zip(places, rows, strict=True)
        ]


def _end_in(row: Sequence[bytes | None], *, creation: str, tenant: str) -> FeedEnd | None:
    owner, config, status, terminal, terminal_id, deleted_ms = row
    if owner is None or owner.decode() != tenant:
        return None
    if config is not None and config.decode() != creation:
        return FeedEnd(REPLACED, None)
    if status is not None and status.decode() in OVER and terminal is not None and terminal_id is not None:
        return FeedEnd(terminal, Cursor.parse(terminal_id.decode()))
    return FeedEnd(terminals.STOPPED, None) if deleted_ms is not None else None
