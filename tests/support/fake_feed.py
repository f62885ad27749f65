"""A log in memory with its feed and its reader; the test says what happens and when."""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Sequence

from broadcaster.core.cursor import START, Cursor
from broadcaster.core.entry import Entry
from broadcaster.core.notices import Gap, GapReason
from broadcaster.errors import LogUnavailable
from broadcaster.hub.ports import StreamSink


class FakeFeed:
    """Feed, LogReader and log. While ``is_readable`` is not set nothing is read; ``fault`` fails every read."""

    def __init__(self) -> None:
        self.log: dict[str, list[Entry]] = defaultdict(list)
        self.sinks: dict[str, StreamSink] = {}
        self.is_readable = asyncio.Event()
        self.is_readable.set()
        self.fault: Exception | None = None
        self.histories: list[str] = []
        self.pages: list[tuple[Cursor, int]] = []
        self.rereads = 0
        self.retell: Callable[[], None] = self._tell_unheard

    def watch(self, stream_id: str, sink: StreamSink) -> "FakeWatch":
        assert stream_id not in self.sinks, "the hub keeps one watch per stream"
        self.sinks[stream_id] = sink
        return FakeWatch(self, stream_id)

    async def read(self, stream_id: str, *, after: Cursor = START, count: int = 1000) -> list[Entry]:
        self.pages.append((after, count))
        await self.is_readable.wait()
        if self.fault is not None:
            raise self.fault
        return [entry for entry in self.log[stream_id] if entry.cursor > after][:count]

    def _tell_unheard(self) -> None:
        for stream_id, sink in self.sinks.items():
            told = getattr(sink, "last_seq", 0)
            if entries := [entry for entry in self.log[stream_id] if entry.seq > told]:
                sink.deliver(entries)

    def append(self, stream_id: str, *entries: Entry) -> None:
        """Into the log, and at once to who watches."""
        self.log[stream_id].extend(entries)
        if stream_id in self.sinks:
            self.sinks[stream_id].deliver(entries)


class FakeWatch:
    def __init__(self, feed: FakeFeed, stream_id: str) -> None:
        self._feed, self._id, self._sink = feed, stream_id, feed.sinks[stream_id]

    async def synced(self) -> None:
        self._feed.histories.append(self._id)
        await self._feed.is_readable.wait()
        if self._feed.fault is not None:
            raise LogUnavailable("the feed gave up") from self._feed.fault
        tell_history(self._sink, self._feed.log[self._id])

    def reread(self) -> None:
        """``retell`` tells what is only in the log so far; while nothing is readable, it never does."""
        self._feed.rereads += 1
        asyncio.get_running_loop().call_soon(self._read_again)

    def _read_again(self) -> None:
        if self._feed.is_readable.is_set() and self._feed.sinks.get(self._id) is self._sink:
            self._feed.retell()
            self._sink.live()

    def close(self) -> None:
        if self._feed.sinks.get(self._id) is self._sink:
            del self._feed.sinks[self._id]


def tell_history(sink: StreamSink, entries: Sequence[Entry]) -> None:
    """What a log holds, as a feed tells it to a sink that has been told nothing."""
    if entries and entries[0].seq > 1:
        before = Cursor(entries[0].epoch, entries[0].seq - 1)
        sink.gap(Gap(GapReason.TRIMMED, before, 1, before.seq))
    if entries:
        sink.deliver(list(entries))
    sink.live()
