"""Feeds with four writers: two over HTTP that repeat themselves, the library's, and the blocking publisher's.

Each event names its writer and its number, so that a judge finds what is missing, doubled or out of order.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from broadcaster import Broadcaster
from broadcaster.errors import BroadcasterError
from broadcaster.sync import Publisher
from tests.hunt.system.wire import Broken, Reply, call

EVENT: Final = "data-hunt"
HTTP_WRITERS: Final = 2
INSIST_S: Final = 90.0
REPEAT_SHARE: Final = 0.3
LATER: Final = frozenset({503, 429})


@dataclass
class Written:
    """What one writer knows of its events. ``acked``: number → id (empty: not known); ``unknown``: may be there."""

    acked: dict[int, str] = field(default_factory=dict)
    unknown: set[int] = field(default_factory=set)
    dropped: int = 0


@dataclass
class HuntedFeed:
    """One feed and its writers by name."""

    id: str
    writers: dict[str, Written] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)
    is_closed: bool = False
    began: float = field(default_factory=time.monotonic)
    is_trimmed: bool = False


@dataclass
class FeedWriting:
    """Writes feeds. ``is_quiet`` ends what is under way early, in order."""

    urls: Sequence[str]
    library: Broadcaster
    publisher: Publisher
    rng: random.Random
    keeps: Callable[[], bool]
    is_quiet: bool = False

    async def write(self, feed: HuntedFeed, count: int, every_s: float) -> None:
        """Create it, let all writers write ``count`` events each, close it."""
        if await self._insist(feed, "PUT", "", body={}) is None:
            return
        async with asyncio.TaskGroup() as writers:
            for n in range(HTTP_WRITERS):
                writers.create_task(self._over_http(feed, f"http-{n}", count, every_s))
            writers.create_task(self._library(feed, count, every_s))
            writers.create_task(asyncio.to_thread(self._blocking, feed, count, every_s))
        feed.is_closed = await self._insist(feed, "POST", "/close", body={"type": "finish"}) is not None

    async def _over_http(self, feed: HuntedFeed, writer: str, count: int, every_s: float) -> None:
        written = feed.writers.setdefault(writer, Written())
        for n in range(count):
            if self.is_quiet:
                return
            key = {"idempotency-key": f"{writer}-{n}"}
            body = event_of(writer, n)
            reply = await self._insist(feed, "POST", "/events", body=body, headers=key)
            if reply is None:
                written.unknown.add(n)
                return
            written.acked[n] = reply.json["last_id"]
            if self.rng.random() < REPEAT_SHARE:
                repeated = await self._insist(feed, "POST", "/events", body=body, headers=key)
                if repeated is not None and repeated.json["last_id"] != written.acked[n] and self.keeps():
                    feed.wrong.append(f"{writer}-{n} is {written.acked[n]}, repeated {repeated.json['last_id']}")
            await asyncio.sleep(every_s)

    async def _insist(
        self, feed: HuntedFeed, method: str, path: str, *, body: Any, headers: dict[str, str] | None = None
    ) -> Reply | None:
        """The reply to a call that is repeated until it is taken; None: it was refused for good, or for too long."""
        until = time.monotonic() + INSIST_S
        outcome = ""
        while time.monotonic() < until:
            try:
                reply = await call(
                    self.rng.choice(self.urls), method, f"/v1/streams/{feed.id}{path}", body=body, headers=headers
                )
            except Broken as error:
                outcome = str(error)
                await asyncio.sleep(0.1)
                continue
            if reply.status < 300:
                return reply
            outcome = f"{reply.status} {reply.code}"
            if reply.status not in LATER:
                break
            await asyncio.sleep(0.1)
        if self.keeps():
            feed.wrong.append(f"{method} {path or '/'} was never taken: {outcome}")
        return None

    async def _library(self, feed: HuntedFeed, count: int, every_s: float) -> None:
        written = feed.writers.setdefault("library", Written())
        try:
            async with self.library.feed(feed.id, close=False, lease_s=None, timeout_s=20.0) as writer:
                for n in range(count):
                    if self.is_quiet:
                        return
                    written.unknown.add(n)
                    (cursor,) = await writer.append(event_of("library", n))
                    written.unknown.discard(n)
                    written.acked[n] = str(cursor)
                    await asyncio.sleep(every_s)
        except BroadcasterError as error:
            if self.keeps() and not error.retry:
                feed.wrong.append(f"the library was refused: {error.code} {error}")

    def _blocking(self, feed: HuntedFeed, count: int, every_s: float) -> None:
        written = feed.writers.setdefault("sync", Written())
        try:
            with self.publisher.feed(feed.id, close=False, lease_s=None) as writer:
                for n in range(count):
                    if self.is_quiet:
                        break
                    writer.append(event_of("sync", n))
                    written.unknown.add(n)
                    time.sleep(every_s)
                until = time.monotonic() + INSIST_S
                is_flushed = False
                while not is_flushed and time.monotonic() < until:
                    is_flushed = self._flushed(writer)
                written.dropped = writer.statistics().dropped
            if is_flushed and not written.dropped:
                written.acked |= dict.fromkeys(written.unknown, "")
                written.unknown.clear()
        except BroadcasterError as error:
            if self.keeps() and not error.retry:
                feed.wrong.append(f"the publisher was refused: {error.code} {error}")

    def _flushed(self, writer: Any) -> bool:
        try:
            writer.flush()
        except BroadcasterError as error:
            if not error.retry:
                raise
            return False
        return True


def event_of(writer: str, n: int) -> dict[str, Any]:
    """Event ``n`` of a writer."""
    return {"type": EVENT, "data": {"w": writer, "n": n}}
