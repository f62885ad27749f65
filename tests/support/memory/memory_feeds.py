"""Feeds in memory behind a writer's interface; the test sets which calls fail, and lets the next append wait."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from broadcaster.core.cursor import Cursor
from broadcaster.errors import StreamClosed, StreamFull, UnknownStream
from broadcaster.log.feeds.feeds import AppendResult, FeedConfig
from broadcaster.log.feeds.refusals import EntriesLost


class MemoryFeeds:
    """One feed. ``faults`` are raised by the next appends, one each, ``creation_faults`` by the next creations.

    Of ``lost_answers`` appends the answer is lost.
    """

    def __init__(self, *, max_events: int = 1_000_000) -> None:
        self.config: FeedConfig | None = None
        self.events: list[bytes] = []
        self.appends: list[list[bytes]] = []  # taken, call by call
        self.keys: dict[str, AppendResult] = {}
        self.faults: list[Exception] = []
        self.creation_faults: list[Exception] = []
        self.lost_answers: list[Exception] = []
        self.is_away: Exception | None = None  # raised by every call
        self.creations = 0
        self.renewals = 0
        self.end: bytes | None = None
        self.calls = 0
        self.go_on = asyncio.Event()
        self.go_on.set()
        self._max_events = max_events

    async def create(self, stream_id: str, config: FeedConfig, *, tenant: str) -> bool:
        self._answer()
        if self.creation_faults:
            raise self.creation_faults.pop(0)
        self.creations += 1
        is_new, self.config = self.config is None, config
        return is_new

    async def append(
        self,
        stream_id: str,
        events: Sequence[bytes],
        *,
        tenant: str,
        idempotency_key: str | None = None,
        after: Cursor | None = None,
    ) -> AppendResult:
        self.calls += 1
        await self.go_on.wait()
        self._answer()
        if self.faults:
            raise self.faults.pop(0)
        if self.config is None:
            raise UnknownStream("no feed has this id")
        if idempotency_key is not None and idempotency_key in self.keys:
            return self.keys[idempotency_key]
        if self.end is not None:
            raise StreamClosed("the feed has ended")
        if after is not None and after.seq > len(self.events):
            raise EntriesLost(len(self.events))
        if len(self.events) + len(events) > self._max_events:
            raise StreamFull("the feed would hold more events than it may")
        first = len(self.events) + 1
        self.events += events
        self.appends.append(list(events))
        appended = AppendResult(Cursor(1, first), Cursor(1, len(self.events)), True)
        if idempotency_key is not None:
            self.keys[idempotency_key] = appended
        if self.lost_answers:
            raise self.lost_answers.pop(0)
        return appended

    async def close(self, stream_id: str, end: bytes, *, tenant: str, after: Cursor | None = None) -> AppendResult:
        self._answer()
        if self.config is None:
            raise UnknownStream("no feed has this id")
        if self.end not in (None, end):
            raise StreamClosed("the feed has ended otherwise")
        self.end = end
        at = Cursor(1, len(self.events) + 1)
        return AppendResult(at, at, True)

    async def renew(self, stream_id: str, *, tenant: str) -> bool:
        self._answer()
        if self.config is None:
            raise UnknownStream("no feed has this id")
        self.renewals += 1
        return self.end is None

    def _answer(self) -> None:
        if self.is_away is not None:
            raise self.is_away
