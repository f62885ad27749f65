"""The ends of feeds, for those that wait for them or cause them: a stop, and what became of a writer's own feed."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Final, NamedTuple

from broadcaster.core.cursor import Cursor
from broadcaster.core.events import Abort, encode_event
from broadcaster.core.requests.stream_ids import stored_ids
from broadcaster.core.status import OVER
from broadcaster.errors import StreamClosed, UnknownStream
from broadcaster.log.feeds.feeds import Feeds
from broadcaster.log.redis.connect import log_errors
from broadcaster.log.streams import terminals

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
        return (await self._ends_of({creation: stream_id}, tenant=tenant)).get(creation)

    async def ended(self, feeds: Mapping[str, str], *, tenant: str) -> set[str]:
        """Which of these creations, each with its feed's id, take nothing more: over, deleted or replaced."""
        return set(await self._ends_of(feeds, tenant=tenant))

    async def _ends_of(self, feeds: Mapping[str, str], *, tenant: str) -> dict[str, FeedEnd]:
        connection = self._feeds.connection
        places = [(creation, stored) for creation, id in feeds.items() for stored in stored_ids(id, tenant=tenant)]
        pipeline = connection.pipeline()
        for _, stored in places:
            pipeline.hmget(connection.keys.meta(stored), list(_FIELDS))
        with log_errors():
            rows = await pipeline.execute() if places else []
        ends: dict[str, FeedEnd] = {}
        for (creation, _), row in zip(places, rows, strict=True):
            owner, config, status, terminal, terminal_id, deleted_ms = row
            if owner is None or owner.decode() != tenant:
                continue
            if config is not None and config.decode() != creation:
                ends[creation] = FeedEnd(REPLACED, None)
            elif status is not None and status.decode() in OVER and terminal is not None:
                ends[creation] = FeedEnd(terminal, Cursor.parse(terminal_id.decode()))
            elif deleted_ms is not None:
                ends[creation] = FeedEnd(terminals.STOPPED, None)
        return ends
