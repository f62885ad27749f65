"""Reading streams: entries, tails and meta. Nothing here writes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, Literal, NamedTuple, TypeAlias, TypeVar

from broadcaster.core.batching import StopRequest
from broadcaster.core.cursor import START, Cursor
from broadcaster.core.entry import Entry
from broadcaster.core.events import Abort, read_event
from broadcaster.core.requests.origins import NO_ORIGIN, ORIGIN_FIELDS, Origin
from broadcaster.core.requests.priorities import Priority, stored_priority
from broadcaster.core.requests.progress import JobProgress, listed_progress
from broadcaster.core.requests.stream_ids import public_id
from broadcaster.core.status import OVER
from broadcaster.errors import LogUnavailable
from broadcaster.log.redis.connect import LogConnection, log_errors, reply_to
from broadcaster.log.redis.pipeline import raise_first
from broadcaster.log.redis.scripts import SCRIPTS, ScriptCall, run_all
from broadcaster.log.streams.durable_meta import DurableMeta
from broadcaster.log.streams.tails import Tail, or_unread, read_tails, tail_of
from broadcaster.log.streams.webhook_meta import WebhookMeta

_FEED: Final = "feed"
_ABANDONED: Final = StopRequest.ABANDONED.reason
# The server reads the newest event of each stream, which takes it a millisecond when the event has a megabyte: between
# two such scripts it serves the others.
LISTED_AT_ONCE: Final = 10
LISTS_AT_ONCE: Final = 2
# Where a list looks for the progress of a feed: entries and bytes at the end of its log, and bytes of one report.
_LISTED_END: Final = (32, 32_768, 4096)
_BRIEF_FIELDS: Final = ["tenant", "status", "created_ms", "deleted_ms", "unlisted"]
# Every field of the hash that `Meta.from_hash` reads, except the request.
_SHORT_FIELDS: Final = [
    *("tenant", "kind", "status", "model", "epoch", "attempts", "worker", "stop", "retention_ms", "lease_ms", "title"),
    *("on_worker_loss", "on_abandon", "on_provider_loss", "created_ms", "started_ms", "ended_ms", "deleted_ms"),
    *("terminal", "terminal_id", "idempotency_key", "has_reused_id", "dead", *ORIGIN_FIELDS),
    *("priority", "credential"),
    *("content_type", "media_type", "durable_tail", "ttl_s", "expires_at", "since_epoch"),
    *("webhook", "webhook_state", "webhook_attempts", "webhook_status", "webhook_fault", "asked_retention_ms"),
]
_SHORT_NAMES: Final = [name.encode() for name in _SHORT_FIELDS]
_T = TypeVar("_T")
_Row: TypeAlias = tuple[bytes, Mapping[bytes, bytes]]


@dataclass(frozen=True, slots=True)
class Meta:
    """A stream's meta: everything but its entries. Times are Unix milliseconds of Redis's clock."""

    id: str
    tenant: str
    status: str
    model: str
    request: Mapping[str, Any]
    epoch: int
    attempts: int
    worker: str | None
    stop: str | None
    on_worker_loss: str
    on_abandon: str
    retention_ms: int
    created_ms: int
    started_ms: int | None
    ended_ms: int | None
    terminal: bytes | None
    terminal_id: Cursor | None
    kind: Literal["generation", "feed"] = "generation"
    deleted_ms: int | None = None
    idempotency_key: str | None = None
    has_reused_id: bool = False  # a repeated request began it: the key may have named an earlier one, which expired
    webhook: WebhookMeta | None = None
    on_provider_loss: str = "fail"
    lease_ms: int | None = None  # of a feed that ends when no writer has checked in for so long
    title: str = ""  # of a generation; streams of earlier versions have none
    priority: Priority = Priority.NORMAL
    credential: str = ""  # whose budget it counts for
    origin: Origin = NO_ORIGIN  # of a generation: the request that created it
    dead: str | None = None  # why it is a dead letter; written with its terminal event, before the letter
    durable: DurableMeta | None = None  # of a Durable Stream
    since_epoch: int = 0  # of a feed: the entries of this creation have no older epoch; 0: not known

    @property
    def public_id(self) -> str:
        """Its id for callers; ``id`` is the one it is stored under (core/requests/stream_ids.py)."""
        return public_id(self.id)

    @property
    def is_deleted(self) -> bool:
        """Whether only the tombstone is left: how it ended, without the request and the answer."""
        return self.deleted_ms is not None

    @property
    def is_over(self) -> bool:
        """Whether the terminal event is written."""
        return self.status in OVER

    @property
    def is_abandoned(self) -> bool:
        """Whether it was, or is being, cut off because it had no viewers: its answer is not whole."""
        if not self.is_over:
            return self.stop == _ABANDONED
        end = None if self.terminal is None else read_event(self.terminal)
        return isinstance(end, Abort) and end.reason == _ABANDONED

    @classmethod
    def from_hash(cls, stream_id: str, fields: Mapping[bytes, bytes]) -> Meta:
        """Read the hash as the scripts write it; missing fields (lost or of another version) get neutral values."""

        def text(name: bytes, default: str = "") -> str:
            return fields[name].decode() if name in fields else default

        def number(name: bytes) -> int | None:
            return int(fields[name]) if name in fields else None

        kind: Literal["generation", "feed"] = "feed" if text(b"kind") == _FEED else "generation"
        status = text(b"status", "queued")
        return cls(
            id=stream_id,
            tenant=text(b"tenant"),
            status="running" if kind == _FEED and status == "queued" else status,  # a feed waits for no worker
            model=text(b"model"),
            request=json.loads(fields.get(b"request", b"{}")),
            epoch=number(b"epoch") or 0,
            attempts=number(b"attempts") or 0,
            worker=text(b"worker") or None,
            stop=text(b"stop") or None,
            on_worker_loss=text(b"on_worker_loss", "retry"),
            on_abandon=text(b"on_abandon", "continue"),
            on_provider_loss=text(b"on_provider_loss", "fail"),
            retention_ms=number(b"retention_ms") or 0,
            created_ms=number(b"created_ms") or 0,
            started_ms=number(b"started_ms"),
            ended_ms=number(b"ended_ms"),
            terminal=fields.get(b"terminal"),
            terminal_id=Cursor.parse(text(b"terminal_id")) if b"terminal_id" in fields else None,
            kind=kind,
            deleted_ms=number(b"deleted_ms"),
            idempotency_key=text(b"idempotency_key") or None,
            has_reused_id=b"has_reused_id" in fields,
            webhook=WebhookMeta.from_hash(fields),
            lease_ms=number(b"lease_ms"),
            title=text(b"title"),
            priority=stored_priority(text(b"priority")),
            credential=text(b"credential"),
            origin=Origin.from_hash(fields),
            dead=text(b"dead") or None,
            durable=DurableMeta.from_hash(fields),
            since_epoch=number(b"since_epoch") or 0,
        )


class KnownGeneration(NamedTuple):
    """What a watch remembers of a generation, in case Redis loses it."""

    tenant: str
    model: str


class ListedEnd(NamedTuple):
    """The end of a stream as a list shows it; ``leased``: its lease is held."""

    last: Cursor | None
    leased: bool
    progress: JobProgress | None


class Brief(NamedTuple):
    """A generation in short, for lists; ``tenant`` is None when it has expired or is deleted."""

    tenant: str | None
    status: str
    created_ms: int
    is_listed: bool = True


class Streams:
    """Reads of the ``{ID}`` side. Every method raises LogUnavailable while Redis cannot answer."""

    def __init__(self, connection: LogConnection) -> None:
        self._connection = connection
        self._redis = connection.redis
        self._keys = connection.keys
        self._listing = asyncio.Semaphore(LISTS_AT_ONCE)

    async def read(self, stream_id: str, *, after: Cursor = START, count: int = 1000) -> list[Entry]:
        """Up to ``count`` entries after (not including) ``after``, rising by id.

        Of a log that is gone (expired, deleted) the terminal event is left, which meta keeps longer.
        """
        entries = await self._page(stream_id, after=after, count=count)
        if entries:
            return entries
        terminal = await self._terminal_in_meta(stream_id, after=after)
        # A stream may begin and end between the two reads: with a terminal, the log must be read once more.
        return terminal and (await self._page(stream_id, after=after, count=count) or terminal)

    async def _page(self, stream_id: str, *, after: Cursor, count: int) -> list[Entry]:
        rows = await reply_to(self._redis.xrange(self._keys.log(stream_id), min=f"({after}", max="+", count=count))
        return [_entry(*row) for row in rows]

    async def _terminal_in_meta(self, stream_id: str, *, after: Cursor) -> list[Entry]:
        fields: list[Any] = ["terminal_id", "terminal"]
        entry_id, event = await reply_to(self._redis.hmget(self._keys.meta(stream_id), fields))
        if entry_id is None or event is None:
            return []
        entry = _entry(entry_id, {b"e": event})
        return [entry] if entry.cursor > after else []

    async def tails(self, stream_ids: Sequence[str]) -> list[Tail]:
        """Last id, status and whether the lease is held, for each stream, in one pipelined round trip."""
        return _all(await self.each_tail(stream_ids))

    async def each_tail(self, stream_ids: Sequence[str]) -> list[Tail | LogUnavailable]:
        """As ``tails``; if a stream's server does not answer now, the error takes its place."""
        return [or_unread(tail_of, reply) for reply in await read_tails(self._connection, stream_ids)]

    async def listed_ends(self, stream_ids: Sequence[str], *, with_progress: bool = False) -> list[ListedEnd]:
        """Where each stream of a list stands; a few streams at a time, because their newest events may be large."""
        most = _LISTED_END if with_progress else (0, 0, 0)
        ends: list[ListedEnd] = []
        for first in range(0, len(stream_ids), LISTED_AT_ONCE):
            some = stream_ids[first : first + LISTED_AT_ONCE]
            keys = ([self._keys.log(each), self._keys.lease(each)] for each in some)
            async with self._listing:
                with log_errors():
                    replies = await run_all(
                        self._redis, [ScriptCall(SCRIPTS["listed_end"], each, most) for each in keys]
                    )
                    raise_first(replies)
            ends += map(_listed_end, replies)
        return ends

    async def first(self, stream_id: str) -> Cursor | None:
        """Id of the oldest entry that the log still holds."""
        rows: list[_Row] = await reply_to(self._redis.xrange(self._keys.log(stream_id), count=1))
        return _entry(*rows[0]).cursor if rows else None

    async def last(self, stream_id: str) -> Entry | None:
        """The newest entry."""
        rows: list[_Row] = await reply_to(self._redis.xrevrange(self._keys.log(stream_id), count=1))
        return _entry(*rows[0]) if rows else None

    async def meta(self, stream_id: str) -> Meta | None:
        """The stream's meta, or None when nothing is known."""
        return _meta(stream_id, await reply_to(self._redis.hgetall(self._keys.meta(stream_id))))

    async def metas(self, stream_ids: Sequence[str]) -> list[Meta | None]:
        """Meta of each without its request, which may be large, in one pipelined round trip."""
        return _all(await self.each_meta(stream_ids))

    async def each_meta(self, stream_ids: Sequence[str]) -> list[Meta | LogUnavailable | None]:
        """As ``metas``; if a stream's server does not answer now, the error takes its place."""
        each = zip(stream_ids, await self._fields_of(stream_ids, _SHORT_FIELDS), strict=True)
        return [or_unread(partial(_short_meta, stream_id), row) for stream_id, row in each]

    def server_of(self, stream_id: str) -> str:
        """A name for the server of a stream: streams with the same name share a server. Sends nothing."""
        return self._connection.server_of(self._keys.meta(stream_id))

    async def owners(self, stream_ids: Sequence[str]) -> list[str | None]:
        """The tenant of each; None: there is none, it is deleted, or its server does not answer now."""
        return [
            None if isinstance(row, Exception) or row[0] is None or row[1] is not None else row[0].decode()
            for row in await self._fields_of(stream_ids, ["tenant", "deleted_ms"])
        ]

    async def briefs(self, stream_ids: Sequence[str]) -> list[Brief]:
        """Each generation in short, without its request, which may be large, in one pipelined round trip."""
        return _all(await self.each_brief(stream_ids))

    async def each_brief(self, stream_ids: Sequence[str]) -> list[Brief | LogUnavailable]:
        """As ``briefs``; if a stream's server does not answer now, the error takes its place."""
        return [or_unread(_brief, row) for row in await self._fields_of(stream_ids, _BRIEF_FIELDS)]

    async def _fields_of(self, stream_ids: Sequence[str], fields: list[Any]) -> list[Any]:
        """These fields of each meta, or an error in their place."""
        pipeline = self._connection.pipeline()
        for stream_id in stream_ids:
            pipeline.hmget(self._keys.meta(stream_id), fields)
        with log_errors():
            return await pipeline.execute(raise_on_error=False) if stream_ids else []

    async def meta_with_fields(self, stream_id: str) -> tuple[Meta, dict[str, str]]:
        """Meta and the hash it was read from, for a stream granted a moment ago (its writer may have to restore it).

        Raises LogUnavailable when Redis lost it in that moment.
        """
        fields = await reply_to(self._redis.hgetall(self._keys.meta(stream_id)))
        if not fields:
            raise LogUnavailable(f"the meta of {stream_id} was lost between its grant and its first read")
        return Meta.from_hash(stream_id, fields), {name.decode(): value.decode() for name, value in fields.items()}


def _entry(entry_id: bytes, fields: Mapping[bytes, bytes]) -> Entry:
    epoch, _, seq = entry_id.partition(b"-")
    return Entry(int(epoch), int(seq), fields.get(b"e", b""))


def _meta(stream_id: str, row: Mapping[bytes, bytes]) -> Meta | None:
    return Meta.from_hash(stream_id, row) if row else None


def _short_meta(stream_id: str, row: Sequence[bytes | None]) -> Meta | None:
    named = zip(_SHORT_NAMES, row, strict=True)
    return _meta(stream_id, {name: value for name, value in named if value is not None})


def _brief(row: Sequence[bytes | None]) -> Brief:
    tenant, status, created_ms, deleted_ms, unlisted = row
    return Brief(
        None if tenant is None or deleted_ms is not None else tenant.decode(),
        (status or b"queued").decode(),
        int(created_ms or 0),
        unlisted is None,
    )


def _listed_end(reply: Sequence[Any]) -> ListedEnd:
    newest, leased, *reports = reply
    return ListedEnd(Cursor.parse(newest.decode()) if newest else None, bool(leased), listed_progress(reports))


def _all(found: Sequence[_T | LogUnavailable]) -> list[_T]:
    read: list[_T] = []
    for each in found:
        if isinstance(each, LogUnavailable):
            raise each
        read.append(each)
    return read
