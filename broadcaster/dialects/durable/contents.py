"""What a Durable Stream holds: the bytes of an append → events of the log, and events → the same bytes.

Rules
1. ``application/json``: each message is one ``data-json`` event with the message as it was sent, without the white
   space between its tokens. Numbers keep their digits. An array is taken apart once.
2. Any other type: a body is one ``data-text`` or ``data-bytes`` event (base64), or several if it is long. Text is kept
   as text where the type is ``text/*`` and the piece is UTF-8, so that native readers can show it.
3. Events of other types (``attempt``, a terminal event) hold no bytes: a reader skips them.
4. A stream that was not made under this protocol is read as ``application/json``: each event is a message, as it is.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence
from enum import Enum
from typing import Final

import msgspec

JSON_TYPE: Final = "application/json"
PIECE_BYTES: Final = 48 * 2**10
"""As base64 it is 64 KiB: what one push to the front-ends may hold by default."""
_MARKUP_BYTES: Final = 64
"""What an event has beside its content, at most."""

_JSON: Final = b'{"type":"data-json","data":'
_TEXT: Final = b'{"type":"data-text","data":'
_BYTES: Final = b'{"type":"data-bytes","data":"'


class DurableContent(Enum):
    """How the bytes of a stream are kept and sent. ``NATIVE``: events that were not appended under this protocol."""

    JSON = "json"
    TEXT = "text"
    BYTES = "bytes"
    NATIVE = "native"

    @classmethod
    def of(cls, media_type: str) -> DurableContent:
        """Of a media type without parameters."""
        if media_type == JSON_TYPE:
            return cls.JSON
        return cls.TEXT if media_type.startswith("text/") else cls.BYTES

    @property
    def is_json(self) -> bool:
        """Whether a read is an array of messages."""
        return self in (DurableContent.JSON, DurableContent.NATIVE)


def encode_messages(body: bytes) -> list[bytes]:
    """The events of a body that was read as JSON already; none for an empty array."""
    whole = msgspec.json.format(body, indent=-1)
    messages: Sequence[bytes] = [whole]
    if whole.startswith(b"["):
        messages = [bytes(each) for each in msgspec.json.decode(whole, type=list[msgspec.Raw])]
    return [b"%b%b}" % (_JSON, message) for message in messages]


def encode_bytes(body: bytes, content: DurableContent, *, max_event_bytes: int) -> list[bytes]:
    """The events of a body of any other type."""
    size = min(PIECE_BYTES, (max_event_bytes - _MARKUP_BYTES) // 2)
    return [_encode_piece(piece, content) for piece in _pieces(body, size, is_text=content is DurableContent.TEXT)]


def decode_event(event: bytes, content: DurableContent) -> bytes | None:
    """What a reader gets of an event; None: nothing (rule 3)."""
    if content is DurableContent.NATIVE:
        return event
    if event.startswith(_JSON):
        return event[len(_JSON) : -1]
    if event.startswith(_TEXT):
        return msgspec.json.decode(event[len(_TEXT) : -1], type=str).encode()
    if event.startswith(_BYTES):
        return base64.b64decode(event[len(_BYTES) : -2], validate=True)
    return None


def join_contents(pieces: Sequence[bytes], content: DurableContent) -> bytes:
    """The body of a read."""
    return b"[%b]" % b",".join(pieces) if content.is_json else b"".join(pieces)


def format_tag(created_ms: int, start: str, end: str, *, is_closed: bool) -> str:
    """The ``ETag`` of a read: of this creation of the stream, and of whether it is closed."""
    return f'"{created_ms}:{start}:{end}{":c" if is_closed else ""}"'


def _encode_piece(piece: bytes, content: DurableContent) -> bytes:
    if content is DurableContent.TEXT:
        try:
            text = msgspec.json.encode(piece.decode())
        except UnicodeDecodeError:
            pass  # kept as bytes
        else:
            if len(text) <= 2 * len(piece):  # control characters take six bytes each
                return b"%b%b}" % (_TEXT, text)
    return b'%b%b"}' % (_BYTES, base64.b64encode(piece))


def _pieces(body: bytes, size: int, *, is_text: bool) -> Iterator[bytes]:
    begin = 0
    while begin < len(body):
        end = begin + size
        if is_text and end < len(body):
            end = _character_border(body, end)
        yield body[begin:end]
        begin = end


def _character_border(body: bytes, end: int) -> int:
    """The last border of a character at or before ``end``; ``end`` itself where the bytes are not UTF-8."""
    for at in range(end, end - 4, -1):
        if body[at] & 0xC0 != 0x80:
            return at
    return end
