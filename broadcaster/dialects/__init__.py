"""Dialects: the stream shapes of providers and clients, one folder each, pure.

Decoders turn a provider's bytes into our events; a ``Dialect`` turns a stream of ours into a client's frames.

Rules
1. ``native`` is stateless: an entry alone makes its frame, so any piece of a stream is encoded alone, and nothing that
   was sent prevents a stateless viewer from being moved back.
2. Every other dialect depends on the entries before: a ``Transcript`` encodes a stream from its first entry on. Its
   frames depend on the entries and the dialect's options alone, so that all front-ends send all viewers of equal
   dialects the same bytes.
3. A late joiner receives a snapshot instead of the past: the shortest frames after which its client holds the same
   state as a client that received everything.
4. ``DIALECTS`` is the table of the dialects that a viewer may request by name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Final, Protocol

from broadcaster.core.entry import Entry
from broadcaster.core.notices import Gap, StallReason
from broadcaster.dialects.ag_ui.encode import AgUiDialect
from broadcaster.dialects.ai_sdk.encode import AiSdkDialect
from broadcaster.dialects.anthropic.encode import AnthropicDialect
from broadcaster.dialects.native.encode import NATIVE, NativeEncoder
from broadcaster.dialects.native.messages import MESSAGES, SNAPSHOT_MESSAGES
from broadcaster.dialects.native.snapshot import NATIVE_SNAPSHOT
from broadcaster.dialects.openai_chat.encode import ChatDialect
from broadcaster.dialects.openai_responses.encode import RESPONSES
from broadcaster.dialects.tutorial.delta import DeltaDialect
from broadcaster.dialects.tutorial.named import NamedDialect
from broadcaster.dialects.tutorial.parts import PartsDialect
from broadcaster.dialects.writing import Chunker

__all__ = [
    "DIALECTS",
    "MESSAGES",
    "NATIVE",
    "NATIVE_SNAPSHOT",
    "SNAPSHOT_MESSAGES",
    "Dialect",
    "NativeEncoder",
    "Transcript",
]


class Dialect(Protocol):
    """A dialect with its options. Hashes and equals by them: frames are shared by all viewers of equal ones."""

    @property
    def name(self) -> str:
        """The dialect's name in ``DIALECTS``."""

    @property
    def heartbeat(self) -> bytes:
        """A whole block that keeps a quiet connection open and that every client ignores."""

    def open(self, stream_id: str) -> Transcript:
        """A transcript of this stream that has encoded nothing yet."""


class Transcript(Protocol):
    """One stream in one dialect, encoded from its first entry on (rule 2)."""

    def encode(self, entries: Sequence[Entry]) -> bytes:
        """The frames of the next entries, dense and in order; ``b""`` where the dialect has no frames for them.

        A terminal entry's frames end with whatever the dialect ends with (``data: [DONE]``, …): the connection is
        closed after them. Later entries have no frames.
        """

    @property
    def chunk_alone(self) -> Chunker | None:
        """Encodes events without the ones before them (rule 1); None: the dialect is not stateless."""

    @property
    def breaks_off(self) -> bool:
        """Whether the entry encoded last is a new attempt that ends the response of every client before it.

        Such a dialect cannot take back what the attempt before has sent, and its frames of that entry are an error.
        The transcript itself goes on: a client that comes later receives the new attempt alone.
        """

    def snapshot(self) -> bytes:
        """The frames for a client that has received nothing: everything encoded so far, folded (rule 3).

        ``b""`` while there is no content. Never called after the terminal entry was encoded.
        """

    def fork(self) -> Transcript:
        """An independent copy at the same place."""

    def hello(self, *, status: str, retry_ms: int) -> bytes:
        """The first bytes of every response, before anything else; ``b""`` where the dialect has none.

        ``status``: of the stream (queued, running, …).
        """

    def gap(self, gap: Gap) -> bytes | None:
        """Entries are missing before the next one. None: the dialect cannot continue after that, its viewer is ended.

        Otherwise the client must be able to read what follows: parts whose start is missing are opened.
        """

    def resumes(self, seq: int, gap: Gap) -> bool:
        """Whether a client that holds all entries up to ``seq`` can read what is encoded without those of ``gap``.

        False: what the client holds is void here. So is what ends before the newest attempt that was encoded. Called
        when everything up to ``seq`` was encoded that the log still holds.
        """

    def discard(self, gap: Gap) -> bytes:
        """What makes a client drop everything it was sent, because ``gap`` voids it; the snapshot follows.

        It is the dialect's message of a new attempt. Where the dialect has ids, the last block's id is empty: a client
        does not reconnect with an id that is void. ``b""`` where the snapshot begins with such a message.
        """

    def stalled(self, reason: StallReason | None) -> bytes:
        """Why no entries come; None: they come again. ``b""`` where the dialect has no place for that."""

    def expiring(self, expires_s: float) -> bytes:
        """The response ends at this time (seconds since 1970); ``b""`` where the dialect has no place for that."""

    def live(self) -> bytes:
        """All that the log held was sent, and what follows is new; ``b""`` where the dialect has no place for that."""

    @property
    def last_number(self) -> int:
        """Of a dialect that numbers its events: no event so far has a higher number, every later one has. Else -1."""

    def frames_after(self, frames: bytes, number: int) -> bytes:
        """Of frames of this dialect, those of the events with higher numbers; all where events have no numbers."""

    def bye(self, reason: str, *, reconnect: bool, retry_ms: int, last_number: int | None = None) -> bytes:
        """The last block of a response that ends before its stream does: the dialect's error, never a clean end.

        ``retry_ms`` is the viewer's own pause before it reconnects, where the dialect has a place for that. ``reason``
        is a code of ``hub.stop_reasons``; with ``reconnect`` the same request may be sent again. ``last_number`` is the
        newest event's that the client was sent; None: the one of the newest encoded here.
        """


_SERVED: Final[tuple[Dialect, ...]] = (
    NATIVE,
    AiSdkDialect(ids=True),
    AiSdkDialect(version=7, ids=True),
    ChatDialect(),
    RESPONSES,
    AnthropicDialect(),
    AgUiDialect(ids=True),
    DeltaDialect(ids=True),
    NamedDialect(ids=True),
    PartsDialect(ids=True),
)

DIALECTS: Final[Mapping[str, Dialect]] = MappingProxyType({each.name: each for each in _SERVED})
"""Name → the dialect as ``GET /v1/streams/{id}/events?dialect=`` serves it."""
