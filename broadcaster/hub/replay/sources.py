"""Where the viewers and the live group of one room and one dialect read frames.

Rules
1. In a stateless dialect a piece of the stream is encoded alone: a segment makes the chunk, and remembers it for all
   viewers at the same place (``EntryFrames``).
2. In every other dialect one transcript goes through the stream for all viewers (``Replay``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, TypeAlias

from broadcaster.core.notices import Gap
from broadcaster.core.sse import http_chunk
from broadcaster.dialects import Dialect, Transcript
from broadcaster.dialects.writing import Chunker
from broadcaster.hub.frames import Stretch
from broadcaster.hub.pages import PageReader
from broadcaster.hub.ring import Segment

if TYPE_CHECKING:
    from broadcaster.hub.replay.replay import Replay
    from broadcaster.hub.room import Room


Chunk: TypeAlias = tuple[bytes, int]
"""Frames as the driver writes them, and the seq of their last entry. A plain tuple: one is made for every pull."""


class FrameSource(Protocol):
    """One room's stream in one dialect. ``users`` is how many viewers read here; ``blank`` has encoded nothing."""

    dialect: Dialect
    blank: Transcript
    users: int

    @property
    def replay(self) -> Replay | None:
        """Makes snapshots and finds numbered events; None: the dialect is stateless."""

    def read(self, viewer: PageReader, after_seq: int, *, for_http: bool) -> Chunk | Stretch | Replay | None:
        """The frames after this seq; a Replay: the viewer continues there; None: the viewer is woken, or stopped."""

    @property
    def chunk_next(self) -> Chunker:
        """Encodes events that come next, and that nothing but the live group will read. None: see ``read_live``."""

    def read_live(self, segment: Segment, after_seq: int, *, is_kept: bool) -> Chunk | None:
        """The frames after this seq, which ``segment`` holds, as one HTTP chunk for the live group.

        ``is_kept``: other viewers will read the same frames. None: each member must read them by itself.
        """

    def reach_end(self, viewer: PageReader) -> bool:
        """Whether a live group may begin at the room's end; else ``viewer`` is woken when it may."""

    def last_number_at(self, seq: int) -> int:
        """The number of the newest event up to here, as far as it is known; -1 where events have no numbers."""


class EntryFrames:
    """Rule 1; a ``FrameSource``."""

    __slots__ = ("_room", "blank", "chunk_next", "dialect", "users")

    def __init__(self, room: Room, dialect: Dialect, chunk: Chunker) -> None:
        self.dialect = dialect
        self.blank = dialect.open(room.public_id)
        self.users = 0
        self.chunk_next = chunk
        self._room = room

    @property
    def replay(self) -> None:
        """See FrameSource."""
        return None

    def read(self, viewer: PageReader, after_seq: int, *, for_http: bool) -> Chunk | None:
        """See FrameSource."""
        found = self._room.find_or_request(viewer, after_seq + 1)
        if isinstance(found, Segment):
            chunk = self._room.chunk(found, self.blank, after_seq=after_seq, for_http=for_http)
            return chunk, found.last_seq
        return None if found is None else self._gap(found, for_http=for_http)

    def read_live(self, segment: Segment, after_seq: int, *, is_kept: bool) -> Chunk:
        """See FrameSource."""
        if is_kept:
            chunk = self._room.chunk(segment, self.blank, after_seq=after_seq, for_http=True)
        else:
            # The segment does not remember it.
            frames = self.blank.encode(segment.entries[after_seq + 1 - segment.first_seq :])
            chunk = http_chunk(frames) if frames else frames
        return chunk, segment.last_seq

    def reach_end(self, viewer: PageReader) -> bool:
        """See FrameSource."""
        return True

    def last_number_at(self, seq: int) -> int:
        """See FrameSource."""
        return -1

    def _gap(self, gap: Gap, *, for_http: bool) -> Chunk:
        frames = self.blank.gap(gap) or b""
        return http_chunk(frames) if frames and for_http else frames, gap.last_seq
