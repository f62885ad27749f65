"""Durable Streams: feeds that keep the bytes of programs that know only that protocol.

Rules
1. A Durable Stream is a feed whose meta has a ``content_type``. Lists, viewers, bounds and deletion are those of feeds.
   Only these scripts append to it: an event of another writer would stand among its bytes.
2. One script commits an append, the state of its producer, and the end of the stream. So a repeated request of an
   idempotent producer never appends twice, whatever breaks in between.
3. Its entries, its meta and its producers expire in one moment: no reader finds a stream that has lost its beginning.
4. Content is never trimmed: a full stream refuses.
5. A stream that was deleted may be created anew at once. Its numbers continue, so no offset of the old one fits.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Final, NamedTuple

import msgspec

from broadcaster.core.cursor import START, Cursor
from broadcaster.core.events import FORMAT_VERSION, Finish, encode_event
from broadcaster.core.requests.stream_ids import stored_ids
from broadcaster.core.status import status_after
from broadcaster.dialects.durable.headers import Expiry, Producer
from broadcaster.errors import EventTooLarge, InvalidInput, StreamExists
from broadcaster.log.feeds.bounds import FeedBounds
from broadcaster.log.feeds.feed_index import FeedIndex
from broadcaster.log.feeds.feeds import MOST_EVENTS, Feeds
from broadcaster.log.feeds.refusals import AppendCode, raise_refusal
from broadcaster.log.redis.connect import LogConnection
from broadcaster.log.redis.keys import check_stream_id
from broadcaster.log.redis.scripts import SCRIPTS, Argument
from broadcaster.log.streams.reader import Meta
from broadcaster.log.streams.tenant_storage import TenantStorage
from broadcaster.observability.limits import limit_reached

END: Final = encode_event(Finish())
LONGEST_S: Final = 30 * 86_400
"""The longest life that a creation may request: that of every stream (index and sums are kept for longer)."""

_DIGEST_CHARS: Final = 32


class DurableCode(IntEnum):
    """How an append ended; the codes of durable_append.lua."""

    APPENDED = 1
    REPEATED = 0
    UNKNOWN = -1
    CLOSED = -2
    OTHER_TYPE = -3
    FENCED = -4
    LATE_EPOCH = -5
    GAP = -6
    STREAM_SEQ = -7
    TOO_OFTEN = -8
    FULL = -9
    NOT_DURABLE = -10


class DurableConfig(NamedTuple):
    """What a stream is created with; a repeated creation with the same finds it."""

    content_type: str
    media_type: str
    expiry: Expiry = Expiry()

    def digest(self) -> str:
        """Hash that identifies a repeated creation: by the media type, and by when it expires."""
        parts = ["durable", self.media_type, self.expiry.ttl_s, self.expiry.at_ms]
        return hashlib.sha256(msgspec.json.encode(parts)).hexdigest()[:_DIGEST_CHARS]


@dataclass(frozen=True, slots=True, kw_only=True)
class DurableAppend:
    """One request: events (none: it only closes) of a media type, by a producer or without one."""

    events: Sequence[bytes] = ()
    media_type: str = ""
    closes: bool = False
    stream_seq: str = ""
    producer: Producer | None = None


class DurableOutcome(NamedTuple):
    """``tail``: the last entry of content. The producer's numbers are those that the log has now (0: it has none)."""

    code: DurableCode
    tail: Cursor
    producer_epoch: int
    producer_seq: int
    is_closed: bool


class DurableCreation(NamedTuple):
    """``is_new`` is False when it was there with the same configuration."""

    is_new: bool
    tail: Cursor


class DurableStreams:
    """Every method raises LogUnavailable while Redis cannot answer."""

    def __init__(self, connection: LogConnection, feeds: Feeds, *, storage: TenantStorage | None = None) -> None:
        """``feeds``: those of the same process, with its bounds. ``storage``: as in Feeds."""
        self._connection = connection
        self._redis = connection.redis
        self._feeds = feeds
        self._storage = storage or TenantStorage(connection)
        self._index = FeedIndex(connection, feeds.streams)

    @property
    def bounds(self) -> FeedBounds:
        """The bounds of every stream."""
        return self._feeds.bounds

    async def create(
        self, stream_id: str, config: DurableConfig, *, tenant: str, content: DurableAppend
    ) -> DurableCreation:
        """Open a stream with its first content, or find it as it was created; ``content`` may close it at once.

        Raises InvalidInput for an id that no feed may have, EventTooLarge, StreamFull (the first content is more than a
        stream may hold), TenantLimit, and StreamExists when the id is taken: by another configuration, by a stream that
        is open where this one would be closed (or the reverse), or by a stream that is no Durable Stream.
        """
        self._feeds.check_id(stream_id)
        events = self._checked(content.events)
        if sum(map(len, events)) > self.bounds.max_bytes:
            raise_refusal(AppendCode.FULL, wait_ms=0, has_many=False)
        await self._feeds.admit(stream_id, tenant=tenant)
        stored_id = await self._feeds.place(stream_id, tenant=tenant)
        fields = self._fields(config)
        flat: list[Argument] = [part for pair in fields.items() for part in pair]
        args: list[Argument] = [
            *(tenant, config.digest(), self.bounds.live_ttl_ms, self.bounds.push_max_bytes, FORMAT_VERSION),
            *((status_after(END), END) if content.closes else ("", "")),
            9 + len(flat),
            *flat,
            *events,
        ]
        code, epoch, seq = await SCRIPTS["durable_create"].run(self._redis, self._create_keys(stored_id), *args)
        if code < 0:
            raise StreamExists("the id is taken: by a stream of another configuration, or another kind of stream")
        if code:
            size, is_open = sum(map(len, events)), not content.closes
            await self._storage.created_feed(tenant, stored_id, size=size, is_open=is_open)
            await self._index.created(tenant, stored_id)
        return DurableCreation(bool(code), Cursor(epoch, seq) if seq else START)

    async def append(self, stream_id: str, content: DurableAppend, *, tenant: str) -> DurableOutcome:
        """Append all events or none, close, or both; the outcome says what was refused.

        Raises UnknownStream, EventTooLarge, TenantLimit, RateLimited, StreamFull.
        """
        events = self._checked(content.events)
        if events:
            await self._storage.admit_append(tenant)
        producer = content.producer or Producer("", 0, 0)
        args: list[Argument] = [
            *(tenant, content.media_type if events else "", self.bounds.live_ttl_ms, self.bounds.push_max_bytes),
            *(self.bounds.appends_per_s, FORMAT_VERSION, content.stream_seq.encode().hex(), *producer),
            *((status_after(END), END) if content.closes else ("", "")),
            *events,
        ]
        for stored_id in stored_ids(check_stream_id(stream_id), tenant=tenant):
            code, epoch, seq, known_epoch, known_seq, is_closed, wait_ms = await SCRIPTS["durable_append"].run(
                self._redis, self._keys(stored_id), *args
            )
            if code != DurableCode.UNKNOWN:
                break
        refusal = _REFUSALS.get(code)
        if refusal is not None:
            raise_refusal(refusal, wait_ms=wait_ms, has_many=len(events) > self.bounds.max_events)
        if code == DurableCode.APPENDED:
            self._storage.appended(tenant, stored_id, size=sum(map(len, events)))
            await self._index.touched(tenant, stored_id)
        if is_closed:
            self._storage.ended(tenant, stored_id)
        tail = Cursor(epoch, seq) if seq else START
        return DurableOutcome(DurableCode(code), tail, known_epoch, known_seq, bool(is_closed))

    async def touch(self, meta: Meta) -> None:
        """It is read: a stream with a time to live is kept for as long from now on."""
        if meta.durable is not None and meta.durable.ttl_s is not None:
            name = self._connection.keys
            keys = [name.log(meta.id), name.meta(meta.id), name.producers(meta.id)]
            await SCRIPTS["durable_touch"].run(self._redis, keys)

    def _fields(self, config: DurableConfig) -> dict[str, str | bytes | int]:
        bounds, (ttl_s, at, at_ms) = self.bounds, config.expiry
        fields: dict[str, str | bytes | int] = {
            "v": FORMAT_VERSION,
            "request": b"{}",
            "retention_ms": bounds.retention_ms if ttl_s is None else ttl_s * 1000,
            "max_events": min(bounds.max_events, MOST_EVENTS),
            "max_bytes": bounds.max_bytes,
            "on_full": "refuse",
            "content_type": config.content_type,
            "media_type": config.media_type,
        }
        if ttl_s is not None:
            fields["ttl_s"] = ttl_s
        if at is not None and at_ms is not None:
            fields |= {"expires_at": at, "expires_ms": at_ms}
        return fields

    def _checked(self, events: Sequence[bytes]) -> Sequence[bytes]:
        if len(events) > self.bounds.max_events:
            raise InvalidInput(f"a stream has at most {self.bounds.max_events} events")
        for at, event in enumerate(events):
            if len(event) > self.bounds.max_event_bytes:
                limit_reached("MAX_EVENT_BYTES")
                raise EventTooLarge(
                    f"message {at} is stored in {len(event)} bytes; one has at most {self.bounds.max_event_bytes}"
                )
        return events

    def _keys(self, stored_id: str) -> list[str]:
        name = self._connection.keys
        return [key(stored_id) for key in (name.log, name.meta, name.live, name.producers)]

    def _create_keys(self, stored_id: str) -> list[str]:
        name = self._connection.keys
        return [*self._keys(stored_id), *(key(stored_id) for key in (name.lease, name.feed_keys, name.feed_taken))]


_REFUSALS: Final = {
    DurableCode.UNKNOWN: AppendCode.UNKNOWN,
    DurableCode.TOO_OFTEN: AppendCode.TOO_OFTEN,
    DurableCode.FULL: AppendCode.FULL,
}
