"""A publisher of one feed, as the tests of the log command it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from broadcaster.core.cursor import Cursor
from broadcaster.core.events import DataEvent, Finish, encode_event
from broadcaster.log.feeds.feeds import FeedConfig, Feeds
from broadcaster.log.redis.connect import LogConnection
from broadcaster.log.streams.reader import Meta, Streams
from tests.support.log.feed_writers import BOUNDS, TENANT

ID = "build-42"
FINISH = encode_event(Finish())


def note(text: object) -> bytes:
    return encode_event(DataEvent(type="data-note", data=text))


class Job:
    """One publisher of one feed."""

    def __init__(self, connection: LogConnection, **bounds: Any) -> None:
        self.connection = connection
        self.redis: Any = connection.redis
        self.keys = connection.keys
        self.streams = Streams(connection)
        self.feeds = Feeds(connection, replace(BOUNDS, **bounds), streams=self.streams)

    async def create(self, **config: Any) -> bool:
        return await self.feeds.create(ID, FeedConfig(**config), tenant=TENANT)

    async def append(self, *events: bytes, key: str | None = None) -> list[Cursor]:
        return (await self.feeds.append(ID, events, tenant=TENANT, idempotency_key=key)).ids

    async def close(self, end: bytes = FINISH) -> Cursor:
        return (await self.feeds.close(ID, end, tenant=TENANT)).last

    async def renew(self) -> bool:
        return await self.feeds.renew(ID, tenant=TENANT)

    async def held(self) -> list[tuple[Cursor, bytes]]:
        return [(entry.cursor, entry.event) for entry in await self.streams.read(ID, count=100_000)]

    async def ttl_ms(self, name: str) -> int:
        return int(await self.redis.pttl(getattr(self.keys, name)(ID)))

    async def meta(self) -> Meta:
        return await self.feeds.get(ID, tenant=TENANT)
