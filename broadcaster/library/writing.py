"""What a Broadcaster writes: feeds of blocks, publications, and the ends of streams that it stops."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from functools import wraps
from typing import Any, Final, NamedTuple, ParamSpec, TypeVar

from broadcaster.core.requests.options import FeedOptions, IfExists, check_if_exists, check_options
from broadcaster.library.checking import feed_config
from broadcaster.library.feed import OpenFeed
from broadcaster.library.publications import Publication, PublicationPlan, Publications
from broadcaster.library.results import OnEnd, StreamResult
from broadcaster.library.sources.opening import open_source
from broadcaster.library.writer import WriterLimits
from broadcaster.log.feeds.ends import FeedEnd, FeedEnds
from broadcaster.log.feeds.feeds import Feeds
from broadcaster.log.redis.connect import refusals

TIMEOUT_S: Final = 30.0
LEASE_S: Final = 15.0

_ID_BYTES: Final = 16
_OWNER_BYTES: Final = 16
_ID_FIRST: Final = "the source comes first: publish(source, id=…), publish_nowait(source, id=…); without id one is made"

_P = ParamSpec("_P")
_R = TypeVar("_R")


class PublishChoices(NamedTuple):
    """How a source is published, beside the options of its feed."""

    id: str | None
    if_exists: IfExists
    on_end: OnEnd | None
    is_awaited: bool


class StreamWriting:
    """All that one Broadcaster writes, for one tenant; ``follow`` reads a stream to its end."""

    def __init__(
        self,
        open_feeds: Callable[[], Awaitable[Feeds]],
        *,
        tenant: str,
        follow: Callable[[str], Awaitable[StreamResult]],
    ) -> None:
        self.feeds: set[OpenFeed] = set()
        self.publications = Publications(self)
        self.follow = follow
        self._open_feeds = open_feeds
        self._tenant = tenant

    def open_feed(self, stream_id: str, options: FeedOptions, *, closes: bool, timeout_s: float) -> OpenFeed:
        """A feed for a block. Raises InvalidInput, TypeError for an unknown option."""
        check_options("feed", options, FeedOptions, named=("close", "timeout_s"))
        return self._feed(stream_id, options, closes=closes, timeout_s=timeout_s)

    def publish(self, source: Any, choices: PublishChoices, options: FeedOptions) -> Publication:
        """Begin to publish a source. Raises TypeError for an object that cannot be published, or an unknown option."""
        check_options("publish", options, FeedOptions, named=("id", "if_exists", "on_end"))
        opened = open_source(source)
        stream_id = create_stream_id() if choices.id is None else choices.id

        def create_feed() -> OpenFeed:
            check_if_exists(choices.if_exists)
            owner = secrets.token_hex(_OWNER_BYTES)
            return self._feed(stream_id, options, owner=owner, replaces=choices.if_exists == "replace")

        plan = PublicationPlan(
            id=stream_id,
            source=opened,
            create_feed=create_feed,
            joins=choices.if_exists == "join",
            on_end=choices.on_end,
            is_awaited=choices.is_awaited,
        )
        return self.publications.start(plan)

    async def stop(self, stream_id: str) -> None:
        """End a feed, and cancel the sources that write it. Raises UnknownStream, LogUnavailable."""
        await self.publications.stop_local(stream_id)
        await self.stop_feed(stream_id)

    async def aclose(self, *, drain_s: float) -> None:
        """End everything: publications have ``drain_s``, open feeds end with ``abort``."""
        await self.publications.aclose(drain_s=drain_s)
        await asyncio.gather(*(feed.end_from_outside() for feed in tuple(self.feeds)))

    # -- what publications need (StreamOperations)

    async def check_there(self, stream_id: str) -> None:
        """Raises UnknownStream when the id has no stream, or a deleted one; LogUnavailable."""
        with refusals():
            await (await self._open_feeds()).get(stream_id, tenant=self._tenant)

    async def stop_feed(self, stream_id: str) -> None:
        """End a feed with ``abort``, whichever program writes it. Raises UnknownStream, LogUnavailable."""
        with refusals():
            await FeedEnds(await self._open_feeds()).stop(stream_id, tenant=self._tenant)

    async def stop_creation(self, stream_id: str, creation: str) -> None:
        """As ``stop_feed``, unless the id belongs to another creation by now. Raises LogUnavailable."""
        with refusals():
            await FeedEnds(await self._open_feeds()).stop_creation(stream_id, creation, tenant=self._tenant)

    async def read_end(self, stream_id: str, creation: str) -> FeedEnd | None:
        """How the feed of this creation has ended. Raises LogUnavailable."""
        with refusals():
            return await FeedEnds(await self._open_feeds()).read(stream_id, creation, tenant=self._tenant)

    async def ended(self, feeds: Mapping[str, str]) -> set[str]:
        """Which of these creations, each with its feed's id, take nothing more. Raises LogUnavailable."""
        with refusals():
            return await FeedEnds(await self._open_feeds()).ended(feeds, tenant=self._tenant)

    def _feed(
        self,
        stream_id: str,
        options: FeedOptions,
        *,
        closes: bool = True,
        timeout_s: float = TIMEOUT_S,
        owner: str | None = None,
        replaces: bool = False,
    ) -> OpenFeed:
        return OpenFeed(
            stream_id,
            replace(feed_config({"lease_s": LEASE_S, **options}), owner=owner),
            tenant=self._tenant,
            open_feeds=self._open_feeds,
            closes=closes,
            limits=WriterLimits(timeout_s=timeout_s),
            registry=self.feeds,
            replaces=replaces,
        )


def create_stream_id() -> str:
    """An id for a publication, that is unique and cannot be guessed."""
    return f"pub_{secrets.token_hex(_ID_BYTES)}"


def refuse_id_first(publish: Callable[_P, _R]) -> Callable[_P, _R]:
    """Refuse the former form ``publish(id, source)`` with a TypeError that names its replacement."""

    @wraps(publish)
    def checked(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        if len(args) > 2 or "stream_id" in kwargs:  # the first is the Broadcaster
            raise TypeError(_ID_FIRST)
        return publish(*args, **kwargs)

    return checked
