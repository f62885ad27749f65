"""The DurablePort of a world in memory: it has no Durable Streams."""

from __future__ import annotations

from broadcaster.core.cursor import START
from broadcaster.errors import UnknownStream
from broadcaster.feed_wiring import feed_bounds
from broadcaster.log.feeds.durable_streams import DurableAppend, DurableConfig, DurableCreation, DurableOutcome
from broadcaster.log.streams.reader import Meta
from broadcaster.settings import Settings


class UnservedDurable:
    """Creates nothing, and knows no stream."""

    bounds = feed_bounds(Settings())

    async def create(
        self, stream_id: str, config: DurableConfig, *, tenant: str, content: DurableAppend
    ) -> DurableCreation:
        return DurableCreation(False, START)

    async def append(self, stream_id: str, content: DurableAppend, *, tenant: str) -> DurableOutcome:
        raise UnknownStream("no stream has this id (or it has expired)")

    async def touch(self, meta: Meta) -> None:
        return
