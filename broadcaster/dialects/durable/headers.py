"""The headers of requests: text → values. Every function raises InvalidInput, whose text names the header."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Final, NamedTuple

from broadcaster.errors import InvalidInput

MAX_SAFE_INTEGER: Final = 2**53 - 1
"""What JavaScript can count up to."""
MAX_PRODUCER_ID_CHARS: Final = 128
MAX_STREAM_SEQ_CHARS: Final = 256
MAX_CONTENT_TYPE_CHARS: Final = 255
DEFAULT_CONTENT_TYPE: Final = "application/octet-stream"

EXPOSED_HEADERS: Final = (
    *("stream-next-offset", "stream-up-to-date", "stream-closed", "stream-cursor", "stream-ttl", "stream-expires-at"),
    *("stream-sse-data-encoding", "producer-epoch", "producer-seq", "producer-expected-seq", "producer-received-seq"),
)
"""Headers of responses that a page of another origin must be able to read."""

_WHOLE: Final = re.compile(r"0|[1-9][0-9]{0,15}", re.ASCII)
_TOKEN: Final = r"[A-Za-z0-9!#$%&'*+.^_`|~-]+"
_MEDIA_TYPE: Final = re.compile(rf"({_TOKEN}/{_TOKEN})[ \t]*(;[\x20-\x7e]*)?", re.ASCII)
_PRINTABLE: Final = re.compile(r"[\x20-\x7e]+", re.ASCII)
_RFC3339: Final = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,9})?([Zz]|[+-][0-9]{2}:[0-9]{2})", re.ASCII
)
_PRODUCER: Final = ("producer-id", "producer-epoch", "producer-seq")


class Producer(NamedTuple):
    """An idempotent producer: who it claims to be, its session, and the number of this request in it."""

    id: str
    epoch: int
    seq: int


class Expiry(NamedTuple):
    """``ttl_s`` after the last read or write, or at ``at_ms`` (``at`` as it was sent); neither: by the settings."""

    ttl_s: int | None = None
    at: str | None = None
    at_ms: int | None = None


def id_of_path(path: str) -> str:
    """The id of the stream at this path below ``/ds/``: ids hold no slash, so ``chats/1`` is the stream ``chats:1``."""
    return path.replace("/", ":")


def is_closing(headers: Mapping[str, str]) -> bool:
    """Whether ``Stream-Closed`` is true; any other value counts as none."""
    return headers.get("stream-closed", "").lower() == "true"


def media_type_of(content_type: str) -> str:
    """The media type without its parameters, in lower case: two content types match when these are equal."""
    match = _MEDIA_TYPE.fullmatch(content_type.strip())
    if match is None or len(content_type) > MAX_CONTENT_TYPE_CHARS:
        raise InvalidInput(
            f"Content-Type: a media type such as text/plain, at most {MAX_CONTENT_TYPE_CHARS} characters"
        )
    return match[1].lower()


def read_producer(headers: Mapping[str, str]) -> Producer | None:
    """The producer; None: the request names none."""
    given = [headers.get(name) for name in _PRODUCER]
    if given == [None, None, None]:
        return None
    id, epoch, seq = given
    if id is None or epoch is None or seq is None:
        raise InvalidInput("send Producer-Id, Producer-Epoch and Producer-Seq together, or none of them")
    if _PRINTABLE.fullmatch(id) is None or len(id) > MAX_PRODUCER_ID_CHARS:
        raise InvalidInput(f"Producer-Id: 1 to {MAX_PRODUCER_ID_CHARS} printable ASCII characters")
    return Producer(id, _whole(epoch, "Producer-Epoch"), _whole(seq, "Producer-Seq"))


def read_stream_seq(headers: Mapping[str, str]) -> str:
    """``Stream-Seq``; empty: the request has none."""
    given = headers.get("stream-seq", "")
    if given and (_PRINTABLE.fullmatch(given) is None or len(given) > MAX_STREAM_SEQ_CHARS):
        raise InvalidInput(f"Stream-Seq: 1 to {MAX_STREAM_SEQ_CHARS} printable ASCII characters")
    return given


def read_expiry(headers: Mapping[str, str], *, longest_s: int, now_ms: int) -> Expiry:
    """``Stream-TTL`` or ``Stream-Expires-At``, at most ``longest_s`` from now."""
    ttl, at = headers.get("stream-ttl"), headers.get("stream-expires-at")
    if ttl is not None and at is not None:
        raise InvalidInput("send Stream-TTL or Stream-Expires-At, not both")
    if ttl is not None:
        ttl_s = _whole(ttl, "Stream-TTL")
        if not 1 <= ttl_s <= longest_s:
            raise InvalidInput(f"Stream-TTL: 1 to {longest_s} seconds here")
        return Expiry(ttl_s=ttl_s)
    if at is None:
        return Expiry()
    at_ms = _time_ms(at)
    if not now_ms < at_ms <= now_ms + longest_s * 1000:
        raise InvalidInput(f"Stream-Expires-At: a time in the next {longest_s} seconds")
    return Expiry(at=at, at_ms=at_ms)


def read_cursor(text: str | None) -> int | None:
    """The ``cursor`` of a live read; None: the request has none."""
    return None if text is None else _whole(text, "cursor")


def _whole(text: str, name: str) -> int:
    if _WHOLE.fullmatch(text) is None or int(text) > MAX_SAFE_INTEGER:
        raise InvalidInput(f"{name}: a whole number of at most {MAX_SAFE_INTEGER}, without sign and leading zeros")
    return int(text)


def _time_ms(text: str) -> int:
    fault = "Stream-Expires-At: a time as in RFC 3339, such as 2026-11-23T22:15:00Z"
    if _RFC3339.fullmatch(text) is None:
        raise InvalidInput(fault)
    try:
        return int(datetime.fromisoformat(text.upper()).timestamp() * 1000)
    except ValueError as error:
        raise InvalidInput(fault) from error
