"""A small writer of the log in its real form, a room that checks what a tail sends it, and a tail between the two."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal, TypeAlias, cast

from redis.asyncio import Redis

from broadcaster.core.backoff import BackOff
from broadcaster.core.cursor import START, Cursor
from broadcaster.core.entry import Entry
from broadcaster.core.events import Finish, TextDelta, encode_event
from broadcaster.core.notices import FastPath, Gap, StallReason
from broadcaster.log.pubsub.connection import SubscriberOptions
from broadcaster.log.redis.address import Dialer
from broadcaster.log.redis.connect import LogConnection
from broadcaster.log.redis.topology.topology import SingleTopology, Topology, create_topology
from broadcaster.log.redis.url import RedisUrl
from broadcaster.log.streams.reader import Streams
from broadcaster.log.tail.options import TailLimits, TailTimes
from broadcaster.log.tail.ports import LapsedEnder, TailLog
from broadcaster.log.tail.tail import LiveTail
from broadcaster.log.tail.watch import StreamWatch

Push: TypeAlias = Literal["events", "each", "poke", "none"]

NEVER_S: Final = 3600.0
DEADLINE_S: Final = 20.0

FINISH: Final = encode_event(Finish(finish_reason="stop"))

_BACK_OFF: Final = BackOff(0.01, 0.05)

PUSHES_ONLY: Final = TailTimes(backoff=_BACK_OFF, tail_check_min_s=NEVER_S, tail_check_max_s=NEVER_S, silence_s=0.3)
"""No tail check. Without probes, too, what is repaired, pushes and reconnects have repaired."""

TAILS: Final = replace(PUSHES_ONLY, tail_check_min_s=0.05, tail_check_max_s=0.1, push_grace_s=0.02, stall_notice_s=0.1)

NO_PROBES: Final = SubscriberOptions(backoff=_BACK_OFF, probe_every_s=NEVER_S)
PROBES: Final = replace(NO_PROBES, probe_every_s=0.05, probe_s=0.3)

PROMISED_S: Final = 5.0
"""Longest time from a loss to its repair or its report (docs/faults.md, promise 5)."""

_APPEND: Final = """
-- KEYS log, live channel; ARGV epoch, first_seq, push (events, each, poke, none), event JSON ...
local parts = {}
for i = 4, #ARGV do
  local id = string.format('%s-%d', ARGV[1], ARGV[2] + i - 4)
  redis.call('XADD', KEYS[1], id, 'e', ARGV[i], 'v', '1', 'b', '0')
  if ARGV[3] == 'each' then
    redis.call('SPUBLISH', KEYS[2], string.format('1 %s %d 1\\n', ARGV[1], ARGV[2] + i - 4) .. ARGV[i])
  end
  if ARGV[3] == 'events' then parts[#parts + 1] = '\\n' .. ARGV[i] end
end
if ARGV[3] == 'events' or ARGV[3] == 'poke' then
  redis.call('SPUBLISH', KEYS[2], string.format('1 %s %s %d', ARGV[1], ARGV[2], #ARGV - 3) .. table.concat(parts))
end
return #ARGV - 3
"""


def delta(text: str) -> bytes:
    """A text delta as the log stores it."""
    return encode_event(TextDelta(id="t", delta=text))


class Writer:
    """Appends and pushes in one step, as a worker's script does; faults are chosen by argument."""

    def __init__(self, connection: LogConnection) -> None:
        self.redis = connection.redis
        self.keys = connection.keys
        self.next_seq: dict[str, int] = {}

    async def append(
        self,
        stream_id: str,
        count: int = 1,
        *,
        epoch: int = 1,
        seq: int | None = None,
        push: Push = "events",
        events: Sequence[bytes] | None = None,
    ) -> list[Entry]:
        """Write entries with the next seqs (or from ``seq`` on) in one step; answers them."""
        first_seq = self.next_seq.get(stream_id, 1) if seq is None else seq
        texts = events or [delta(f"{stream_id} {epoch}-{first_seq + at}") for at in range(count)]
        keys = [self.keys.log(stream_id), self.keys.live(stream_id)]
        await self.redis.eval(_APPEND, len(keys), *keys, epoch, first_seq, push, *texts)
        self.next_seq[stream_id] = first_seq + len(texts)
        return [Entry(epoch, first_seq + at, text) for at, text in enumerate(texts)]

    async def finish(self, stream_id: str, *, epoch: int = 1, push: Push = "events") -> Entry:
        """Write the terminal entry and the status that goes with it."""
        (entry,) = await self.append(stream_id, epoch=epoch, push=push, events=[FINISH])
        await self.set_worker(stream_id, status="finished", leased=False)
        return entry

    async def lose_tail(self, stream_id: str, count: int) -> None:
        """Take the last entries away, as a failover does; ids may be reused."""
        key = self.keys.log(stream_id)
        rows = cast(list[tuple[bytes, dict[Any, Any]]], await self.redis.xrange(key))
        pipeline = self.redis.pipeline(transaction=True)
        pipeline.delete(key)
        for entry_id, fields in rows[: len(rows) - count]:
            pipeline.xadd(key, fields, id=entry_id)
        await pipeline.execute()

    async def set_worker(self, stream_id: str, *, status: str | None = "running", leased: bool = True) -> None:
        """What a tail check sees of the generation besides its entries."""
        if status is None:
            await self.redis.delete(self.keys.meta(stream_id))
        else:
            await self.redis.hset(self.keys.meta(stream_id), "status", status)
        if leased:
            await self.redis.set(self.keys.lease(stream_id), "w:1", px=60_000)
        else:
            await self.redis.delete(self.keys.lease(stream_id))

    async def subscribers(self, stream_id: str) -> int:
        """How many connections the server has on the live channel."""
        ((_, count),) = await self.redis.pubsub_shardnumsub(self.keys.live(stream_id))
        return int(count)


@dataclass
class Room:
    """What one stream's room holds. It checks density at every call and remembers its notices, in order.

    It opens the fast path in the turn after every call, and closes it in the turn after an event came by it.
    """

    entries: list[Entry] = field(default_factory=list)
    notices: list[object] = field(default_factory=list)
    last_seq: int = 0
    lives: int = 0
    stall: StallReason | None = None
    on_call: Callable[[str], None] = lambda name: None
    fast_path: FastPath | None = None
    came_fast: int = 0  # entries that came by the fast path
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    def follow(self, fast_path: FastPath) -> None:
        assert self.fast_path is None
        self.fast_path = fast_path

    def settle(self, first: Cursor, events: Sequence[bytes]) -> None:
        assert self.fast_path is not None
        assert not self.fast_path.is_open
        self.came_fast += len(events)
        if events:
            assert first.epoch == self.entries[-1].epoch
            self.deliver([Entry(first.epoch, seq, event) for seq, event in enumerate(events, first.seq)])

    def _open(self) -> None:
        if self.fast_path is not None and not self.fast_path.is_open:
            self.fast_path.open(self, Room._flush_soon)

    def _flush_soon(self) -> None:
        asyncio.get_running_loop().call_soon(self._flush)

    def _flush(self) -> None:
        assert self.fast_path is not None
        self.fast_path.is_due = False
        self.fast_path.flushed_at = asyncio.get_running_loop().time()
        self.fast_path.close()
        self._open()

    def deliver(self, entries: Sequence[Entry]) -> None:
        self.on_call("deliver")
        for entry in entries:
            assert entry.seq == self.last_seq + 1, f"{entry.cursor} after seq {self.last_seq}"
            self.last_seq = entry.seq
            self.entries.append(entry)
        self._note()

    def gap(self, gap: Gap) -> None:
        self.on_call("gap")
        assert gap.first_seq == self.last_seq + 1
        self.last_seq = gap.last_seq
        self._note(gap)

    def rewound(self, keep: Cursor) -> None:
        self.on_call("rewound")
        self.entries = [entry for entry in self.entries if entry.seq <= keep.seq]
        assert keep == START or self.entries[-1].cursor == keep
        self.last_seq = keep.seq
        self._note(("rewound", keep))

    def live(self) -> None:
        self.on_call("live")
        self.lives += 1
        self._note()

    def stalled(self, reason: StallReason | None) -> None:
        self.on_call("stalled")
        assert reason is not self.stall, "the same reason twice"
        self.stall = reason
        self._note(("stalled", reason))

    def _note(self, what: object = None) -> None:
        if what is not None:
            self.notices.append(what)
        self._changed.set()
        asyncio.get_running_loop().call_soon(self._open)

    async def until(self, condition: Callable[[], bool], *, within_s: float = DEADLINE_S) -> None:
        """Wait for a condition over this room; TimeoutError with what it holds when it does not come true."""
        try:
            async with asyncio.timeout(within_s):
                while not condition():
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            raise TimeoutError(f"{len(self.entries)} entries to seq {self.last_seq}, notices {self.notices}") from None

    async def holds(self, entries: Sequence[Entry], *, within_s: float = DEADLINE_S) -> None:
        """Wait until it holds exactly these."""
        await self.until(lambda: self.entries == list(entries), within_s=within_s)


class RecordedLog:
    """The log as the tail reads it; remembers the stream of each read."""

    def __init__(self, log: TailLog) -> None:
        self._log = log
        self.tails = log.tails
        self.reads: list[str] = []

    async def read(self, stream_id: str, *, after: Cursor = START, count: int = 1000) -> list[Entry]:
        self.reads.append(stream_id)
        return await self._log.read(stream_id, after=after, count=count)


@dataclass
class TailWorld:
    """A tail on a real server, and a writer beside it."""

    connection: LogConnection
    writer: Writer
    tail: LiveTail
    reads: list[str]  # the streams whose log was read, once for each page

    def watch(self, stream_id: str) -> tuple[Room, StreamWatch]:
        room = Room()
        return room, self.tail.watch(stream_id, room)

    async def watch_live(self, stream_id: str) -> tuple[Room, StreamWatch]:
        room, watch = self.watch(stream_id)
        async with asyncio.timeout(DEADLINE_S):
            await watch.synced()
        return room, watch

    async def know(self, *stream_ids: str) -> None:
        """Create their metas, as those of streams that no lease is needed for."""
        for stream_id in stream_ids:
            await self.connection.redis.hset(self.connection.keys.meta(stream_id), "status", "queued")

    async def subscriber_ids(self) -> set[str]:
        """The server's ids of its pub/sub connections: another connection has another id."""
        return await subscriber_ids(self.connection.redis)

    async def kill_subscribers(self) -> int:
        """End every pub/sub connection of the server from its side; returns how many there were."""
        return int(await self.connection.redis.execute_command("CLIENT", "KILL", "TYPE", "pubsub"))


@asynccontextmanager
async def open_tail(
    url: str,
    *,
    times: TailTimes = PUSHES_ONLY,
    limits: TailLimits | None = None,
    subscriber: SubscriberOptions = NO_PROBES,
    dialer: Dialer | None = None,
    via: str | None = None,
    wrap_log: Callable[[Streams], TailLog] = lambda streams: streams,
    timeout_s: float = 2.0,
    rng: random.Random | None = None,
    lapses: LapsedEnder | None = None,
) -> AsyncIterator[TailWorld]:
    """A tail over the server at ``url``, which is emptied; ``dialer``, ``via`` (a URL to subscribe
    through) and ``wrap_log`` put something in between."""
    async with LogConnection(url, timeout_s=timeout_s) as connection:
        await connection.redis.flushall()
        log = RecordedLog(wrap_log(Streams(connection)))
        async with LiveTail(
            single(via or url) if dialer is None else SingleTopology(dialer, name="dialled"),
            log,
            keys=connection.keys,
            publish_probe=connection.redis.spublish,
            times=times,
            limits=limits or TailLimits(),
            subscriber=subscriber,
            rng=rng or random.Random(),
            lapses=lapses,
        ) as tail:
            yield TailWorld(connection, Writer(connection), tail, log.reads)


async def subscriber_ids(redis: Redis) -> set[str]:
    """The ids of a server's pub/sub connections."""
    return {client["id"] for client in await redis.client_list(_type="pubsub")}


def single(url: str) -> Topology:
    """The topology of one server."""
    return create_topology(RedisUrl.parse(url))


async def until(condition: Callable[[], bool], *, within_s: float = DEADLINE_S) -> None:
    """Wait for a condition that nothing announces."""
    async with asyncio.timeout(within_s):
        while not condition():
            await asyncio.sleep(0.005)
