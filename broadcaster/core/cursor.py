"""The cursor: "seen up to and including", as opaque text ``<epoch>-<seq>``.

It is the id of an entry in the log, the SSE ``id`` of its frame, and comes back as ``Last-Event-ID``.

Rules
1. Both halves are decimal, without sign or leading zero, and fit 64 bits unsigned (Redis stream ids do).
2. The whole is at most 128 bytes of ``[0-9-]``: longer or other bytes cost a browser a CORS preflight on every
   reconnect (WPT eventsource/format-field-id, fetch "CORS-safelisted request-header").
3. ``seq`` 0 means "nothing seen in this epoch"; ``START`` (0-0) means "nothing seen at all".
4. Cursors order by epoch, then by seq, as Redis orders entry ids.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from broadcaster.errors import BadCursor

MAX_CURSOR_BYTES: Final = 128
MAX_HALF: Final = 2**64 - 1

_GRAMMAR: Final = re.compile(r"(0|[1-9][0-9]{0,19})-(0|[1-9][0-9]{0,19})", re.ASCII)


class Cursor(NamedTuple):
    """Epoch (fencing token of the attempt that wrote the entry) and seq (dense, from 1) of the last entry seen."""

    epoch: int
    seq: int

    def __str__(self) -> str:
        return f"{self.epoch}-{self.seq}"

    @classmethod
    def parse(cls, text: str) -> Cursor:
        """Read a cursor strictly.

        Raises BadCursor when it is (1) over 128 bytes, (2) not ``<digits>-<digits>`` without leading zeros,
        (3) a half over 64 bits.
        """
        if len(text) > MAX_CURSOR_BYTES:
            raise BadCursor(f"a cursor has at most {MAX_CURSOR_BYTES} bytes")
        match = _GRAMMAR.fullmatch(text)
        if match is None:
            raise BadCursor("a cursor is <epoch>-<seq>, two decimal numbers without leading zeros")
        epoch, seq = int(match[1]), int(match[2])
        if epoch > MAX_HALF or seq > MAX_HALF:
            raise BadCursor("the halves of a cursor are 64-bit numbers")
        return cls(epoch, seq)


START: Final = Cursor(0, 0)
