"""A log in memory with its tail and its reader; the test decides what happens and when."""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Sequence

from broadcaster.core.cursor import START, Cursor
from broadcaster.core.entry import Entry
from broadcaster.core.notices import Gap, GapReason, StreamSink
from broadcaster.errors import LogUnavailable


class FakeTail:
    """LiveTail, LogReader and log. While ``is_readable`` is not set nothing is read; ``fault`` fails every read."""

    def __init__(self) -> None:
        self.log: dict[str, list[Entry]] = defaultdict(list)
        self.sinks: dict[str, StreamSink] = {}
        self.is_readable = asyncio.Event()
        self.is_readable.set()
        self.fault: Exception | None = None
        self.histories: list[str] = []
        self.pages: list[tuple[Cursor, int]] = []
        self.rereads = 0
        self.redeliver: Callable[[], None] = self._deliver_missed

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

    def _deliver_missed(self) -> None:
        for stream_id, sink in self.sinks.items():
            seen = getattr(sink, "last_seq", 0)
            if entries := [entry for entry in self.log[stream_id] if entry.seq > seen]:
                sink.deliver(entries)

    def append(self, stream_id: str, *entries: Entry) -> None:
        """Append to the log, and deliver to the sink at once."""
        self.log[stream_id].extend(entries)
        if stream_id in self.sinks:
            self.sinks[stream_id].deliver(entries)


class FakeWatch:
    def __init__(self, tail: FakeTail, stream_id: str) -> None:
        self._tail, self._id, self._sink = tail, stream_id, tail.sinks[stream_id]

    async def synced(self) -> None:
        self._tail.histories.append(self._id)
        await self._tail.is_readable.wait()
        if self._tail.fault is not None:
            raise LogUnavailable("the tail gave up") from self._tail.fault
        deliver_history(self._sink, self._tail.log[self._id])

    def reread(self) -> None:
        """``redeliver`` delivers what so far is only in the log, unless nothing is readable."""
        self._tail.rereads += 1
        asyncio.get_running_loop().call_soon(self._reread)

    def _reread(self) -> None:
        if self._tail.is_readable.is_set() and self._tail.sinks.get(self._id) is self._sink:
            self._tail.redeliver()
            self._sink.live()

    def close(self) -> None:
        if self._tail.sinks.get(self._id) is self._sink:
            del self._tail.sinks[self._id]


def deliver_history(sink: StreamSink, entries: Sequence[Entry]) -> None:
    """Send a sink that has received nothing all that a log holds, as a tail does."""
    if entries and entries[0].seq > 1:
        before = Cursor(entries[0].epoch, entries[0].seq - 1)
        sink.gap(Gap(GapReason.TRIMMED, before, 1, before.seq))
    if entries:
        sink.deliver(list(entries))
    sink.live()
