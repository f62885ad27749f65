"""The results of an append to a feed, and the errors of refused ones."""

from __future__ import annotations

import math
from enum import IntEnum
from typing import Final

from broadcaster.errors import (
    IdempotencyMismatch,
    InvalidInput,
    RateLimited,
    StreamClosed,
    StreamFull,
    StreamReplaced,
    UnknownStream,
)
from broadcaster.observability.limits import limit_reached

NO_SUCH_FEED: Final = "no feed has this id (or it has expired)"


class AppendCode(IntEnum):
    """The codes of feed_append.lua."""

    APPENDED = 1
    TAKEN = 0
    UNKNOWN = -1
    CLOSED = -2
    FULL = -3
    MISMATCH = -4
    TOO_OFTEN = -5
    REPLACED = -6
    DURABLE = -7
    LOST = -8


class EntriesLost(Exception):
    """Redis has lost entries that the writer knows to have been in the log. Only writers that name one get it."""

    def __init__(self, last_seq: int) -> None:
        super().__init__(f"the log ends at {last_seq} now")
        self.last_seq = last_seq


def raise_refusal(code: AppendCode, *, wait_ms: int, has_many: bool) -> None:
    """Raises the error of a refused append; returns for an accepted one.

    ``has_many``: the feed would hold more events than it may; a full feed has too many bytes otherwise.
    """
    match code:
        case AppendCode.UNKNOWN:
            raise UnknownStream(NO_SUCH_FEED)
        case AppendCode.MISMATCH:
            raise IdempotencyMismatch("this Idempotency-Key was used with another body")
        case AppendCode.CLOSED:
            raise StreamClosed("this feed has ended and takes nothing more: to continue, create another feed")
        case AppendCode.REPLACED:
            raise StreamReplaced("another creation has replaced this feed; nothing more of this writer is stored")
        case AppendCode.DURABLE:
            raise InvalidInput("this is a Durable Stream: append under /ds/, where its bytes stay as they are sent")
        case AppendCode.FULL:
            limit_reached("MAX_EVENTS" if has_many else "MAX_BYTES")
            raise StreamFull("the feed would hold more events or bytes than it may")
        case AppendCode.TOO_OFTEN:
            limit_reached("FEED_APPEND_RATE")
            wait_s = wait_ms / 1000
            raise RateLimited(f"too many appends a second; retry in {math.ceil(wait_s)} s", retry_after_s=wait_s)
