"""The batcher: one attempt's events between the provider and the log.

It numbers events, decides what the next append carries, keeps what was sent so that it can be sent again, and turns
the log's answers into what has to happen next. No I/O: the appender sends what ``take`` gives and reports back.

Rules
1. At most one append is in flight; whatever arrives meanwhile joins the next.
2. An event's seq is its place: ``base_seq`` (the log's last seq when the right was granted) + 1, + 2, …
3. Nothing is forgotten before the attempt is over: Redis may lose its tail, and then it is sent again, with the same
   epoch, seq and bytes (protocol §3 "rewound").
4. Answers decide, in the order of protocol §3; ``Next`` names the caller's next step. After ``failed`` the same batch
   is offered again.
5. If Redis loses the same tail more than ``MAX_RESENDS`` times without getting any further, the log is lost.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum, IntEnum
from typing import Final, NamedTuple

MAX_RESENDS: Final = 3
MAX_BATCH_EVENTS: Final = 512
MAX_BATCH_BYTES: Final = 256 * 2**10


class Code(IntEnum):
    """First number of the append script's answer."""

    APPENDED = 1
    DUPLICATE = 0
    FENCED = -1
    CLOSED = -2
    REWOUND = -3
    FULL = -4
    FORGOTTEN = -5


class Next(Enum):
    """What an answer asks of the caller."""

    GO_ON = "go on: take the next batch"
    LOST = "another worker holds a newer epoch (or the stream is over): write nothing more"
    RESTORE = "Redis came back empty: restore the meta, then go on"
    REMIND = "Redis lost our grant: restore the meta, then the same batch again"
    REBASE = "the log lost entries of an earlier attempt: claim a new epoch, then rebase"
    FULL = "the stream is at its bound: the unsent events were dropped, end it with stream_full"
    GIVE_UP = "the log loses the same tail again and again: end it with log_lost"


class StopWish(IntEnum):
    """Whether the stream's end is asked for, and why; the numbers are the scripts' answers. Only NONE is false."""

    NONE = 0
    STOPPED = 1
    ABANDONED = 2

    @property
    def reason(self) -> str:
        """The reason that ``abort`` tells: ``stopped`` or ``abandoned``."""
        return self.name.lower()


class Answer(NamedTuple):
    """The append script's reply."""

    code: Code
    last_epoch: int
    last_seq: int
    stop_requested: StopWish


class Batch(NamedTuple):
    """Events for one append; ``events[0]`` has ``first_seq``. An empty one asks whether the log still has our tail."""

    first_seq: int
    events: list[bytes]

    @property
    def last_seq(self) -> int:
        """Seq of the batch's last event (``first_seq`` - 1 when it is empty)."""
        return self.first_seq + len(self.events) - 1


class Batcher:
    """Events of one attempt under one epoch, from ``base_seq`` + 1 on."""

    __slots__ = ("_acked", "_bytes", "_events", "_high", "_in_flight", "_resends", "base_seq", "epoch")

    def __init__(self, *, epoch: int, base_seq: int) -> None:
        self.epoch = epoch
        self.base_seq = base_seq
        self._events: list[bytes] = []
        self._bytes = 0
        self._acked = base_seq
        self._high = base_seq
        self._in_flight: Batch | None = None
        self._resends = 0

    @property
    def acked_seq(self) -> int:
        """Last seq the log has confirmed."""
        return self._acked

    @property
    def last_seq(self) -> int:
        """Last seq given out."""
        return self.base_seq + len(self._events)

    @property
    def size_bytes(self) -> int:
        """Bytes held for sending (again)."""
        return self._bytes

    @property
    def is_settled(self) -> bool:
        """Whether everything pushed so far is confirmed."""
        return self._acked == self.last_seq and self._in_flight is None

    @property
    def in_flight(self) -> bool:
        """Whether an append is under way."""
        return self._in_flight is not None

    def push(self, events: Iterable[bytes]) -> None:
        """Number these events and keep them. ``take`` gives them out."""
        for event in events:
            self._events.append(event)
            self._bytes += len(event)

    def take(self, *, verify: bool = False) -> Batch | None:
        """The next batch, then in flight until ``answered`` or ``failed``; None while one is, or nothing waits.

        ``verify`` asks for an empty batch when nothing waits.
        """
        if self._in_flight is not None:
            return None
        begin = self._acked - self.base_seq
        end, size = begin, 0
        while end < len(self._events) and end - begin < MAX_BATCH_EVENTS and size < MAX_BATCH_BYTES:
            size += len(self._events[end])
            end += 1
        if end == begin and not verify:
            return None
        self._in_flight = Batch(self._acked + 1, self._events[begin:end])
        return self._in_flight

    def failed(self) -> None:
        """Nothing is known about the batch in flight: it is offered again (a duplicate is harmless)."""
        self._in_flight = None

    def answered(self, answer: Answer) -> Next:
        """The log's answer to the batch in flight."""
        batch, self._in_flight = self._in_flight, None
        if batch is None:
            raise RuntimeError("an answer without an append in flight")
        if answer.code in (Code.APPENDED, Code.DUPLICATE):
            self._acked = batch.last_seq
            if self._acked > self._high:
                self._high, self._resends = self._acked, 0
            return Next.GO_ON
        if answer.code is Code.REWOUND:
            return self._rewound(answer)
        if answer.code is Code.FORGOTTEN:
            return Next.REMIND
        if answer.code is Code.FULL:
            self._drop_after(answer.last_seq)
            return Next.FULL
        return Next.LOST

    def _rewound(self, answer: Answer) -> Next:
        self._resends += 1
        if self._resends > MAX_RESENDS:
            self._drop_after(max(answer.last_seq, self.base_seq))
            return Next.GIVE_UP
        if answer.last_epoch == self.epoch and answer.last_seq >= self.base_seq:
            self._acked = answer.last_seq
            return Next.GO_ON
        self._acked = self.base_seq
        if answer.last_seq == 0:
            return Next.RESTORE
        return Next.GO_ON if answer.last_seq == self.base_seq else Next.REBASE

    def _drop_after(self, seq: int) -> None:
        keep = max(0, seq - self.base_seq)
        self._bytes -= sum(map(len, self._events[keep:]))
        del self._events[keep:]
        self._acked = min(self._acked, self.last_seq)

    def drop_unsent(self) -> None:
        """Forget what the log has not confirmed (the caller ends the stream with an error instead)."""
        if self._in_flight is not None:
            raise RuntimeError("an append is in flight: its events may be in the log")
        self._drop_after(self._acked)

    def rebase(self, *, epoch: int, base_seq: int) -> None:
        """Put all of this attempt's events behind ``base_seq`` under a newer epoch; they are sent again."""
        self.epoch = epoch
        self.base_seq = self._acked = self._high = base_seq
