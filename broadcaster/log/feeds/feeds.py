"""Feeds as their publishers see them: create, look up, append, renew, close, delete.

A feed is a stream that one or several background jobs append to. It is no generation: it has no worker and no job, it
is not in the open index, and workers, sweepers and the stall rule never touch it. Its kind is in its meta, whose stored
status is ``queued`` until its terminal event (callers see ``running``): front-ends from before feeds would take
``running`` without a lease for a lost worker.

Rules
1. The script numbers the entries, so any number of writers get dense seqs; each accepted append is in the log once,
   whole, and without entries of others in between.
2. An append whose reply was lost is repeated with the same Idempotency-Key, and gets the ids of its entries, also when
   the feed has been closed since. A key is remembered for ten minutes, or until as many newer ones have come as a feed
   may get in KEYS_KEPT_AT_LEAST_S: so for a minute a repetition always gets its reply.
3. An open feed lives ``live_ttl_ms`` after its last append or renewal, a closed one as long as its creation requested.
4. A feed created with ``lease_s`` has a lease, which every append, renewal and repeated creation of any writer pushes
   out. Once it has lapsed the feed may be ended (see lapses.py); a writer that comes back before keeps it open.
5. At its bounds a feed refuses, or forgets its oldest entries: chosen at its creation. Its end is always admitted.
6. Callers name a feed by its public id and their tenant; only here that becomes the id under which it is stored
   (core/requests/stream_ids.py), which is the ``id`` of every Meta.
7. A feed with a webhook calls it once it has ended, however it ended (see feed_webhooks.py).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import KW_ONLY, dataclass, field
from typing import Any, Final, Literal

import msgspec

from broadcaster.core.cursor import Cursor
from broadcaster.core.events import FORMAT_VERSION
from broadcaster.core.lineage import KEPT_RUNS
from broadcaster.core.requests.metadata import check_metadata
from broadcaster.core.requests.stream_ids import GENERATION_PREFIX, stored_ids
from broadcaster.core.status import META_OUTLIVES_LOG_MS, status_after
from broadcaster.errors import (
    EventTooLarge,
    InvalidInput,
    LogUnavailable,
    MetadataTooLarge,
    StreamClosed,
    StreamExists,
    TenantLimit,
    UnknownStream,
    WebhookNotAllowed,
)
from broadcaster.log.feeds.bounds import FeedBounds
from broadcaster.log.feeds.feed_index import FeedIndex
from broadcaster.log.feeds.feed_webhooks import FeedWebhooks
from broadcaster.log.feeds.lapses import Lapses
from broadcaster.log.feeds.refusals import NO_SUCH_FEED, AppendCode, EntriesLost, raise_refusal
from broadcaster.log.jobs.deletion import leave_tombstone
from broadcaster.log.redis.connect import LogConnection
from broadcaster.log.redis.keys import STREAM_ID, check_stream_id
from broadcaster.log.redis.scripts import SCRIPTS
from broadcaster.log.redis.steadiness import SHORTEST_LEASE_S, Steadiness
from broadcaster.log.streams import terminals
from broadcaster.log.streams.reader import Meta, Streams
from broadcaster.log.streams.tenant_storage import TenantStorage
from broadcaster.observability.limits import counting_refusals, limit_reached
from broadcaster.observability.logs import get_logger

_log = get_logger(__name__)

KEY_KEPT_MS: Final = 600_000
# Below, a pause of Redis too short to be noticed could cost a living writer its feed.
MIN_LEASE_S: Final = SHORTEST_LEASE_S
MAX_LEASE_S: Final = 3600.0
# A front-end knows the ids of so many appends (see core/lineage.py), and every entry may be one.
MOST_EVENTS: Final = KEPT_RUNS

_DIGEST_CHARS: Final = 32
_FULL: Final = -2  # of feed_replace.lua


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedConfig:
    """What a feed is created with; None takes the bound or the default of the settings.

    ``on_full``: at the bounds an append is refused, or the oldest entries are trimmed (viewers behind them get a gap).
    ``lease_s``: when no writer has checked in for so long, the feed ends with ``error writer_lost``; without it a feed
    whose writers have died looks alive until it expires. Renew every third of it.
    ``owner``: a random name, of a feed with one writer: no other creation finds this feed, however equal the rest is.
    ``webhook``: as in core/requests/webhook_options.py; called once the feed is over.
    """

    retention_s: float | None = None
    max_events: int | None = None
    max_bytes: int | None = None
    on_full: Literal["refuse", "trim"] = "refuse"
    metadata: Mapping[str, Any] = field(default_factory=dict)
    lease_s: float | None = None
    owner: str | None = None
    webhook: Mapping[str, Any] | None = None

    def digest(self) -> str:
        """Hash that identifies a repeated creation; without a lease the same as in releases without leases."""
        retention_s = None if self.retention_s is None else float(self.retention_s)  # 5 and 5.0 are one
        parts: list[Any] = [retention_s, self.max_events, self.max_bytes, self.on_full, dict(self.metadata)]
        if self.lease_s is not None:
            parts.append(float(self.lease_s))
        if self.owner is not None:
            parts.append({"owner": self.owner})
        if self.webhook is not None:
            parts.append({"webhook": dict(self.webhook)})
        return _digest(msgspec.json.encode(parts, order="deterministic"))


@dataclass(frozen=True, slots=True)
class AppendResult:
    """The ids of appended entries; ``is_new`` is False when an earlier call had appended them."""

    first: Cursor
    last: Cursor
    is_new: bool

    @property
    def ids(self) -> list[Cursor]:
        """The ids of the entries: one append is one epoch."""
        return [Cursor(self.first.epoch, seq) for seq in range(self.first.seq, self.last.seq + 1)]


@dataclass(eq=False, repr=False)
class Feeds:
    """Every method raises LogUnavailable while Redis cannot answer; each is safe to repeat (``append``: with a key).

    With ``lapses`` reading a feed whose writers are gone ends it.
    """

    connection: LogConnection
    bounds: FeedBounds
    _: KW_ONLY
    streams: Streams
    lapses: Lapses | None = None
    steadiness: Steadiness | None = None  # None: a stream that is not there is unknown, even just after Redis broke
    storage: TenantStorage | None = None  # None: feeds are counted for their tenants, and none is refused
    webhooks: FeedWebhooks | None = None  # None: no feed may have one

    def __post_init__(self) -> None:
        self._storage = self.storage or TenantStorage(self.connection)
        self._index = FeedIndex(self.connection, self.streams)

    async def create(self, stream_id: str, config: FeedConfig, *, tenant: str, replaces: bool = False) -> bool:
        """Open a feed; False when it is there with this very configuration. ``replaces``: also over another feed.

        Raises InvalidInput when (1) the id is a generation's or no id at all, (2) a bound is over that of the settings
        (MetadataTooLarge where it is its metadata);
        StreamExists when (3) the id is taken, also by a feed that was deleted within the hour; TenantLimit when (4) it
        would be a new one, or one with a webhook, and the tenant has all that it may have; WebhookNotAllowed; Busy (too
        many webhooks).
        """
        self._check(stream_id, config)
        await self.admit(stream_id, tenant=tenant, replaces=replaces)
        bounds, stored_id = self.bounds, await self.place(stream_id, tenant=tenant)
        request = msgspec.json.encode({"metadata": dict(config.metadata)})
        fields: dict[str, str | bytes | int] = {
            "v": FORMAT_VERSION,
            "request": request,
            "retention_ms": bounds.retention_ms if config.retention_s is None else int(config.retention_s * 1000),
            "max_events": config.max_events or min(bounds.max_events, MOST_EVENTS),
            "max_bytes": config.max_bytes or bounds.max_bytes,
            "on_full": config.on_full,
        }
        if config.lease_s is not None:
            fields["lease_ms"] = int(config.lease_s * 1000)
        if config.webhook is not None:
            await self._promise(stored_id, config.webhook, tenant=tenant, replaces=replaces)
            fields |= self._webhooks.fields(config.webhook, retention_ms=int(fields["retention_ms"]))
        flat = [part for pair in fields.items() for part in pair]
        ttl_ms = bounds.live_ttl_ms + META_OUTLIVES_LOG_MS
        script, keys = SCRIPTS["feed_create"], self._open_keys(stored_id)
        if replaces:
            script, keys = SCRIPTS["feed_replace"], self._replace_keys(stored_id)
        code = await script.run(self.connection.redis, keys, ttl_ms, tenant, config.digest(), *flat)
        if code == _FULL:
            raise LogUnavailable("Redis is full: nothing was replaced; try again")
        if code < 0:
            taken = "the id is taken: by a feed of another configuration, or one deleted within the hour"
            remedy = "" if replaces else '; if_exists="replace" begins the stream anew, "join" follows it'
            raise StreamExists(taken + remedy)
        if code > 0:
            await self._storage.created_feed(tenant, stored_id, size=len(request))
            await self._index.created(tenant, stored_id)
        else:
            await self._renewed(stored_id, tenant=tenant)
        return bool(code)

    async def get(self, stream_id: str, *, tenant: str) -> Meta:
        """The meta of any stream of the tenant, feed or generation. Raises UnknownStream, also for a deleted one."""
        meta = await self._find(stream_id, tenant=tenant)
        if meta is None and self.steadiness is not None:
            await self.steadiness.check_unknown()
        if meta is None or meta.is_deleted:
            raise UnknownStream("no stream has this id (or it has expired)")
        return await self.get(stream_id, tenant=tenant) if await self._end_lapsed(meta) else meta

    async def append(
        self,
        stream_id: str,
        events: Sequence[bytes],
        *,
        tenant: str,
        idempotency_key: str | None = None,
        creation: str = "",
        after: Cursor | None = None,
    ) -> AppendResult:
        """Append all of these (at least one, none terminal) or none. ``creation``: of which feed alone (`fenced`).

        Raises EventTooLarge, TenantLimit, or, in this order, UnknownStream, StreamReplaced, IdempotencyMismatch,
        StreamClosed, EntriesLost (``after``, an entry of an earlier append, is not there), RateLimited, StreamFull.
        """
        for at, event in enumerate(events):
            if len(event) > self.bounds.max_event_bytes:
                limit_reached("MAX_EVENT_BYTES")
                raise EventTooLarge(
                    f"event {at} has {len(event)} bytes; one event has at most {self.bounds.max_event_bytes}"
                )
        await self._storage.admit_append(tenant)
        return await self._write(stream_id, events, tenant=tenant, key=idempotency_key, creation=creation, after=after)

    async def renew(self, stream_id: str, *, tenant: str, creation: str = "") -> bool:
        """Report that a writer lives; False when the feed has ended. Raises UnknownStream: create it (anew)."""
        for stored_id in stored_ids(check_stream_id(stream_id), tenant=tenant):
            keys = self._open_keys(stored_id)
            args = (tenant, self.bounds.live_ttl_ms, creation)
            code = await SCRIPTS["feed_renew"].run(self.connection.redis, keys, *args)
            if code >= 0:
                await self._renewed(stored_id, tenant=tenant)
                return bool(code)
        raise UnknownStream(NO_SUCH_FEED)

    async def close(
        self, stream_id: str, end: bytes, *, tenant: str, creation: str = "", after: Cursor | None = None
    ) -> AppendResult:
        """Append the terminal event. The same end again changes nothing.

        Raises EventTooLarge, UnknownStream, StreamReplaced, StreamClosed when it has ended otherwise, or EntriesLost.
        """
        if len(end) > self.bounds.max_event_bytes:
            limit_reached("MAX_EVENT_BYTES")
            raise EventTooLarge(f"one event has at most {self.bounds.max_event_bytes} bytes")
        status = status_after(end)
        return await self._write(stream_id, [end], tenant=tenant, status=status, creation=creation, after=after)

    async def delete(self, stream_id: str, *, tenant: str) -> None:
        """End it with ``abort`` unless it is over, then remove it. Idempotent while its tombstone stays.

        Raises UnknownStream, also for a generation.
        """
        meta = await self._find(stream_id, tenant=tenant)
        if meta is None or meta.kind != "feed":
            raise UnknownStream(NO_SUCH_FEED)
        if not meta.is_over:
            with suppress(StreamClosed):  # another writer ended it meanwhile, in another way
                end = [terminals.STOPPED]
                await self._write(stream_id, end, tenant=tenant, status=status_after(end[0]), is_reported=False)
        if meta.webhook is not None and self.webhooks is not None:
            await self.webhooks.drop(meta.id)  # before the id may be used anew
        name = self.connection.keys
        keys = (name.meta, name.log, name.lease, name.viewers, name.feed_keys, name.feed_taken, name.producers)
        await leave_tombstone(self.connection, [key(meta.id) for key in keys])
        self._storage.ended(tenant, meta.id)
        await self._index.deleted(tenant, meta.id)

    async def _renewed(self, stored_id: str, *, tenant: str) -> None:
        """List and count a feed, where Redis has lost that."""
        self._storage.appended(tenant, stored_id, size=0)
        await self._index.touched(tenant, stored_id)

    async def _promise(self, stored_id: str, webhook: Mapping[str, Any], *, tenant: str, replaces: bool) -> None:
        """Promise a webhook before its feed is created. One of a feed that is there was admitted then."""
        known = None if replaces else await self.streams.meta(stored_id)
        if known is None or known.webhook is None or known.is_deleted:
            await self._webhooks.promise(stored_id, webhook, tenant=tenant)
        elif not known.is_over:
            await self._webhooks.restore(stored_id)

    @property
    def _webhooks(self) -> FeedWebhooks:
        if self.webhooks is None:
            raise WebhookNotAllowed("webhooks are off here")
        return self.webhooks

    async def _write(
        self,
        stream_id: str,
        events: Sequence[bytes],
        *,
        tenant: str,
        status: str = "",
        key: str | None = None,
        creation: str = "",
        after: Cursor | None = None,
        is_reported: bool = True,
    ) -> AppendResult:
        """``is_reported``: whether the end of a feed calls its webhook."""
        bounds = self.bounds
        args: list[str | bytes | int | float] = [
            tenant,
            "" if key is None else _digest(key.encode()),
            _digest(b"\n".join(events)),
            status,
            *(bounds.live_ttl_ms, bounds.push_max_bytes, bounds.appends_per_s, KEY_KEPT_MS, bounds.keys_kept),
            *(FORMAT_VERSION, creation, "" if after is None else str(after)),
            *events,
        ]
        for stored_id in stored_ids(check_stream_id(stream_id), tenant=tenant):
            keys = self._append_keys(stored_id)
            code, epoch, first, last, wait_ms, has_webhook = await SCRIPTS["feed_append"].run(
                self.connection.redis, keys, *args
            )
            if code != AppendCode.UNKNOWN:
                break
        if code == AppendCode.LOST:
            raise EntriesLost(last)
        raise_refusal(AppendCode(code), wait_ms=wait_ms, has_many=last + len(events) > self.bounds.max_events)
        if code == AppendCode.APPENDED:
            self._storage.appended(tenant, stored_id, size=sum(map(len, events)))
        if status:
            if has_webhook and is_reported and self.webhooks is not None:
                await self.webhooks.make_due(stored_id, is_new=code == AppendCode.APPENDED)
            self._storage.ended(tenant, stored_id)
        await self._index.touched(tenant, stored_id)
        return AppendResult(Cursor(epoch, first), Cursor(epoch, last), code == AppendCode.APPENDED)

    async def admit(self, stream_id: str, *, tenant: str, replaces: bool = False) -> None:
        """Before a creation. Raises TenantLimit or, on a full Redis, LogUnavailable; not for a feed that is open."""
        try:
            await self._storage.admit_feed(tenant)
        except (TenantLimit, LogUnavailable):
            known = await self._find(stream_id, tenant=tenant)
            if known is None or known.is_deleted or (replaces and known.is_over):
                raise

    async def place(self, stream_id: str, *, tenant: str) -> str:
        """The id under which a feed is created: its own, unless an earlier version has stored it under the other."""
        own, *others = stored_ids(stream_id, tenant=tenant)
        known = await self._find(stream_id, tenant=tenant) if others else None
        return own if known is None else known.id

    async def _find(self, stream_id: str, *, tenant: str) -> Meta | None:
        """The tenant's stream of this id, also a deleted one. Raises LogUnavailable when it cannot be read."""
        for stored_id in stored_ids(check_stream_id(stream_id), tenant=tenant):
            meta = await self.streams.meta(stored_id)
            if meta is not None and meta.tenant == tenant:
                return meta
        return None

    async def _end_lapsed(self, meta: Meta) -> bool:
        if self.lapses is None or meta.lease_ms is None or meta.is_over:
            return False
        try:
            is_ended = await self.lapses.end(meta.id, lease_ms=meta.lease_ms)
        except LogUnavailable:  # Redis is full: the feed can be read nevertheless
            _log.warning("feed_ended_later", stream=meta.id)
            return False
        if is_ended:
            self._storage.ended(meta.tenant, meta.id)
        return is_ended

    def _open_keys(self, stored_id: str) -> list[str]:
        name = self.connection.keys
        return [name.meta(stored_id), name.lease(stored_id), name.log(stored_id)]

    def _replace_keys(self, stored_id: str) -> list[str]:
        name = self.connection.keys
        more = (name.live, name.feed_keys, name.feed_taken)
        return [*self._open_keys(stored_id), *(key(stored_id) for key in more)]

    def _append_keys(self, stored_id: str) -> list[str]:
        name, id = self.connection.keys, stored_id
        return [name.log(id), name.meta(id), name.live(id), name.feed_keys(id), name.feed_taken(id), name.lease(id)]

    @staticmethod
    def check_id(stream_id: str) -> None:
        """Raises InvalidInput for an id that no feed may have."""
        if stream_id.startswith(GENERATION_PREFIX):
            raise InvalidInput(f"ids that begin with {GENERATION_PREFIX} belong to generations; choose another")
        if STREAM_ID.fullmatch(stream_id) is None:
            raise InvalidInput("an id is 1 to 128 of A-Z a-z 0-9 _ . : - and begins with a letter or a digit")

    def _check(self, stream_id: str, config: FeedConfig) -> None:
        self.check_id(stream_id)
        with counting_refusals("MAX_METADATA_BYTES", MetadataTooLarge):
            check_metadata(config.metadata, max_bytes=self.bounds.max_metadata_bytes)
        most_events = min(self.bounds.max_events, MOST_EVENTS)
        if config.max_events is not None and config.max_events > most_events:
            raise InvalidInput(f"max_events is at most {most_events} here")
        if config.max_bytes is not None and config.max_bytes > self.bounds.max_bytes:
            raise InvalidInput(f"max_bytes is at most {self.bounds.max_bytes} here")
        most_s = min(MAX_LEASE_S, self.bounds.live_ttl_ms / 1000)
        if config.lease_s is not None and not MIN_LEASE_S <= config.lease_s <= most_s:
            raise InvalidInput(f"lease_s is {MIN_LEASE_S:g} to {most_s:g} here")


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:_DIGEST_CHARS]
