"""Reading a Durable Stream from the log: one bounded piece behind an offset.

Rules
1. An offset must name an entry that the log holds: behind one that is gone, or of an earlier stream of the same name,
   a reader would miss content without noticing it (410). The beginning of a Durable Stream must still be there, too;
   that of a feed that trims is what it has left.
2. A piece ends at the end of the log, or once it has ``PIECE_BYTES``.
3. Whether the stream is closed is read from its entries, not from its meta, which may be newer or older than they are.
4. Nothing is missing within a piece. Between two pages the log may be trimmed, or expire: the piece ends before the
   hole, and the read that follows it meets rule 1.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import takewhile
from typing import Final

from broadcaster.core.cursor import START, Cursor
from broadcaster.core.entry import Entry
from broadcaster.core.events import ATTEMPT_PREFIX
from broadcaster.dialects.durable.contents import DurableContent, decode_event, join_contents
from broadcaster.dialects.durable.offsets import LivePlace
from broadcaster.errors import InvalidInput, UnknownStream
from broadcaster.log.streams.reader import Meta
from broadcaster.web.guards.json_ledger import FIRST_ENTRIES
from broadcaster.web.routes.durable.responses import content_of
from broadcaster.web.services import Services

PIECE_BYTES: Final = 2**20
_FIRST_PAGE: Final = 32
_LARGEST_PAGE: Final = 1000


class OffsetGone(InvalidInput, code="offset_gone", status=410):
    """The log no longer holds the entry that an offset names, or never did."""


@dataclass(slots=True)
class DurablePiece:
    """What a read found. ``next``: the offset behind its content; ``seen``: the last entry that was read."""

    content: DurableContent
    next: Cursor
    seen: Cursor
    pieces: list[bytes] = field(default_factory=list)
    is_at_end: bool = False
    is_closed: bool = False

    @property
    def body(self) -> bytes:
        """The content as the response has it."""
        return join_contents(self.pieces, self.content)

    def is_followed_by(self, entry: Entry) -> bool:
        """Whether no entry is missing between the last one that was read and this one."""
        return self.seen == START or entry.seq == self.seen.seq + 1

    def take(self, entry: Entry) -> int:
        """One more entry; returns the bytes of its content."""
        self.seen = entry.cursor
        self.is_closed = self.is_closed or entry.is_terminal
        piece = decode_event(entry.event, self.content)
        if piece is None:
            return 0
        self.pieces.append(piece)
        self.next = entry.cursor
        return len(piece)


async def read_piece(services: Services, meta: Meta, after: Cursor) -> DurablePiece:
    """The content behind an offset. Raises OffsetGone, and UnknownStream when only the end of the stream is left."""
    piece = DurablePiece(content_of(meta), next=after, seen=after)
    inclusive = after if after == START else Cursor(after.epoch, after.seq - 1)  # rule 1
    size, count, is_first = 0, _FIRST_PAGE, True
    while size < PIECE_BYTES and not piece.is_at_end:
        entries = await services.reader.read(meta.id, after=inclusive if is_first else piece.seen, count=count)
        is_last = len(entries) < count
        if is_first:
            await _check_place(services, meta, entries, after=after)
            is_first = False
            if after != START:
                piece.is_closed = entries.pop(0).is_terminal  # of a stream whose end is a message itself
        size += sum(map(piece.take, takewhile(piece.is_followed_by, entries)))
        if entries and piece.seen != entries[-1].cursor:  # rule 4
            break
        piece.is_at_end = is_last
        average = max(1, size // max(1, len(piece.pieces)))
        count = max(1, min(_LARGEST_PAGE, (PIECE_BYTES - size) // average + 1))
    is_long = piece.seen.seq - after.seq >= FIRST_ENTRIES
    if is_long and piece.is_at_end and not piece.is_closed and await services.streams.first(meta.id) is None:
        piece.is_at_end = False  # the log has expired between two pages, and took its newest entries with it (rule 4)
    return piece


async def find_place(services: Services, meta: Meta, place: Cursor | LivePlace) -> DurablePiece:
    """An empty piece at this place, for a response that sends only what follows. Raises as `read_piece`."""
    content = content_of(meta)
    if isinstance(place, LivePlace):
        if meta.durable is not None:
            at = meta.durable.tail
        else:
            (tail,) = await services.streams.tails([meta.id])
            at = tail.last or START
        return DurablePiece(content, next=at, seen=at, is_at_end=True, is_closed=meta.is_over)
    before = START if place == START else Cursor(place.epoch, place.seq - 1)
    await _check_place(services, meta, await services.reader.read(meta.id, after=before, count=1), after=place)
    return DurablePiece(content, next=place, seen=place)


async def _check_place(services: Services, meta: Meta, entries: list[Entry], *, after: Cursor) -> None:
    """Rule 1: ``entries`` were read from ``after`` on, inclusive. Raises OffsetGone, UnknownStream."""
    first = entries[0].cursor if entries else None
    if first is not None and first == meta.terminal_id and first.seq > 1 and after != first:
        if await services.streams.first(meta.id) is None:
            raise UnknownStream("the stream has expired")
    if after not in (START, first):
        raise OffsetGone("the stream does not hold this offset (any more); read from -1")
    if after == START and meta.durable is not None and not _has_beginning(entries, tail=meta.durable.tail):
        await services.feeds.get(meta.public_id, tenant=meta.tenant)  # it may have expired since its meta was read
        raise OffsetGone("the stream has lost its beginning; follow it from now, or delete it")


def _has_beginning(entries: list[Entry], *, tail: Cursor) -> bool:
    """Whether a Durable Stream begins with these: at 1, or with the `attempt` of a creation over a deleted one."""
    if not entries:
        return tail == START
    return entries[0].seq == 1 or entries[0].event.startswith(ATTEMPT_PREFIX)
