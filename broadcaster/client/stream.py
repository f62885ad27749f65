"""What a reader of a stream receives, and the pure part of reading one: which message is new, which is lost.

Rules
1. Entries are returned in rising order, each once: an entry at or below the last one is a double and is dropped.
2. The next entry has the next seq. If it has another one, entries are missing without a gap: the connection is useless
   (``StreamTorn``), and the reader reconnects from the last entry that it returned.
3. A gap moves the reader to the gap's cursor, backwards too (``rewound``, ``reset``); the entry after
   it may have any higher seq, for the range is not always known.
4. The terminal entry is the end; so is the response 204.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import msgspec

from broadcaster.client.errors import BadAnswer, StreamClosed
from broadcaster.core.cursor import START, Cursor
from broadcaster.core.events import Abort, DataEvent, Error, Event, Finish, UnknownEvent, decode_event
from broadcaster.core.sse import DEFAULT_EVENT, SseMessage
from broadcaster.errors import BadCursor

GAP: Final = "hub.gap"
BYE: Final = "hub.bye"


@dataclass(frozen=True, slots=True)
class EntryReceived:
    """An entry of the log: its cursor, its event, and the event's JSON as it was stored."""

    cursor: Cursor
    event: Event
    raw: bytes

    @property
    def is_terminal(self) -> bool:
        """Whether this entry ends its stream."""
        return isinstance(self.event, Finish | Error | Abort)

    @property
    def type(self) -> str:
        """The event's ``type``: ``text-delta``, ``data-progress``, one of a newer version."""
        if isinstance(self.event, DataEvent | UnknownEvent):
            return self.event.type
        return str(self.event.__struct_config__.tag)

    @property
    def data(self) -> Any:
        """The data of a ``data-<name>`` event; None for every other event."""
        return self.event.data if isinstance(self.event, DataEvent) else None


@dataclass(frozen=True, slots=True)
class GapReceived:
    """Entries that will not be delivered (any more).

    ``reason`` is ``trimmed``, ``expired`` (first_seq to last_seq are gone), ``rewound`` or ``reset`` (the
    entries after ``cursor`` are void). Delivery continues after ``cursor``. The range is 0 to 0 when it is not known.
    """

    reason: str
    cursor: Cursor
    first_seq: int
    last_seq: int


@dataclass(frozen=True, slots=True)
class Notice:
    """A notice of the front-end (``hub.hello``, ``hub.live``, ``hub.stalled``, ``hub.bye``, newer ones)."""

    name: str
    data: Any


@dataclass(frozen=True, slots=True)
class Reconnecting:
    """The connection is gone; the next one is tried in ``delay_s`` seconds. Nothing is lost."""

    reason: str
    delay_s: float


StreamEvent: TypeAlias = EntryReceived | GapReceived | Notice | Reconnecting


class StreamTorn(Exception):
    """An entry is missing without a gap: drop the connection and reconnect."""


class _GapRange(msgspec.Struct):
    reason: str = "unknown"
    from_: int = msgspec.field(name="from", default=0)
    to: int = 0


class _Bye(msgspec.Struct):
    reason: str = "closed"
    reconnect: bool = True


class StreamPosition:
    """Where a reader stands in a stream, over all its connections.

    Pass every message of every connection to ``take``. Send ``cursor`` as ``Last-Event-ID`` (None: none) with the
    next connection, and stop when ``is_over``.
    """

    def __init__(self, after: Cursor | None) -> None:
        self.cursor = after
        self.is_over = False
        self._follows_gap = False

    def take(self, message: SseMessage) -> StreamEvent | None:
        """The event of this message, or None for a double.

        Raises (1) StreamTorn on a hole or fork without a gap, (2) BadAnswer when it is not one of our messages.
        Pass a Notice to ``refusal`` next.
        """
        try:
            if message.event == DEFAULT_EVENT:
                return self._take_entry(message)
            if message.event == GAP:
                return self._take_gap(message)
            return Notice(message.event, msgspec.json.decode(message.data))
        except (BadCursor, msgspec.DecodeError) as error:
            raise BadAnswer(f"not a message of a front-end: {error}") from error

    def refusal(self, notice: Notice) -> StreamClosed | None:
        """The error that this notice announces, if it is a ``hub.bye`` that forbids reconnecting."""
        if notice.name != BYE:
            return None
        try:
            bye = msgspec.convert(notice.data, _Bye)
        except msgspec.ValidationError as error:
            raise BadAnswer(f"not a {BYE}: {error}") from error
        return None if bye.reconnect else StreamClosed(bye.reason, cursor=self.cursor)

    def _take_entry(self, message: SseMessage) -> EntryReceived | None:
        cursor, last = Cursor.parse(message.id), self.cursor or START
        if cursor <= last:
            return None
        if not self._follows_gap and cursor.seq != last.seq + 1:
            raise StreamTorn(f"{cursor} cannot follow {last}")
        raw = message.data.encode()
        entry = EntryReceived(cursor, decode_event(raw), raw)
        self.cursor = cursor
        self._follows_gap = False
        self.is_over = entry.is_terminal
        return entry

    def _take_gap(self, message: SseMessage) -> GapReceived:
        cursor = Cursor.parse(message.id)
        gap = msgspec.json.decode(message.data, type=_GapRange)
        self.cursor = cursor
        self._follows_gap = True
        return GapReceived(gap.reason, cursor, gap.from_, gap.to)
