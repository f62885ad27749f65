"""The events of a feed that has one writer, kept by it: what Redis loses is written again.

Rules
1. Consecutive deltas of one part are kept as one, which is no larger than the settings may allow an event to be. So an
   answer takes little more memory than its text.
2. Beyond MOST_BYTES nothing is kept any more.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from msgspec.structs import replace

from broadcaster.core.events import ReasoningDelta, TextDelta, encode_event, read_event
from broadcaster.core.requests.publishing import MAX_EVENTS_PER_APPEND

MOST_BYTES: Final = 8 * 2**20
# The least that ``MAX_EVENT_BYTES`` may be.
_JOINED_BYTES: Final = 1024
_BATCH_BYTES: Final = 512 * 2**10
_DELTA_PREFIXES: Final = (b'{"type":"text-delta"', b'{"type":"reasoning-delta"')
# Of each delta beside its text, at least.
_ENVELOPE_BYTES: Final = len(encode_event(TextDelta(id="", delta="")))


class KeptEvents:
    """Add each event once it is in the log."""

    def __init__(self) -> None:
        self.is_whole = True
        """Whether all of them are here (rule 2)."""
        self._raws: list[bytes] = []
        self._bytes = 0
        self._joined: list[TextDelta | ReasoningDelta] = []
        self._joined_bytes = 0

    def add(self, raws: Sequence[bytes]) -> None:
        """These are in the log."""
        for raw in raws:
            event = read_event(raw) if raw.startswith(_DELTA_PREFIXES) else None
            if isinstance(event, TextDelta | ReasoningDelta) and event.provider_metadata is None:
                self._join(event, len(raw))
            else:
                self._end_joined()
                self._keep(raw)
        self.is_whole = self.is_whole and self._bytes + self._joined_bytes <= MOST_BYTES
        if not self.is_whole:
            self._raws.clear()
            self._joined.clear()

    def batches(self) -> Iterator[list[bytes]]:
        """All of them, in the batches in which a feed takes them."""
        self._end_joined()
        batch: list[bytes] = []
        size = 0
        for raw in self._raws:
            size += len(raw)
            if batch and (size > _BATCH_BYTES or len(batch) == MAX_EVENTS_PER_APPEND):
                yield batch
                batch, size = [], len(raw)
            batch.append(raw)
        if batch:
            yield batch

    def _join(self, event: TextDelta | ReasoningDelta, size: int) -> None:
        """Rule 1."""
        added = size - _ENVELOPE_BYTES
        if self._joined:
            part = self._joined[0]
            is_same = type(part) is type(event) and part.id == event.id
            if not is_same or self._joined_bytes + added > _JOINED_BYTES:
                self._end_joined()
        self._joined_bytes += added if self._joined else size
        self._joined.append(event)

    def _end_joined(self) -> None:
        if self._joined:
            text = "".join(each.delta for each in self._joined)
            self._keep(encode_event(replace(self._joined[0], delta=text)))
            self._joined = []
            self._joined_bytes = 0

    def _keep(self, raw: bytes) -> None:
        self._raws.append(raw)
        self._bytes += len(raw)
