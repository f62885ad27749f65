"""The rooms below the web, in memory: a log, its feed and its doors, under a real hub.

A test appends events and sees what the routes make of them; nothing here knows Redis.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from broadcaster.core.cursor import START, Cursor
from broadcaster.core.entry import Entry
from broadcaster.core.events import Abort, Attempt, DataEvent, KnownEvent, encode_event, is_terminal
from broadcaster.core.fold import Fold
from broadcaster.core.notices import StallReason, StreamSink
from broadcaster.core.providers.model_routing import ModelRoutes
from broadcaster.core.requests.metadata import MAX_METADATA_BYTES, check_metadata
from broadcaster.core.requests.passed_calls import BUILT_IN_CALLS
from broadcaster.core.requests.stream_ids import LOCAL_TENANT
from broadcaster.errors import IdempotencyMismatch, LogUnavailable, StreamClosed, StreamExists, UnknownStream
from broadcaster.hub.hub import Hub
from broadcaster.hub.limits import HubLimits
from broadcaster.log.feeds.feeds import AppendResult, FeedConfig
from broadcaster.log.jobs.generations import Created, GenerationRequest
from broadcaster.log.jobs.lists.chats import Chat
from broadcaster.log.jobs.lists.listing import Listed, Which
from broadcaster.log.redis.keys import check_stream_id
from broadcaster.log.streams.reader import ListedEnd, Meta
from broadcaster.log.streams.tails import Tail
from broadcaster.log.streams.webhook_meta import WebhookMeta
from broadcaster.web.guards.json_ledger import JsonLedger
from broadcaster.web.guards.tenant_rates import TenantRates
from broadcaster.web.guards.tokens.mint import TokenMint
from broadcaster.web.known_models import no_lists
from broadcaster.web.services import Services
from broadcaster.webhooks.url import WebhookHosts
from tests.support.memory.memory_lists import left_of, listed_end, page_of
from tests.support.memory.memory_operations import MemoryOperations
from tests.support.memory.memory_usage import MemoryUsage
from tests.support.memory.unserved_durable import UnservedDurable

NOW_MS = 1_795_000_000_000
EPOCH = 7


@dataclass
class MemoryStream:
    """One generation: its meta, its log, and its watchers."""

    meta: Meta
    entries: list[Entry] = field(default_factory=list)
    sink: StreamSink | None = None
    epoch: int = EPOCH

    @property
    def last(self) -> Cursor:
        return self.entries[-1].cursor if self.entries else START


class MemoryWatch:
    """What the hub holds of a subscription."""

    def __init__(self, stream: MemoryStream | None, sink: StreamSink) -> None:
        self._stream = stream
        self._ready = asyncio.Event()
        asyncio.get_running_loop().call_soon(self._start, sink)

    def _start(self, sink: StreamSink) -> None:
        if self._stream is not None:
            self._stream.sink = sink
            if self._stream.entries:
                sink.deliver(list(self._stream.entries))
        sink.live()
        self._ready.set()

    async def synced(self) -> None:
        await self._ready.wait()

    def reread(self) -> None:
        if self._stream is not None and self._stream.sink is not None:
            asyncio.get_running_loop().call_soon(self._stream.sink.live)

    def close(self) -> None:
        if self._stream is not None:
            self._stream.sink = None


class MemoryWorld:
    """Feed, reader, generations, streams and presence in one; ``away`` makes every read fail as a lost Redis does; not
    ``is_steady``: Redis broke a moment ago, and what is missing may be rewritten."""

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Begin anew: nothing was created, everything answers."""
        self.streams: dict[str, MemoryStream] = {}
        self.away = False
        self.is_steady = True
        self.refusal: Exception | None = None
        self.now_ms: Callable[[], int] = lambda: NOW_MS
        self.viewers: dict[str, int] = {}
        self.requests: list[GenerationRequest] = []
        self.on_create: Callable[[str], None] = lambda generation_id: None
        self.deleted: set[str] = set()
        self.lookups: list[list[str]] = []  # for owners, one after the other
        self._keys: dict[str, tuple[str, str]] = {}

    # -- what a worker does

    def add(self, generation_id: str, *, status: str = "queued", **changes: Any) -> MemoryStream:
        request = changes.pop("request", {"messages": [{"role": "user", "content": "why?"}], "max_tokens": 9})
        meta = Meta(
            id=generation_id,
            tenant=LOCAL_TENANT,
            status=status,
            model="local",
            request=request,
            epoch=0,
            attempts=0,
            worker=None,
            stop=None,
            on_worker_loss="retry",
            on_abandon="continue",
            retention_ms=1000,
            created_ms=self.now_ms(),
            started_ms=None,
            ended_ms=None,
            terminal=None,
            terminal_id=None,
        )
        stream = self.streams[generation_id] = MemoryStream(replace(meta, **changes))
        return stream

    def append(self, generation_id: str, *events: KnownEvent | DataEvent) -> None:
        self.append_raw(generation_id, *map(encode_event, events))

    def append_raw(self, stream_id: str, *events: bytes) -> None:
        stream = self.streams[stream_id]
        new: list[Entry] = []
        for raw in events:
            new.append(Entry(stream.epoch, stream.last.seq + len(new) + 1, raw))
            stream.meta = _after(stream.meta, new[-1], self.now_ms())
        stream.entries += new
        if stream.sink is not None and new:
            stream.sink.deliver(new)

    def lose_tail(self, generation_id: str, keep_seq: int) -> None:
        """The log lost what came after ``keep_seq``; the next writer has a newer epoch."""
        stream = self.streams[generation_id]
        stream.entries = stream.entries[:keep_seq]
        stream.epoch += 1
        if stream.sink is not None:
            stream.sink.rewound(stream.last)
            stream.sink.live()

    def take_over(self, generation_id: str, attempt: int) -> None:
        stream = self.streams[generation_id]
        stream.epoch += 1
        stream.meta = replace(stream.meta, attempts=attempt)
        self.append(generation_id, Attempt(attempt=attempt))

    def stall(self, generation_id: str, reason: StallReason | None) -> None:
        if (sink := self.streams[generation_id].sink) is not None:
            sink.stalled(reason)

    def expire(self, generation_id: str) -> None:
        self.streams[generation_id].entries = []

    # -- Feed, LogReader, StreamsPort

    def watch(self, stream_id: str, sink: StreamSink) -> MemoryWatch:
        return MemoryWatch(self.streams.get(stream_id), sink)

    async def read(self, stream_id: str, *, after: Cursor = START, count: int = 1000) -> list[Entry]:
        self._answer()
        stream = self.streams.get(stream_id)
        left = [] if stream is None else left_of(stream.meta, stream.entries)
        return [entry for entry in left if entry.cursor > after][:count]

    async def first(self, stream_id: str) -> Cursor | None:
        self._answer()
        stream = self.streams.get(stream_id)
        return stream.entries[0].cursor if stream is not None and stream.entries else None

    async def tails(self, stream_ids: Sequence[str]) -> list[Tail]:
        self._answer()
        streams = [self.streams[each] for each in stream_ids]
        return [Tail(each.last if each.entries else None, each.meta.status, True, self.now_ms()) for each in streams]

    async def listed_ends(self, stream_ids: Sequence[str], **_: bool) -> list[ListedEnd]:
        self._answer()
        return [listed_end(self.streams[each].entries) for each in stream_ids]

    async def owners(self, stream_ids: Sequence[str]) -> list[str | None]:
        self._answer()
        self.lookups.append(list(stream_ids))
        return [self.streams[each].meta.tenant if each in self.streams else None for each in stream_ids]

    # -- GenerationsPort

    async def create(
        self, request: GenerationRequest, *, tenant: str, idempotency_key: str | None = None, is_watched: bool = False
    ) -> Created:
        self._answer()
        if self.refusal is not None:
            raise self.refusal
        if idempotency_key is not None:
            found = await self.find(request, tenant=tenant, idempotency_key=idempotency_key)
            if found is not None:
                return found
        check_metadata(request.request.get("metadata"), max_bytes=MAX_METADATA_BYTES)
        self.requests.append(request)
        generation_id = f"gen_{len(self.streams) + len(self.deleted) + 1:04}"
        if idempotency_key is not None:
            self._keys[idempotency_key] = generation_id, request.digest()
        webhook = None if request.webhook is None else WebhookMeta(url=request.webhook["url"])
        self.add(generation_id, tenant=tenant, model=request.model, request=request.request, webhook=webhook)
        self.on_create(generation_id)
        return Created(generation_id, created=True)

    async def find(self, request: GenerationRequest, *, tenant: str, idempotency_key: str) -> Created | None:
        self._answer()
        first_id, digest = self._keys.get(idempotency_key, ("", ""))
        if first_id not in self.streams or self.streams[first_id].meta.is_abandoned:
            return None
        if digest != request.digest():
            raise IdempotencyMismatch("this Idempotency-Key was used with another body")
        return Created(first_id, created=False)

    async def get(self, generation_id: str, *, tenant: str) -> Meta:
        self._answer()
        stream = self.streams.get(check_stream_id(generation_id))
        if stream is None or stream.meta.tenant != tenant or stream.meta.kind != "generation":
            raise UnknownStream("no generation has this id (or it has expired)")
        return stream.meta

    async def page(
        self, tenant: str, *, which: Which, limit: int, before: int | None, with_feeds: bool = False
    ) -> Listed:
        self._answer()
        metas = [stream.meta for stream in self.streams.values()]
        kinds = ("generation", "feed") if with_feeds else ("generation",)
        fitting = [(meta.tenant, meta.kind in kinds) == (tenant, True) for meta in metas]
        return page_of(metas, fitting, which=which, limit=limit, before=before)

    async def stop(self, generation_id: str, *, tenant: str) -> None:
        meta = await self.get(generation_id, tenant=tenant)
        if self.refusal is not None:
            raise self.refusal
        if not meta.is_over:
            self.streams[generation_id].meta = replace(meta, stop="stopped")
            self.append(generation_id, Abort(reason="stopped"))

    async def delete(self, generation_id: str, *, tenant: str, timeout_s: float) -> None:
        if generation_id in self.deleted:
            return
        await self.stop(generation_id, tenant=tenant)
        self.deleted.add(generation_id)
        del self.streams[generation_id]

    # -- PresencePort and the rest

    async def count(self, stream_ids: Sequence[str]) -> list[int]:
        self._answer()
        return [self.viewers.get(each, 0) for each in stream_ids]

    async def ping(self) -> None:
        self._answer()

    async def check_gone(self) -> None:
        if not self.is_steady:
            raise LogUnavailable("the log may have lost it a moment ago; try again")

    def _answer(self) -> None:
        if self.away:
            raise LogUnavailable("the log does not answer now; try again")


class MemoryFeeds:
    """The FeedsPort over the world: no bounds, no keys."""

    def __init__(self, world: MemoryWorld) -> None:
        self._world = world

    async def create(self, stream_id: str, config: FeedConfig, *, tenant: str, replaces: bool = False) -> bool:
        if not replaces and stream_id in self._world.streams:
            raise StreamExists("the id is taken")
        check_metadata(config.metadata, max_bytes=MAX_METADATA_BYTES)
        request = {"metadata": dict(config.metadata)}
        self._world.add(stream_id, tenant=tenant, kind="feed", status="running", request=request)
        return True

    async def get(self, stream_id: str, *, tenant: str) -> Meta:
        await self._world.ping()
        stream = self._world.streams.get(stream_id)
        if stream is None or stream.meta.tenant != tenant:
            raise UnknownStream("no stream has this id (or it has expired)")
        return stream.meta

    async def append(self, stream_id: str, events: Sequence[bytes], *, tenant: str, **_: object) -> AppendResult:
        if (await self.get(stream_id, tenant=tenant)).is_over:
            raise StreamClosed("the feed has ended")
        self._world.append_raw(stream_id, *events)
        last = self._world.streams[stream_id].last
        return AppendResult(Cursor(last.epoch, last.seq - len(events) + 1), last, is_new=True)

    async def close(self, stream_id: str, end: bytes, *, tenant: str, **_: object) -> AppendResult:
        return await self.append(stream_id, [end], tenant=tenant)

    async def delete(self, stream_id: str, *, tenant: str) -> None:
        await self.get(stream_id, tenant=tenant)
        del self._world.streams[stream_id]


class MemoryChats:
    """The ChatsPort over the world: chats are kept for ever."""

    def __init__(self, world: MemoryWorld) -> None:
        self._world = world
        self._chats: dict[tuple[str, str], Chat] = {}

    async def remember(self, chat_id: str, chat: Chat, *, tenant: str, **_: object) -> None:
        await self._world.ping()
        held = self._chats.get((tenant, chat_id))
        if held is None or held.created_ms <= chat.created_ms:  # the world's clock may stand still
            self._chats[tenant, chat_id] = chat

    async def latest(self, chat_id: str, *, tenant: str) -> Chat | None:
        await self._world.ping()
        return self._chats.get((tenant, chat_id))


def _after(meta: Meta, entry: Entry, now_ms: int) -> Meta:
    """The meta once this entry is in the log."""
    if not is_terminal(entry.event):
        return replace(meta, status="running", attempts=max(1, meta.attempts), started_ms=meta.started_ms or now_ms)
    fold = Fold()
    fold.apply(entry.event)
    return replace(
        meta, status=fold.state.status.value, ended_ms=now_ms, terminal=entry.event, terminal_id=entry.cursor
    )


@asynccontextmanager
async def memory_services(
    world: MemoryWorld, *, limits: HubLimits | None = None, **changes: Any
) -> AsyncIterator[Services]:
    """Services over the world, with a real hub; changed as requested."""
    hub = Hub(world, world, limits=limits or HubLimits(retry_ms=100))
    services = Services(
        generations=world,
        feeds=MemoryFeeds(world),
        durable=UnservedDurable(),
        lists=world,
        streams=world,
        reader=world,
        hub=hub,
        presence=world,
        chats=MemoryChats(world),
        operations=MemoryOperations(),
        ping_log=world.ping,
        check_gone=world.check_gone,
        log_timeout_s=2.0,
        long_poll_timeout_s=10.0,
        head_wait_s=0.0,
        count_wait_s=5.0,
        delete_timeout_s=10.0,
        default_model="local",
        default_max_tokens=None,
        routes=ModelRoutes({"claude*": "anthropic", "gpt-*": "openai", "resp-*": "openai-responses", "local": "local"}),
        own_servers=frozenset(),
        reasoning_servers=frozenset(),
        provider_calls=BUILT_IN_CALLS,
        unknown_parameters="refuse",
        webhook_hosts=WebhookHosts(),
        max_body_bytes=4 * 2**20,
        max_body_values=100_000,
        drain_window_s=1.0,
        json_ledger=JsonLedger(),
        rates=TenantRates(),
        usage=MemoryUsage(),
        remember=lambda meta: None,
        departed=lambda generation_id: None,
        check_admitted=lambda caller: None,
        mint=TokenMint(None, ttl_s=900, max_s=86_400),
        revoke_tokens=_keep_all,
        model_lists=no_lists,
    )
    try:
        yield replace(services, **changes)
    finally:
        await hub.aclose()


async def _keep_all(tenant: str, *, token_id: str = "", subject: str = "") -> None:
    """Revocations are Redis's."""
