"""The batcher: one attempt's events between the provider and the log.

It numbers events, decides what the next append carries, keeps what was sent so that it can be resent, and turns
the log's replies into what has to happen next. No I/O: the appender sends what ``take`` returns and reports back.

Rules
1. At most one append is in flight; whatever arrives meanwhile joins the next.
2. An event's seq is its place: ``base_seq`` (the log's last seq when the lease was granted) + 1, + 2, …
3. Every event is kept until the attempt is over: Redis may lose the log's tail, which is then resent with the same
   epoch, seq and bytes (docs/protocol.md §3 "rewound").
4. The reply decides, in the order of docs/protocol.md §3; ``Next`` names the caller's next step. After ``failed`` the
   same batch is offered once more.
5. If Redis loses the same tail more than ``MAX_RESENDS`` times without progress between the losses, the log is lost.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum, IntEnum
from typing import Final, NamedTuple

MAX_RESENDS: Final = 3
MAX_BATCH_EVENTS: Final = 512
MAX_BATCH_BYTES: Final = 256 * 2**10


class Code(IntEnum):
    """First number of the append script's reply."""

    APPENDED = 1
    DUPLICATE = 0
    FENCED = -1
    CLOSED = -2
    REWOUND = -3
    FULL = -4
    FORGOTTEN = -5


class Next(Enum):
    """What the caller must do after a reply."""

    GO_ON = "take the next batch"
    LOST = "another worker holds a newer epoch (or the stream is over): write nothing more"
    RESTORE = "Redis came back empty: restore the meta, then go on"
    REMIND = "Redis lost our grant: restore the meta, then resend the same batch"
    REBASE = "the log lost entries of an earlier attempt: claim a new epoch, then rebase"
    FULL = "the stream is at its bound: the unsent events were dropped, end it with stream_full"
    GIVE_UP = "the log has lost the same tail too often: end it with log_lost"


class StopRequest(IntEnum):
    """Whether the stream's end is requested, and why; the numbers are the scripts' replies. Only NONE is false."""

    NONE = 0
    STOPPED = 1
    ABANDONED = 2

    @property
    def reason(self) -> str:
        """The reason in the ``abort`` event: ``stopped`` or ``abandoned``."""
        return self.name.lower()


class AppendReply(NamedTuple):
    """The append script's reply."""

    code: Code
    last_epoch: int
    last_seq: int
    stop_requested: StopRequest


class Batch(NamedTuple):
    """Events for one append; ``events[0]`` has ``first_seq``. An empty batch checks that the log still has our tail.

    ``bytes_before``: event bytes of the log before ``first_seq``; None when other attempts wrote some of them.
    """

    first_seq: int
    events: list[bytes]
    bytes_before: int | None = None

    @property
    def last_seq(self) -> int:
        """Seq of the batch's last event (``first_seq`` - 1 when it is empty)."""
        return self.first_seq + len(self.events) - 1


class Batcher:
    """Events of one attempt under one epoch, from ``base_seq`` + 1 on."""

    __slots__ = (
        *("_acked_bytes", "_events", "_high", "_in_flight", "_resends"),
        *("acked_seq", "base_seq", "epoch", "size_bytes"),
    )

    def __init__(self, *, epoch: int, base_seq: int) -> None:
        self.epoch = epoch
        self.base_seq = base_seq
        self._events: list[bytes] = []
        self.size_bytes = 0
        """Bytes kept for sending and for resending."""
        self.acked_seq = base_seq
        """Last seq the log has confirmed."""
        self._acked_bytes = 0  # of this attempt's events up to ``acked_seq``
        self._high = base_seq
        self._in_flight: Batch | None = None
        self._resends = 0

    @property
    def last_seq(self) -> int:
        """Seq of the last event that was pushed."""
        return self.base_seq + len(self._events)

    @property
    def is_acknowledged(self) -> bool:
        """Whether everything pushed so far is confirmed."""
        return self.acked_seq == self.last_seq and self._in_flight is None

    def push(self, events: Iterable[bytes]) -> None:
        """Number these events and keep them for ``take``."""
        for event in events:
            self._events.append(event)
            self.size_bytes += len(event)

    def take(self, *, verify: bool = False) -> Batch | None:
        """The next batch, in flight until ``replied`` or ``failed``; None while one is, or when no event is pending.

        With ``verify``, an empty batch is returned when no event is pending.
        """
        if self._in_flight is not None:
            return None
        begin = self.acked_seq - self.base_seq
        end, size = begin, 0
        while end < len(self._events) and end - begin < MAX_BATCH_EVENTS and size < MAX_BATCH_BYTES:
            size += len(self._events[end])
            end += 1
        if end == begin and not verify:
            return None
        bytes_before = None if self.base_seq else self._acked_bytes
        self._in_flight = Batch(self.acked_seq + 1, self._events[begin:end], bytes_before)
        return self._in_flight

    def failed(self) -> None:
        """The outcome of the batch in flight is unknown: it is offered once more (a duplicate is harmless)."""
        self._in_flight = None

    def replied(self, reply: AppendReply) -> Next:
        """Take the log's reply to the batch in flight."""
        batch, self._in_flight = self._in_flight, None
        if batch is None:
            raise RuntimeError("a reply without an append in flight")
        if reply.code in (Code.APPENDED, Code.DUPLICATE):
            self.acked_seq = batch.last_seq
            self._acked_bytes += sum(map(len, batch.events))
            if self.acked_seq > self._high:
                self._high, self._resends = self.acked_seq, 0
            return Next.GO_ON
        if reply.code is Code.REWOUND:
            return self._rewound(reply)
        if reply.code is Code.FORGOTTEN:
            return Next.REMIND
        if reply.code is Code.FULL:
            self._drop_after(reply.last_seq)
            return Next.FULL
        return Next.LOST

    def _rewound(self, reply: AppendReply) -> Next:
        self._resends += 1
        if self._resends > MAX_RESENDS:
            self._drop_after(max(reply.last_seq, self.base_seq))
            return Next.GIVE_UP
        if reply.last_epoch == self.epoch and reply.last_seq >= self.base_seq:
            self._acknowledge_anew(reply.last_seq)
            return Next.GO_ON
        self._acknowledge_anew(self.base_seq)
        if reply.last_seq == 0:
            return Next.RESTORE
        return Next.GO_ON if reply.last_seq == self.base_seq else Next.REBASE

    def _drop_after(self, seq: int) -> None:
        keep = max(0, seq - self.base_seq)
        self.size_bytes -= sum(map(len, self._events[keep:]))
        del self._events[keep:]
        self._acknowledge_anew(min(self.acked_seq, self.last_seq))

    def _acknowledge_anew(self, seq: int) -> None:
        self.acked_seq = seq
        self._acked_bytes = sum(map(len, self._events[: seq - self.base_seq]))

    def rebase(self, *, epoch: int, base_seq: int) -> None:
        """Put all of this attempt's events behind ``base_seq`` under a newer epoch; they are resent."""
        self.epoch = epoch
        self.base_seq = self.acked_seq = self._high = base_seq
        self._acked_bytes = 0
