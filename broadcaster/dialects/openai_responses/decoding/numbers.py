"""The sequence numbers of a Responses stream, and which of them are reliable.

Rules
1. On the proper wire they rise by one with every event, keepalives included. A hole means that something of the answer
   is missing: bad data.
2. A number that does not rise is a double if its event is one of the last, byte for byte. On any other event it shows
   that the server does not number as it should (LiteLLM writes 1 on every finished item). From there on numbers are
   ignored: dropping events by them would lose the answer.
3. Absent numbers are ignored too, and a hole beside one does not count.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from broadcaster.dialects.errors import BAD_DATA

DOUBLES_KEPT: Final = 64
"""How many of the last events are kept to detect doubles: more than a gateway repeats after a reconnect."""


class Numbers:
    """Call ``is_double`` for every event, in order. Only hashes of events are kept, because one may hold an image."""

    def __init__(self) -> None:
        self._last: int | None = None
        self._are_kept = True
        self._recent: deque[int] = deque(maxlen=DOUBLES_KEPT)

    def is_double(self, number: int | None, data: str) -> bool:
        """Whether this event came before. Raises ProviderFailed when one before it is missing."""
        if number is None or not self._are_kept:
            self._last = None
            return False
        if self._last is not None and number != self._last + 1:
            if number > self._last:
                raise BAD_DATA.failure(detail="a hole in the sequence numbers")
            if hash(data) in self._recent:
                return True
            self._are_kept = False
        self._last = number
        self._recent.append(hash(data))
        return False
