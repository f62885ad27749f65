"""Offsets: opaque, sortable by their bytes, and one for each entry of a stream.

An offset is a cursor (core/cursor.py) with its halves in the order that makes texts sort as positions do: the seq of
the last entry read, then its epoch, each with 20 digits. ``-1`` is the beginning and ``now`` the tail.
"""

from __future__ import annotations

import re
from enum import Enum
from typing import Final

from broadcaster.core.cursor import MAX_HALF, START, Cursor
from broadcaster.errors import InvalidInput

_OFFSET: Final = re.compile(r"([0-9]{20})_([0-9]{20})", re.ASCII)
_BEGINNING: Final = "-1"


class LivePlace(Enum):
    """A place that is found when it is read."""

    NOW = "now"


def format_offset(cursor: Cursor) -> str:
    """The offset behind this entry."""
    return f"{cursor.seq:020d}_{cursor.epoch:020d}"


def parse_offset(text: str) -> Cursor | LivePlace:
    """The entry behind which an offset stands; START for the beginning. Raises InvalidInput."""
    if text == _BEGINNING:
        return START
    if text == LivePlace.NOW.value:
        return LivePlace.NOW
    match = _OFFSET.fullmatch(text)
    if match is None or max(int(match[1]), int(match[2])) > MAX_HALF:
        raise InvalidInput("offset: send -1, now, or a Stream-Next-Offset that this server gave")
    seq, epoch = int(match[1]), int(match[2])
    return Cursor(epoch, seq) if seq else START
