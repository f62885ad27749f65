"""Frames of ``live=sse``: a ``data`` event for what has come, and a ``control`` event for where the client stands.

Rules
1. A data event holds whole entries, and the control event after it names the last of them: a client that reconnects
   there misses nothing.
2. Server-sent events are text. An entry of a ``text/*`` stream that ends within a character waits for the rest, which
   the next entry brings; no more waits than ``MOST_HELD`` entries and ``MOST_HELD_BYTES``. Bytes that are not UTF-8
   become U+FFFD, and a CR arrives as LF. A read without ``live`` is exact.
3. ``upToDate`` says that nothing is left to send now, and ``streamClosed`` that nothing will ever follow.
4. Many clients are sent the same pieces. The data event of a piece is made once (`read_chunk`), and every response adds
   its own control event.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from functools import lru_cache
from typing import Final, NamedTuple

import msgspec

from broadcaster.core.cursor import START, Cursor
from broadcaster.core.events import TERMINAL_PREFIXES
from broadcaster.core.sse import LINE_END, SseDecoder, encode_comment
from broadcaster.dialects.durable.contents import DurableContent, decode_event, join_contents
from broadcaster.dialects.durable.offsets import format_offset

HEARTBEAT: Final = encode_comment()
# A program that cuts text without regard to its characters cuts between two of them at least every third time or so.
MOST_HELD: Final = 64
MOST_HELD_BYTES: Final = 256 * 2**10
# Pieces of at most 64 KiB. A stream with MAX_EVENTS entries has 200, and readers begin within some of them.
KEPT_CHUNKS: Final = 512
# UTF-8: a lead byte announces how many bytes its character has.
_LEADS: Final = ((0xE0, 0xC0, 2), (0xF0, 0xE0, 3), (0xF8, 0xF0, 4))


class SharedData(NamedTuple):
    """A data event, and the last entry in it."""

    frame: bytes
    last: Cursor


@lru_cache(maxsize=KEPT_CHUNKS)
def read_chunk(chunk: bytes, content: DurableContent) -> SharedData | None:
    """The data event of native frames; None where a response must read entry by entry.

    That is so where the chunk cuts a frame, has a notice or the end of the stream, has no content, or ends within a
    character.
    """
    if not (chunk.startswith(b"id: ") and chunk.endswith(b"\n\n")):
        return None
    pieces: list[bytes] = []
    last = START
    for message in SseDecoder().decode(chunk):
        event = message.data.encode()
        if message.event != "message" or not message.id or event.startswith(TERMINAL_PREFIXES):
            return None
        piece = decode_event(event, content)
        if piece is not None:
            pieces.append(piece)
            last = Cursor.parse(message.id)
    if not pieces or (content is DurableContent.TEXT and _is_within_character(pieces[-4:])):
        return None
    return SharedData(_frame(b"data", _text(pieces, content)), last)


class DurableFrames:
    """The frames of one response. ``add`` what has come, in order, then ``take``."""

    def __init__(self, content: DurableContent, *, at: Cursor, cursor: str) -> None:
        """``at``: the entry behind which the client stands. ``cursor``: of every control event."""
        self._content = content
        self._cursor = cursor
        self._at = at
        self._waiting: list[tuple[Cursor, bytes]] = []
        self._knows_end = False  # the client knows that it is up to date
        self._needs_control = False  # after a data event that was taken by itself
        self.is_closed = False
        """The control event with ``streamClosed`` was taken."""

    @property
    def has_begun(self) -> bool:
        """Whether the client has seen content, or is about to."""
        return self._at != START or bool(self._waiting)

    def add(self, cursor: Cursor, event: bytes) -> None:
        """The next entry."""
        piece = decode_event(event, self._content)
        if piece is not None:
            self._waiting.append((cursor, piece))

    def take_chunk(self, chunk: bytes) -> bytes:
        """The data event of native frames (rule 4), for the next ``take`` to follow; ``b""``: ``add`` its entries."""
        data = None if self._waiting or self._needs_control else read_chunk(chunk, self._content)
        if data is None:
            return b""
        self._at, self._knows_end, self._needs_control = data.last, False, True
        return data.frame

    def take(self, *, is_at_end: bool, is_closed: bool) -> bytes:
        """The frames of what was added; ``is_at_end``: the stream holds no more. ``b""``: nothing has changed."""
        ready = self._ready(is_closed=is_closed)
        is_new = ready or self._needs_control or is_closed or (is_at_end and not self._knows_end)
        if self.is_closed or not is_new:
            return b""
        frames = b""
        if ready:
            frames = self._control() if self._needs_control else b""
            self._at = ready[-1][0]
            frames += _frame(b"data", _text([piece for _, piece in ready], self._content))
        self._needs_control = False
        self._knows_end, self.is_closed = is_at_end or is_closed, is_closed
        return frames + self._control()

    def _ready(self, *, is_closed: bool) -> Sequence[tuple[Cursor, bytes]]:
        """Rule 2; what is not ready stays."""
        is_cut = self._content is DurableContent.TEXT and not is_closed
        count = self._count_whole() if is_cut else len(self._waiting)
        ready, self._waiting = self._waiting[:count], self._waiting[count:]
        return ready

    def _count_whole(self) -> int:
        """How many of the waiting entries end where a character ends; all of them if too much would be held."""
        everything, held_bytes = len(self._waiting), 0
        for count in range(everything, 0, -1):
            if not self._is_torn(count):
                return count
            held_bytes += len(self._waiting[count - 1][1])
            if everything - count >= MOST_HELD or held_bytes > MOST_HELD_BYTES:
                return everything
        return 0

    def _is_torn(self, count: int) -> bool:
        """Whether the last of so many waiting entries ends within a character, which the next entry may complete."""
        if count < len(self._waiting) and not _continues(self._waiting[count][1][0]):
            return False
        return _is_within_character([piece for _, piece in self._waiting[max(0, count - 4) : count]])

    def _control(self) -> bytes:
        fields: dict[str, str | bool] = {"streamNextOffset": format_offset(self._at)}
        if not self.is_closed:
            fields["streamCursor"] = self._cursor
        if self._knows_end:
            fields["upToDate"] = True
        if self.is_closed:
            fields["streamClosed"] = True
        return _frame(b"control", msgspec.json.encode(fields))


def _is_within_character(pieces: Sequence[bytes]) -> bool:
    """Whether the last of these ends within a character."""
    end = b"".join(piece[-3:] for piece in pieces)[-3:]
    for length in range(1, len(end) + 1):
        byte = end[-length]
        if not _continues(byte):
            return any(byte & mask == lead and length < size for mask, lead, size in _LEADS)
    return False


def _text(pieces: Sequence[bytes], content: DurableContent) -> bytes:
    joined = join_contents(pieces, content)
    if content is DurableContent.BYTES:
        return base64.b64encode(joined)
    return joined.decode(errors="replace").encode() if content is DurableContent.TEXT else joined


def _continues(byte: int) -> bool:
    """Whether it is a byte within a character of UTF-8."""
    return byte & 0xC0 == 0x80


def _frame(event: bytes, data: bytes) -> bytes:
    """One event. The protocol's servers write no space after ``data:``, and some clients search for that.

    A client drops one space there, so a line that begins with a space has another one before it.
    """
    lines = (b"data:%b%b\n" % (b" " if line.startswith(b" ") else b"", line) for line in LINE_END.split(data))
    return b"event: %b\n%b\n" % (event, b"".join(lines))
