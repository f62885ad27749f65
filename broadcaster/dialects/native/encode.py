"""The dialect ``native``: the log's entries as they are, and the hub's notices as named events.

Rules
1. An entry is ``id: <epoch>-<seq>`` and ``data: <event JSON>``: the bytes of the log, untouched.
2. A notice is an event named ``hub.*``, a prefix that publishers cannot use. Only ``hub.gap`` carries an id, the cursor
   that delivery continues from: without it a browser that reconnects would return to the same gap for ever.
3. ``hub.hello`` opens every response; it and ``hub.bye`` carry ``retry``.
4. A frame depends on its entry alone: any piece of a stream is encoded without the pieces before it.
5. The same stream goes over a WebSocket with other frames and nothing else changed: messages.py replaces ``_frame`` and
   ``_block``.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import starmap
from typing import Final

from broadcaster.core.entry import Entry
from broadcaster.core.notices import Gap, StallReason
from broadcaster.core.sse import encode_comment, encode_frame
from broadcaster.dialects.writing import Chunker, PlainTranscript, block, chunker_of

HELLO: Final = "hub.hello"
LIVE: Final = "hub.live"
GAP: Final = "hub.gap"
STALLED: Final = "hub.stalled"
EXPIRING: Final = "hub.expiring"
BYE: Final = "hub.bye"


class NativeEncoder:
    """The dialect. It has no options and no state: one serves all viewers."""

    __slots__ = ()

    name: Final = "native"
    heartbeat: Final = encode_comment()

    def open(self, stream_id: str) -> NativeTranscript:
        """See Dialect."""
        return NativeTranscript(stream_id)

    @staticmethod
    def frame(epoch: int, seq: int, event: bytes) -> bytes:
        """The entry's frame. A line break in the event (JSON has none) becomes another ``data`` line."""
        if b"\n" in event or b"\r" in event:
            return encode_frame(event, id=f"{epoch}-{seq}")
        return b"id: %d-%d\ndata: %b\n\n" % (epoch, seq, event)


native_chunk_in_python: Final = chunker_of(NativeEncoder.frame)

# In C where a compiler was found when the package was built. It leaves events of several lines to the other way.
try:
    from broadcaster.dialects.native._encode import native_chunk as _native_chunk_in_c
except ImportError:
    native_chunk: Chunker = native_chunk_in_python
else:
    native_chunk = _native_chunk_in_c


class NativeTranscript(PlainTranscript):
    """See Transcript. It keeps nothing of what it encoded."""

    __slots__ = ("_stream_id",)

    chunk_alone: Chunker | None = staticmethod(native_chunk)
    _frame = staticmethod(NativeEncoder.frame)
    _block = staticmethod(block)

    def __init__(self, stream_id: str) -> None:
        self._stream_id = stream_id

    def encode(self, entries: Sequence[Entry]) -> bytes:
        """The entries' frames."""
        if len(entries) == 1:  # nearly always
            return self._frame(*entries[0])
        return b"".join(starmap(self._frame, entries))

    def snapshot(self) -> bytes:
        """See Transcript: nothing, every entry is sent."""
        return b""

    def hello(self, *, status: str, retry_ms: int) -> bytes:
        """The first block: the stream's id and status, and how long to wait before a reconnect."""
        fields = {"id": self._stream_id, "status": status}
        return self._block(fields, event=HELLO, retry_ms=retry_ms)

    def live(self) -> bytes:
        """All that the log held has been delivered; what follows is the live tail."""
        return self._block({}, event=LIVE)

    def gap(self, gap: Gap) -> bytes | None:
        """Entries ``from`` to ``to`` will not come (any more); 0 to 0: which ones is unknown."""
        return self.discard(gap)

    def discard(self, gap: Gap) -> bytes:
        """The same as ``gap``; its id, behind which nothing was seen, leads to a snapshot where the dialect has one."""
        fields = {"reason": gap.reason, "from": gap.first_seq, "to": gap.last_seq}
        return self._block(fields, event=GAP, id=str(gap.at))

    def stalled(self, reason: StallReason | None) -> bytes:
        """Why no entries come; None: they come again."""
        return self._block({"reason": reason}, event=STALLED)

    def expiring(self, expires_s: float) -> bytes:
        """The viewer's token expires at this time, and its response ends then: the client gets a new token."""
        return self._block({"expires_at": expires_s}, event=EXPIRING)

    def bye(self, reason: str, *, reconnect: bool, retry_ms: int, last_number: int | None = None) -> bytes:
        """The last block of a response that ends before its stream does."""
        return self._block({"reason": reason, "reconnect": reconnect}, event=BYE, retry_ms=retry_ms)


NATIVE: Final = NativeEncoder()
