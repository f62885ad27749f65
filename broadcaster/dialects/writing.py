"""What transcripts share: blocks of SSE, the error of a lost attempt, and defaults of the protocol.

Rules of every dialect (measured: some client fails on each violation)
1. LF only; never an empty ``data``; never a block that holds ``retry`` or ``id`` alone.
2. An id, where a dialect has ids, stands on the last block of an entry: a client that has the id has the whole entry.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from broadcaster.core.entry import Entry
from broadcaster.core.events import Attempt
from broadcaster.core.forking import Forkable
from broadcaster.core.notices import Gap, StallReason
from broadcaster.core.sse import encode_frame

__all__ = ["DONE", "NEW_ATTEMPT", "Unannounced", "block", "loss_of"]

DONE: Final = b"data: [DONE]\n\n"

NEW_ATTEMPT: Final = "new_attempt"
"""The code of the error that a new attempt is, in a dialect that cannot take text back."""

_LOST: Final = {
    "worker_lost": "the worker that wrote this answer was lost",
    "provider_lost": "the provider of this answer broke off",
}

_json: Final = msgspec.json.Encoder()


def block(data: Any, *, event: str | None = None, of: Entry | None = None) -> bytes:
    """One block: ``data`` as compact JSON on one line, under an event's name and an entry's id where they are given."""
    return encode_frame(_json.encode(data), event=event, id=None if of is None else f"{of.epoch}-{of.seq}")


def loss_of(attempt: Attempt) -> str:
    """Why a response ends at this attempt, and what its client can do."""
    lost = _LOST.get(attempt.reason, _LOST["worker_lost"])
    return f"{lost} before its end; the text so far is void, and the same request may be sent again"


class Unnumbered(Forkable):
    """Shared by the transcripts that do not number their events and continue after a new attempt."""

    __slots__ = ()

    is_stateless: bool = False
    breaks_off: bool = False

    @property
    def last_number(self) -> int:
        """See Transcript.last_number."""
        return -1

    def live(self) -> bytes:
        """See Transcript.live: nothing."""
        return b""

    def frames_after(self, frames: bytes, number: int) -> bytes:
        """See Transcript.frames_after."""
        return frames


class Unannounced(Unnumbered):
    """Shared by the transcripts of a provider's API, whose wire has no place for the hub's notices."""

    __slots__ = ()

    def hello(self, *, status: str, retry_ms: int) -> bytes:
        """See Transcript.hello: none."""
        return b""

    def gap(self, gap: Gap) -> bytes | None:
        """See Transcript.gap: an incomplete answer cannot be marked, so its viewer is ended."""
        return None

    def stalled(self, reason: StallReason | None) -> bytes:
        """See Transcript.stalled: nothing."""
        return b""
