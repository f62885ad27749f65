"""Events that carry a provider's response as it came (passed/decode.py) → the same response, whole or as a stream.

Rules of the stream (Transcript of ``passed``)
1. Each message is sent with its data unchanged, the end is ``[DONE]``. Messages have neither a name nor an id.
2. A failure is an object with ``error``, and the stream then ends without ``[DONE]``: every SDK raises it.
3. A new attempt is a failure that ends the response of every client that has text of the old one, see
   openai_chat/encode.py. A client that joins later receives the new attempt alone, whole.
4. A completion that was stopped ends with the reason ``stop``, and beside it ``broadcaster: {"status": "aborted"}``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Final

from broadcaster.core import events as ev
from broadcaster.core.entry import Entry
from broadcaster.core.forking import Pieces
from broadcaster.core.sse import encode_comment, encode_frame
from broadcaster.dialects.openai_chat.encode import EXTENSION, ErrorObjectTranscript, failure_block
from broadcaster.dialects.passed.decode import CARRIED_TYPE
from broadcaster.dialects.writing import DONE, NEW_ATTEMPT, block, loss_of

_MS: Final = 1000


def whole_body(entries: Sequence[Entry]) -> bytes | None:
    """The response of the last attempt; None when the call failed, or has no response."""
    pieces: list[str] = []
    has_finished = False
    for entry in entries:
        match ev.read_event(entry.event):
            case ev.Attempt():
                pieces = []
            case ev.DataEvent(type=type, data=str(piece)) if type == CARRIED_TYPE:
                pieces.append(piece)
            case ev.Finish():
                has_finished = True
    return "".join(pieces).encode() if pieces and has_finished else None


@dataclass(frozen=True, slots=True)
class PassedDialect:
    """The stream of a call that was passed on."""

    name: ClassVar[str] = "passed"
    heartbeat: ClassVar[bytes] = encode_comment()

    def open(self, stream_id: str) -> PassedTranscript:
        """See Dialect.open."""
        return PassedTranscript(stream_id)


class PassedTranscript(ErrorObjectTranscript):
    """See Transcript."""

    def __init__(self, stream_id: str) -> None:
        self._stream_id = stream_id
        self._frames = Pieces()

    def snapshot(self) -> bytes:
        """See Transcript.snapshot: every message of this attempt, because each adds something."""
        return self._frames.text.encode()

    def _read(self, entry: Entry, frames: list[bytes]) -> None:
        match ev.read_event(entry.event):
            case ev.DataEvent(type=type, data=str(piece)) if type == CARRIED_TYPE:
                frame = encode_frame(piece.encode())
                self._frames.append(frame.decode())
                frames.append(frame)
            case ev.Attempt() as event:
                self.breaks_off = bool(self._frames.text)
                self._frames = Pieces()
                if self.breaks_off:
                    frames.append(failure_block(loss_of(event), code=NEW_ATTEMPT))
            case ev.Finish():
                self._is_over = True
                frames.append(DONE)
            case ev.Abort(reason=reason):
                self._is_over = True
                frames += [self._stopped(entry.epoch, reason), DONE]
            case ev.Error(error_text=message, code=code):
                self._is_over = True
                frames.append(failure_block(message, code=code))

    def _stopped(self, epoch: int, reason: str | None) -> bytes:
        """Rule 4."""
        choice = {"index": 0, "text": "", "logprobs": None, "finish_reason": "stop"}
        head = {"id": f"cmpl-{self._stream_id}", "object": "text_completion", "created": epoch // _MS, "model": ""}
        return block({**head, "choices": [choice], EXTENSION: {"status": "aborted", "reason": reason}})
