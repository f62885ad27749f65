"""``from broadcaster import Broadcaster``: everything over Redis directly, inside an asyncio program.

    broadcaster = Broadcaster.from_url("redis://localhost:6379")

    async with broadcaster.feed("job-42") as feed:              # in the job
        await feed.progress(1, 3, "rendering")

    async for event in broadcaster.events("job-42"):            # in any process; after=cursor resumes
        print(event)

Rules
1. Nothing is opened before its first use: a feed opens connections, a publication two tasks of its own beside them;
   reading, generations and the router open a front-end's parts (hub, tail, sweeper), once for all of them.
2. One Broadcaster, one event loop at a time, one tenant. ``aclose`` ends everything; it may be used anew.
   ``async with`` may be nested: the outermost end closes.
3. Other programs on the same Redis, with this library or over HTTP, see the same streams.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from typing import Any, Final, Literal, NamedTuple, Self, Unpack, overload

import msgspec

from broadcaster.client.documents import Generation
from broadcaster.client.stream import EntryReceived, GapReceived, StreamEvent
from broadcaster.core.access.api_keys import check_tenant
from broadcaster.core.cursor import Cursor
from broadcaster.core.requests.options import FeedOptions, GenerationOptions, IfExists, ReadOptions, generation_fields
from broadcaster.core.requests.stream_ids import GENERATION_PREFIX, LOCAL_TENANT
from broadcaster.errors import SetupError
from broadcaster.library.checking import check_idempotency_key, checked
from broadcaster.library.feed import OpenFeed
from broadcaster.library.lazy import LazyResource
from broadcaster.library.publications import Publication
from broadcaster.library.reading import StreamReader, wait_for_end
from broadcaster.library.results import OnEnd, StreamResult
from broadcaster.library.serving import StreamServing
from broadcaster.library.sources.tee import Item, OnLeave, Tee, TeeIfExists, TeeSource, check_tee_choice
from broadcaster.library.writing import TIMEOUT_S, PublishChoices, StreamWriting, refuse_id_first
from broadcaster.log.feeds.feeds import Feeds
from broadcaster.log.redis.connect import refusals
from broadcaster.log.redis.url import RedisUrl
from broadcaster.log.streams.folding import read_folded
from broadcaster.settings import Settings, read_settings
from broadcaster.settings.in_tests import as_connected, as_serving
from broadcaster.settings.options import SettingOptions
from broadcaster.web.documents.schemas import GenerationBody
from broadcaster.web.documents.views import read_view
from broadcaster.web.services import Services
from broadcaster.web.viewing.generation_requests import count_viewers, generation_request
from broadcaster.web.wiring import OpenLog, open_log, open_services

GIVE_UP_AFTER_S: Final = 60.0


class BroadcasterStatistics(NamedTuple):
    """What a Broadcaster has open now: blocks of ``feed``, running publications, viewers of its hub."""

    feeds: int
    publishing: int
    viewers: int


class Broadcaster(StreamServing):
    """Publish, read and generate, over one Redis; see the rules above. Errors are those of `broadcaster.errors`.

    Every call that sends something raises SetupError while Redis refuses the user.
    """

    def __init__(self, settings: Settings, tenant: str = LOCAL_TENANT) -> None:
        """Opens nothing. ``tenant`` owns what is published here and sees nothing else.

        "local" is the tenant of a front-end without keys. Raises SetupError when (1) the settings name no Redis, or
        its URL or certificates cannot be read, (2) the name is not valid for a tenant.
        """
        if settings.redis_url is None:
            raise SetupError("no Redis to connect to: set BROADCASTER_REDIS_URL, or use Broadcaster.from_url(url)")
        RedisUrl.parse(settings.redis_url)
        super().__init__()
        self.tenant = check_tenant(tenant)
        self._settings = settings
        self._log: LazyResource[OpenLog] = LazyResource(self._open_log)
        self._services: LazyResource[Services] = LazyResource(self._open_services)
        self._writing = StreamWriting(self._open_feeds, tenant=self.tenant, follow=self._follow)
        self._entered = 0

    @classmethod
    def from_url(cls, url: str, *, tenant: str = LOCAL_TENANT, **settings: Unpack[SettingOptions]) -> Self:
        """Over the Redis at ``redis://``, ``rediss://`` or ``unix://``. Opens nothing.

        Other settings come from the environment (``BROADCASTER_*``, as a server's do) or, first, from keywords:
        ``Broadcaster.from_url(url, retention_s=600)``. Raises TypeError for a keyword that is no setting, SetupError
        for a value that it cannot have.
        """
        return cls(read_settings(url, settings), tenant)

    async def __aenter__(self) -> Self:
        self._entered += 1
        return self

    async def __aexit__(self, *_: object) -> None:
        self._entered -= 1
        if self._entered == 0:
            await self.aclose()

    async def aclose(self, *, drain_s: float | None = None) -> None:
        """End everything; idempotent.

        Publications have ``drain_s`` (None: the setting) to end, then their iterators are cancelled, and those that
        joined a stream of another program get GaveUp. Feeds still open end with ``abort``, readers with GaveUp.
        """
        try:
            await self._writing.aclose(drain_s=self._settings.drain_s if drain_s is None else drain_s)
        finally:
            await self._log.aclose()

    def statistics(self) -> BroadcasterStatistics:
        """Numbers for metrics, and to see what keeps ``aclose`` waiting."""
        services = self._services.value
        viewers = 0 if services is None else services.hub.statistics().viewers
        return BroadcasterStatistics(len(self._writing.feeds), len(self._writing.publications), viewers)

    # -- publishing

    def feed(
        self,
        stream_id: str,
        *,
        close: bool = True,
        timeout_s: float = TIMEOUT_S,
        **options: Unpack[FeedOptions],
    ) -> OpenFeed:
        """A feed to write to, inside ``async with``: created there (or found, if it was created in the same way).

        The block's end is the feed's (``finish``, ``error``, ``abort``), unless ``close`` is False: one of several
        writers. ``timeout_s`` is how long each call waits for Redis. Raises InvalidInput.
        """
        return self._writing.open_feed(stream_id, options, closes=close, timeout_s=timeout_s)

    @refuse_id_first
    async def publish(
        self,
        source: Any,
        *,
        id: str | None = None,
        if_exists: IfExists = "fail",
        on_end: OnEnd | None = None,
        **options: Unpack[FeedOptions],
    ) -> StreamResult:
        """Publish what an iterator yields, and end the stream as it ends; returns what it amounts to.

        ``source`` is the stream of an SDK (docs/sources.md), or any iterator, async or not: a str is text (parts are
        opened and closed by themselves), a mapping or Event goes as it is, a terminal one is the end. A failing
        iterator becomes ``error`` (``publisher_failed``, or a provider's reason) and is raised; cancelled, the stream
        ends with ``abort``; full, with ``error`` (``stream_full``). The iterator is closed in any case, and read no
        faster than the log accepts. ``on_end`` receives the result once.

        ``id``: None makes one. ``if_exists``: what a stream of that id means. "fail" raises StreamExists, "replace"
        begins it anew and cancels the source that writes it, "join" closes this source and follows that stream
        (StreamExists when it was deleted).

        Raises TypeError for another object, and what ``Publication.result`` raises.
        """
        publication = self._writing.publish(source, PublishChoices(id, if_exists, on_end, is_awaited=True), options)
        try:
            return await publication.result()
        except asyncio.CancelledError:
            await publication.cancel_source(reason="cancelled")
            raise

    @refuse_id_first
    def publish_nowait(
        self,
        source: Any,
        *,
        id: str | None = None,
        if_exists: IfExists = "fail",
        on_end: OnEnd | None = None,
        **options: Unpack[FeedOptions],
    ) -> Publication:
        """``publish`` in tasks that this Broadcaster holds and ``aclose`` waits for. Returns at once.

        An id that is made cannot be taken. With an id of the caller's, await ``publication.created()`` before viewers
        get the URL: this call sends nothing and cannot know. A failure is logged, and ``result`` raises it.
        """
        return self._writing.publish(source, PublishChoices(id, if_exists, on_end, is_awaited=False), options)

    def tee(
        self,
        source: TeeSource[Item],
        *,
        id: str | None = None,
        if_exists: TeeIfExists = "fail",
        on_leave: OnLeave = "abort",
        on_end: OnEnd | None = None,
        **options: Unpack[FeedOptions],
    ) -> Tee[Item]:
        """``publish_nowait``, and the items: ``async for chunk in broadcaster.tee(stream)`` (docs/sources.md).

        ``if_exists`` has no "join": a stream that another program writes has no chunks for this loop. ``on_leave``:
        leaving the loop early ends the stream ("abort"), or publishes the rest ("continue"). Raises TypeError for an
        object that cannot be published, InvalidInput for another ``if_exists``, ValueError for another ``on_leave``.
        """
        check_tee_choice(if_exists)
        choices = PublishChoices(id, if_exists, on_end, is_awaited=on_leave == "abort")
        return Tee(source, lambda opened: self._writing.publish(opened, choices, options), on_leave=on_leave)

    # -- reading

    @overload
    def events(
        self, stream_id: str, *, notices: Literal[False] = False, **options: Unpack[ReadOptions]
    ) -> AsyncGenerator[EntryReceived | GapReceived, None]: ...

    @overload
    def events(
        self, stream_id: str, *, notices: Literal[True], **options: Unpack[ReadOptions]
    ) -> AsyncGenerator[StreamEvent, None]: ...

    async def events(
        self,
        stream_id: str,
        *,
        after: Cursor | str | None = None,
        wait_s: float = 0,
        give_up_after_s: float = GIVE_UP_AFTER_S,
        notices: bool = False,
    ) -> AsyncGenerator[StreamEvent, None]:
        """Everything a stream (feed or generation) holds after a cursor (None: from its beginning), then live.

        It ends with the stream. No entry comes twice, and none is missing without a GapReceived. It waits while
        Redis is unavailable. The caller may take any time over an event, and may leave at any time. ``wait_s``: seconds
        to wait for a stream not created yet. ``notices``: also the hub's notices.

        Raises BadCursor, UnknownStream, or GaveUp (``client.errors``; with the cursor to resume from) without progress
        for ``give_up_after_s``, and when this Broadcaster is closed.
        """
        cursor = Cursor.parse(after) if isinstance(after, str) else after
        reader = StreamReader(
            await self._services.get(),
            stream_id,
            tenant=self.tenant,
            after=cursor,
            wait_s=wait_s,
            give_up_after_s=give_up_after_s,
        )
        async with aclosing(reader.run()) as events:
            async for event in events:
                if notices or isinstance(event, EntryReceived | GapReceived):
                    yield event

    async def read(self, stream_id: str) -> StreamResult:
        """What a stream (feed or generation) amounts to so far. Raises UnknownStream, LogUnavailable."""
        services = await self._services.get()
        with refusals():
            meta = await services.feeds.get(stream_id, tenant=self.tenant)
            state, last, is_whole = await read_folded(services.reader, meta.id)
        return StreamResult.of(stream_id, state, cursor=last or meta.terminal_id, is_whole=is_whole)

    async def stop(self, stream_id: str) -> None:
        """End a stream with ``abort`` (``stopped``), viewers or not; idempotent.

        A generation is stopped at its worker. Of a feed, publishing iterators in this process are cancelled at once,
        those of other processes within a second; a ``feed`` block gets StreamClosed. Raises UnknownStream,
        StopNotDurable, LogUnavailable.
        """
        if stream_id.startswith(GENERATION_PREFIX):
            services = await self._services.get()
            with refusals():
                await services.generations.stop(stream_id, tenant=self.tenant)
        else:
            await self._writing.stop(stream_id)

    # -- generations

    async def start(
        self,
        prompt: str | None = None,
        *,
        messages: Sequence[Mapping[str, Any]] | None = None,
        model: str | None = None,
        idempotency_key: str | None = None,
        **options: Unpack[GenerationOptions],
    ) -> str:
        """Start a generation; returns its id at once. Read it with ``events``.

        Exactly one of ``prompt`` and ``messages``; ``options`` are the other fields of ``POST /v1/generations``. Raises
        TypeError for an unknown option, InvalidInput, UnknownModel, WebhookNotAllowed, IdempotencyMismatch, QueueFull,
        LogUnavailable.
        """
        fields = generation_fields(options, prompt=prompt, messages=messages, model=model)
        if idempotency_key is not None:
            check_idempotency_key(idempotency_key)
        body = checked(GenerationBody, fields)
        services = await self._services.get()
        request = generation_request(body, services)
        with refusals():
            created = await services.generations.create(request, tenant=self.tenant, idempotency_key=idempotency_key)
        return created.id

    async def get(self, generation_id: str, *, wait_s: float | None = None) -> Generation:
        """A generation and its answer so far; with ``wait_s``, when it has ended or that many seconds have passed.

        Raises UnknownStream, LogUnavailable, and GaveUp when it waits.
        """
        services = await self._services.get()
        with refusals():
            if wait_s is not None:
                await wait_for_end(services, generation_id, tenant=self.tenant, wait_s=wait_s)
            meta = await services.generations.get(generation_id, tenant=self.tenant)
            (viewers,) = await count_viewers(services, [meta.id])
            view = await read_view(services.reader, meta, viewers=viewers)
        return msgspec.convert(view.model_dump(mode="json"), Generation)

    # -- what is held

    async def _follow(self, stream_id: str) -> StreamResult:
        async for _ in self.events(stream_id):
            pass
        return await self.read(stream_id)

    async def _open_feeds(self) -> Feeds:
        return (await self._log.get()).feeds

    @asynccontextmanager
    async def _open_log(self) -> AsyncIterator[OpenLog]:
        async with open_log(as_connected(self._settings)) as log:
            try:
                yield log
            finally:
                await self._services.aclose()  # they use the log; at the loop's end nothing else keeps this order

    @asynccontextmanager
    async def _open_services(self) -> AsyncIterator[Services]:
        async with open_services(as_serving(self._settings), log=await self._log.get()) as services:
            try:
                yield services
            finally:
                await self._drained.aclose()
