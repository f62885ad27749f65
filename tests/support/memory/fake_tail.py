"""A log in memory with its tail and its reader; the test decides what happens and when."""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Sequence

from broadcaster.core.cursor import START, Cursor
from broadcaster.core.entry import Entry
from broadcaster.core.notices import Gap, GapReason, StreamSink
from broadcaster.errors import LogUnavailable
from broadcaster.hub.room import Room
from broadcaster.log.tail.fast_path import StreamFastPath
from broadcaster.log.tail.push import parse_push


class FakeTail:
    """LiveTail, LogReader and log. While ``is_readable`` is not set nothing is read; ``fault`` fails every read."""

    def __init__(self) -> None:
        self.log: dict[str, list[Entry]] = defaultdict(list)
        self.sinks: dict[str, StreamSink] = {}
        self.fast_paths: dict[str, StreamFastPath] = {}
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
        watch = FakeWatch(self, stream_id)
        self.fast_paths[stream_id] = watch.fast_path
        return watch

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
            self.deliver(stream_id, entries)

    def deliver(self, stream_id: str, entries: Sequence[Entry]) -> None:
        """As a tail does: an entry by itself comes as its push does, by the fast path where that is open."""
        path = self.fast_paths[stream_id]
        if len(entries) == 1:
            epoch, seq, event = entries[0]
            path.push(b"1 %d %d 1\n%b" % (epoch, seq, event))
        else:
            path.close()
            self.sinks[stream_id].deliver(entries)


class FakeWatch:
    def __init__(self, tail: FakeTail, stream_id: str) -> None:
        self._tail, self._id, self._sink = tail, stream_id, tail.sinks[stream_id]
        self.fast_path = StreamFastPath(self, self._sink)
        self._sink.follow(self.fast_path)

    # -- the owner of the fast path

    def begin_fast(self) -> Cursor | None:
        room = self._sink
        assert isinstance(room, Room)
        is_at_entry = room.epoch > 0 and room.stall is None and not room.is_over
        return Cursor(room.epoch, room.last_seq) if is_at_entry else None

    def push(self, payload: bytes) -> None:
        push = parse_push(payload)
        assert push is not None
        self._sink.deliver([Entry(push.epoch, seq, event) for seq, event in enumerate(push.events, push.first_seq)])

    def took(self, count: int) -> None:
        """It keeps no place."""

    def crashed(self, error: Exception) -> None:
        raise error

    def subscribed(self) -> None:
        """It has no channel."""

    def lost(self) -> None:
        """It has no channel."""

    # -- the hub's

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
        self.fast_path.close()
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
