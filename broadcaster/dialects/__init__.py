"""Dialects: the stream shapes that providers and clients speak, one file each, pure.

Decoders turn a provider's bytes into our events; a ``Dialect`` turns a stream of ours into a client's frames.

Rules
1. ``native`` needs nothing but the entry to make its frame (``Encoder``): any piece of a stream is encoded alone.
2. All others must know what came before: a ``Transcript`` reads a stream from its first entry on and says each in turn.
   What it says depends on the entries and the dialect's options alone, so that all front-ends and all viewers of
   equal dialects are told the same, byte for byte.
3. A late joiner need not hear it all: ``prelude`` is the shortest opening after which a client stands where it would
   stand had it heard everything.
4. ``DIALECTS`` is the table of what a viewer may ask for by name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Final, Protocol, TypeAlias, runtime_checkable

from broadcaster.core.entry import Entry
from broadcaster.core.notices import Gap, StallReason
from broadcaster.dialects.ag_ui import AgUiDialect
from broadcaster.dialects.ai_sdk import AiSdkDialect
from broadcaster.dialects.anthropic_encode import AnthropicDialect
from broadcaster.dialects.delta import DeltaDialect
from broadcaster.dialects.named import NamedDialect
from broadcaster.dialects.native import NATIVE, NativeEncoder
from broadcaster.dialects.native_snapshot import NATIVE_SNAPSHOT
from broadcaster.dialects.openai_chat_encode import ChatDialect
from broadcaster.dialects.openai_responses_encode import RESPONSES
from broadcaster.dialects.parts import PartsDialect

__all__ = ["DIALECTS", "NATIVE", "NATIVE_SNAPSHOT", "AnyDialect", "Dialect", "Encoder", "NativeEncoder", "Transcript"]


class Encoder(Protocol):
    """Entries and the hub's notices → frames that need nothing of what came before (rule 1): ``native``.

    Frames are shared by all viewers whose encoders are equal. A notice that it cannot say is ``b""``.
    """

    @property
    def name(self) -> str:
        """The dialect's name in ``DIALECTS``."""

    @property
    def heartbeat(self) -> bytes:
        """What keeps a quiet connection open."""

    def frame(self, entry: Entry) -> bytes: ...

    def hello(self, stream_id: str, *, status: str, retry_ms: int) -> bytes: ...

    def live(self) -> bytes: ...

    def gap(self, gap: Gap) -> bytes: ...

    def stalled(self, reason: StallReason | None) -> bytes: ...

    def bye(self, reason: str, *, reconnect: bool, retry_ms: int) -> bytes: ...


@runtime_checkable
class Dialect(Protocol):
    """A dialect with its options. Hashes and equals by them: frames are shared by all viewers of equal ones."""

    @property
    def name(self) -> str:
        """The dialect's name in ``DIALECTS``."""

    @property
    def heartbeat(self) -> bytes:
        """A whole block that keeps a quiet connection open and that no client takes for anything."""

    def open(self, stream_id: str) -> Transcript:
        """A transcript of this stream that has heard nothing yet."""


class Transcript(Protocol):
    """One stream in one dialect, heard from its first entry on (rule 2)."""

    def encode(self, entries: Sequence[Entry]) -> bytes:
        """The frames of the next entries, dense and in order; ``b""`` when the dialect says nothing of them.

        A terminal entry's frames end with whatever the dialect ends with (``data: [DONE]``, …): the connection is
        closed after them. Nothing is said of what follows it.
        """

    @property
    def breaks_off(self) -> bool:
        """Whether the entry encoded last is a new attempt that ends the response of every client before it.

        Such a dialect cannot take back what the attempt before has sent, and its frames of that entry are an error.
        The transcript itself goes on: a client that comes later receives the new attempt alone.
        """

    def prelude(self) -> bytes:
        """The opening for a client that has heard nothing: everything that was encoded so far, folded (rule 3).

        ``b""`` when there is nothing to say yet. Not asked for once the terminal entry was encoded.
        """

    def fork(self) -> Transcript:
        """Another one that stands where this one stands; from here on they know nothing of each other."""

    def hello(self, *, status: str, retry_ms: int) -> bytes:
        """The first bytes of every response, before anything else; ``b""`` where the dialect has none.

        ``status``: how the stream stands (queued, running, …).
        """

    def gap(self, gap: Gap) -> bytes | None:
        """Entries are missing before the next one. None: the dialect cannot go on after that, its viewer is ended.

        Otherwise what follows must be something its client can read: parts whose start is missing are opened.
        """

    def discard(self, gap: Gap) -> bytes:
        """What makes a client drop everything it was sent, because ``gap`` voids it; the prelude follows.

        It is what the dialect says at a new attempt. Where the dialect has ids, the last block's id is empty, so that
        an EventSource does not reconnect with an id that is void. ``b""`` where the prelude begins with such a message.
        """

    def stalled(self, reason: StallReason | None) -> bytes:
        """Why nothing new comes; None: it moves again. ``b""`` where the dialect has no place for that."""

    @property
    def last_number(self) -> int:
        """Of a dialect that numbers its events: no event so far has a higher number, every later one has. Else -1."""

    def frames_after(self, frames: bytes, number: int) -> bytes:
        """Of frames of this dialect, those of the events with higher numbers; all where events have no numbers."""

    def bye(self, reason: str, *, reconnect: bool, last_number: int | None = None) -> bytes:
        """The last block of a response that ends before its stream does: the dialect's error, never a clean end.

        ``reason`` is a code of ``hub.stop_reasons``, or ``expired``; with ``reconnect`` the same request may be sent
        again. ``last_number`` is the newest event's that the client was sent; None: the one of the newest encoded here.
        """


AnyDialect: TypeAlias = Encoder | Dialect

_SERVED: Final[tuple[AnyDialect, ...]] = (
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

DIALECTS: Final[Mapping[str, AnyDialect]] = MappingProxyType({each.name: each for each in _SERVED})
"""Name → the dialect as ``GET /v1/streams/{id}/events?dialect=`` serves it."""
