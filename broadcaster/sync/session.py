"""The loop's side of a publisher: one session in each process, with its connections to Redis; a courier for each feed.

A forked child makes a session of its own and never touches the one that it inherits from its parent. A courier appends
a feed's events to the log, in order, and ends the feed.

Rules
1. One batch is under way; events put meanwhile form the next one.
2. While Redis is unavailable nothing new is sent (`delivery`, rule 4). Only the batch under way is in doubt; if the
   outage lasts longer than the log remembers an append, it counts as dropped.
3. Dropped and refused events are reported in the stream: one ``data-dropped`` before the next event.
4. A batch that does not fit is sent in halves: the events that fit are appended; the first one that does not and all
   after it are refused, and the caller gets the error.
5. A feed ends with ``error``, not with ``finish``, if an error that lost events was never raised, if the stream could
   not report lost events, or if Redis has lost entries of it (`delivery`, rule 7), which also count as dropped.
6. At least ``pace_s`` passes between two appends.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from broadcaster.core.events import Error
from broadcaster.core.requests.metadata import check_metadata
from broadcaster.core.requests.options import FeedOptions, check_feed_fields, check_options
from broadcaster.core.requests.publishing import PUBLISHER_FAILED, as_mapping, encode_end, plain_copy
from broadcaster.core.requests.webhook_options import check_webhook
from broadcaster.errors import (
    BroadcasterError,
    EventTooLarge,
    InvalidInput,
    LogUnavailable,
    SetupError,
    StreamClosed,
    StreamFull,
)
from broadcaster.feed_wiring import open_feeds
from broadcaster.library.delivery import Delivery, Outage
from broadcaster.library.writer import WriterLimits
from broadcaster.log.feeds.feeds import MAX_LEASE_S, MIN_LEASE_S, FeedConfig
from broadcaster.log.feeds.fenced import FencedFeeds
from broadcaster.log.redis.connect import LogConnection
from broadcaster.log.redis.url import RedisUrl
from broadcaster.log.streams.reader import Streams
from broadcaster.observability.logs import get_logger
from broadcaster.process.loop_thread import loop_thread
from broadcaster.process.tasks import end_tasks
from broadcaster.process.thread_event import Once
from broadcaster.settings import Settings
from broadcaster.settings.in_tests import as_connected
from broadcaster.sync.buffer import Buffer, Ending, Given
from broadcaster.webhooks.url import WebhookHosts

EVENTS_LOST: Final = Error(error_text="events of this stream were refused", code=PUBLISHER_FAILED)
LIMITS: Final = WriterLimits()
# Twice the library's: a job may block the interpreter for long, and a lapsed lease ends its feed for good.
LEASE_S: Final = 30.0

_log = get_logger(__name__)


@dataclass(eq=False, repr=False)
class Courier:
    """For one feed, on the loop; ``check`` raises SetupError when Redis refuses us."""

    buffer: Buffer
    delivery: Delivery
    wake: asyncio.Event
    config: FeedConfig
    check: Callable[[], Awaitable[None]]
    _unreported: int = field(default=0, init=False)  # lost events that are not yet reported in the stream
    _next_at: float = field(default=0.0, init=False)  # when the next append may be sent
    is_started: bool = field(default=False, init=False)

    async def run(self) -> None:
        """Until the feed is left or refused, or this is cancelled."""
        renewing: asyncio.Task[None] | None = None
        try:
            await self._open()
            renewing = asyncio.create_task(self.delivery.keep_renewed(self.config.lease_s))
            ending = await self._carry()
            if ending.end is not None:
                await self._end(ending.end)
        except Exception as error:
            self.buffer.fail(error, is_over=True)
            if not isinstance(error, BroadcasterError):
                _log.critical("feed_courier_failed", stream=self.delivery.stream_id, exc_info=error)
        finally:
            self.buffer.ended()
            await end_tasks(renewing)

    async def _open(self) -> None:
        try:
            await self.delivery.create(self.config)
        except BroadcasterError:
            raise
        except Exception:
            await self.check()
            raise

    async def _carry(self) -> Ending:
        while True:
            # Read before the take: events put between the two are taken by the next one.
            ending = self.buffer.ending
            # One less: room for the ``data-dropped`` of earlier events.
            batch = self.buffer.take(most_events=LIMITS.batch_events - 1, most_bytes=LIMITS.batch_bytes)
            if batch:
                await self._deliver(batch)
            elif ending is not None:
                return ending
            else:
                await self.wake.wait()
                self.wake.clear()

    async def _deliver(self, batch: Sequence[Given]) -> None:
        given = batch
        if self._unreported:
            given = [Given.dropped(self._unreported), *given]
            self._unreported = 0
        error, rest = await self._append(given)
        self._unreported += self.buffer.lose(rest)
        if error is not None and not isinstance(error, LogUnavailable | StreamClosed):
            self._unreported += self.buffer.fail(error)
        self.buffer.settle(batch)
        if isinstance(error, StreamClosed):
            raise error
        if isinstance(error, LogUnavailable):
            _log.warning("feed_events_in_doubt", stream=self.delivery.stream_id, events=self._unreported)

    async def _append(self, given: Sequence[Given]) -> tuple[Exception | None, Sequence[Given]]:
        """The error that stopped the append, and the events not appended."""
        begin, step = 0, len(given)
        while begin < len(given):
            try:
                await self._append_once([each.raw for each in given[begin : begin + step]])
                begin += step
            except (StreamFull, EventTooLarge) as error:
                if step == 1:
                    return error, given[begin:]
                step = (step + 1) // 2
            except Exception as error:
                return error, given[begin:]
        return None, ()

    async def _append_once(self, raws: Sequence[bytes]) -> None:
        loop = asyncio.get_running_loop()
        await asyncio.sleep(max(0.0, self._next_at - loop.time()))
        self._next_at = loop.time() + LIMITS.pace_s
        await self.delivery.append(raws)

    async def _end(self, end: Any) -> None:
        while self._unreported:
            error, _ = await self._append([Given.dropped(self._unreported)])
            if isinstance(error, StreamFull):
                break
            if error is None:
                self._unreported = 0
            elif not isinstance(error, LogUnavailable):
                raise error
        if end.get("type", "finish") == "finish" and (self._unreported or self.buffer.has_error):
            end = EVENTS_LOST
        await self.delivery.close(encode_end(as_mapping(end)))


class PublisherSession:
    """Made without I/O; ``carry`` and ``close`` are for the program's threads."""

    def __init__(self, settings: Settings, *, tenant: str) -> None:
        """Raises SetupError when the settings name no Redis."""
        settings = as_connected(settings)
        if settings.redis_url is None:
            raise SetupError("no Redis to connect to: set BROADCASTER_REDIS_URL, or use Publisher.from_url(url)")
        self._place = (settings.redis_url, settings.key_prefix)
        self._thread = loop_thread()
        self._tenant = tenant
        self._outage = Outage()
        self._tasks: set[asyncio.Task[None]] = set()  # touched on the loop alone
        self._closed = Once()
        self._is_closing = False  # touched on the loop alone
        self._connection = LogConnection(
            settings.redis_url,
            prefix=settings.key_prefix,
            timeout_s=settings.redis_timeout_s,
            max_connections=settings.redis_connections,
        )
        self._feeds = open_feeds(settings, self._connection, streams=Streams(self._connection))

    def carry(
        self, stream_id: str, config: FeedConfig, *, max_events: int, max_bytes: int, ended: Callable[[], None]
    ) -> Buffer:
        """A buffer whose events go to this feed, which its first wake opens; ``ended`` is called on the loop.

        A buffer that is dropped before has done nothing.
        """
        buffer = Buffer(
            max_events=max_events,
            max_bytes=max_bytes,
            wake=lambda: self._thread.call_soon(lambda: self._wake(courier, ended)),
            outage=lambda: delivery.trouble or self._outage.error,
        )
        delivery = Delivery(
            FencedFeeds(self._feeds, config),
            stream_id,
            tenant=self._tenant,
            outage=self._outage,
            note_lost=buffer.count_lost,
        )
        courier = Courier(buffer, delivery, wake=asyncio.Event(), config=config, check=self._connection.check)
        return buffer

    def serves(self, settings: Settings) -> bool:
        """Whether it is connected as these settings have it; not so one of an earlier test."""
        settings = as_connected(settings)
        return self._place == (settings.redis_url, settings.key_prefix)

    def close(self, deadline: float) -> None:
        """End all of it, and wait until ``deadline`` (monotonic) at most; the rest ends in the background."""
        self._thread.call_soon(self._begin_to_close)
        self._closed.wait(max(0.0, deadline - time.monotonic()))

    def _wake(self, courier: Courier, ended: Callable[[], None]) -> None:
        courier.wake.set()
        if not courier.is_started and not self._is_closing:
            courier.is_started = True
            self._start(courier.run(), ended)

    def _begin_to_close(self) -> None:
        if not self._is_closing:
            self._is_closing = True
            self._start(self._aclose(), lambda: None)

    def _start(self, run: Coroutine[Any, Any, None], ended: Callable[[], None]) -> None:
        task = asyncio.get_running_loop().create_task(run)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(lambda _: ended())

    async def _aclose(self) -> None:
        await end_tasks(*(self._tasks - {asyncio.current_task()}))
        await self._connection.aclose()
        self._closed.set()


def check_url(settings: Settings) -> None:
    """Raises SetupError when the settings have a Redis URL that cannot be read."""
    if settings.redis_url is not None:
        RedisUrl.parse(settings.redis_url)


def feed_config(options: FeedOptions, settings: Settings) -> FeedConfig:
    """The configuration of a feed. Raises InvalidInput, WebhookNotAllowed, TypeError for an unknown option."""
    check_options("feed", options, FeedOptions, named=("id", "close"))
    given: dict[str, Any] = {"lease_s": LEASE_S, **options}
    fields = {name: value for name, value in given.items() if value is not None}
    check_feed_fields(fields, lease_s=(MIN_LEASE_S, MAX_LEASE_S))
    metadata = dict(fields.get("metadata", {}))
    try:
        metadata = plain_copy(metadata)
    except ValueError as error:
        raise InvalidInput(f"metadata: {error}") from error
    if "webhook" in fields:
        fields["webhook"] = check_webhook(fields["webhook"])
    config = FeedConfig(**{**fields, "metadata": metadata})
    check_metadata(config.metadata, max_bytes=settings.max_metadata_bytes)
    if config.webhook is None:
        return config
    # Here and not when the feed is created: that happens behind the caller's back.
    WebhookHosts(settings.webhook_hosts).admit(config.webhook["url"])
    return config
