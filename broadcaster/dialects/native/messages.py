"""The dialect ``native`` as messages of a WebSocket: each event is one line of JSON in place of an SSE frame.

    {"id": "<epoch>-<seq>", "data": <event>}
    {"event": "hub.hello", "retry": 1432, "data": {"id": "gen_01", "status": "running"}}

Rules
1. A member stands for the field of that name in the SSE frame, and is absent where the frame has no such field.
2. A line ends with LF, and holds no other. The driver sends each line as one message, without its LF.
3. The heartbeat is an event of its own, ``hub.heartbeat``: a page cannot see the pings of a WebSocket.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from broadcaster.dialects.native.encode import NATIVE, NativeTranscript
from broadcaster.dialects.native.snapshot import FoldingTranscript
from broadcaster.dialects.writing import chunker_of

HEARTBEAT: Final = "hub.heartbeat"

_json: Final = msgspec.json.Encoder()


def entry_line(epoch: int, seq: int, event: bytes) -> bytes:
    """The entry's line. A line break in the event stands between values, as JSON has it: it becomes a space."""
    if b"\n" in event or b"\r" in event:
        event = event.replace(b"\n", b" ").replace(b"\r", b" ")
    return b'{"id":"%d-%d","data":%b}\n' % (epoch, seq, event)


def notice_line(data: Any, *, event: str | None = None, id: str | None = None, retry_ms: int | None = None) -> bytes:
    """The line of a notice (rule 1)."""
    fields = {"event": event, "id": id, "retry": retry_ms}
    present = {name: value for name, value in fields.items() if value is not None}
    return _json.encode({**present, "data": data}) + b"\n"


class MessageTranscript(NativeTranscript):
    """See Transcript."""

    __slots__ = ()

    chunk_alone = staticmethod(chunker_of(entry_line))
    _frame = staticmethod(entry_line)
    _block = staticmethod(notice_line)


class FoldingMessages(FoldingTranscript):
    """The same with one snapshot in place of the past."""

    __slots__ = ()

    _frame = staticmethod(entry_line)
    _block = staticmethod(notice_line)


class MessageEncoder:
    """The dialect; ``has_snapshot``: a late joiner gets one snapshot in place of the past."""

    __slots__ = ("_transcript",)

    name: Final = NATIVE.name
    heartbeat: Final = notice_line({}, event=HEARTBEAT)

    def __init__(self, *, has_snapshot: bool = False) -> None:
        self._transcript: type[NativeTranscript] = FoldingMessages if has_snapshot else MessageTranscript

    def open(self, stream_id: str) -> NativeTranscript:
        """See Dialect."""
        return self._transcript(stream_id)


MESSAGES: Final = MessageEncoder()
SNAPSHOT_MESSAGES: Final = MessageEncoder(has_snapshot=True)
