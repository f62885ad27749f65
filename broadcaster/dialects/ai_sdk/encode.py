"""The dialect ``ai-sdk``: the UI message stream of the Vercel AI SDK (``ai``), versions 6 and 7.

Source: ``uiMessageChunkSchema`` and ``processUIMessageStream`` of the packages. The message is written in
ai_sdk/attempt.py, its parts in ai_sdk/parts.py.

Rules
1. A client ends a stream at a chunk type that its version does not know. Version 6 has no type that 7 does not know: it
   is what both can read. Version 7 adds ``reset-step``.
2. The message's id is that of the stream in all attempts: a client that fetches a stream anew replaces the message
   under that id. Another id would leave the torn message standing beside it.
3. A new attempt voids what a client shows. If it shows nothing yet, nothing is sent. If all of it stands in one step,
   version 7 takes that step back. Else it is an ``error`` that ends the response of every client before it, because
   ``readUIMessageStream`` reads on behind an error: the message would join the texts of both attempts. A client that
   fetches the stream again receives the new attempt alone.
4. Notices are transient ``data-gap`` and ``data-stalled``, which become no part of the message. A rewound log voids
   what a client shows, like an attempt, and the response cannot continue. A client that reconnects with void entries
   receives the ``error`` of rule 3 in both versions: it may show more than the step that version 7 can take back.
   Part ids are counted from where a transcript begins. So what a client holds is void, too, if it holds entries that
   were not encoded here and there are texts or calls behind them. If it holds none of them, it continues: the snapshot
   behind a gap opens each part as a new one. An attempt is the ``error``, too, where clients may hold entries of the
   one before that were not encoded here.
5. Only ``finish`` and ``abort`` are followed by ``[DONE]``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Final, Literal

from broadcaster.core import events as ev
from broadcaster.core.cursor import Cursor
from broadcaster.core.entry import Entry
from broadcaster.core.notices import Gap, StallReason
from broadcaster.core.sse import encode_comment, encode_frame
from broadcaster.dialects.ai_sdk.attempt import UiAttempt, error_chunk
from broadcaster.dialects.ai_sdk.parts import Chunk
from broadcaster.dialects.writing import TERMINAL, EntryTranscript, block, blocks

Version = Literal[6, 7]

HEADERS: Final = {"x-vercel-ai-ui-message-stream": "v1"}
"""What a response of this dialect carries besides those of every event stream."""

ATTEMPT_CODE: Final = "attempt"

_RESET_STEP: Final[Chunk] = {"type": "reset-step"}
_RESTARTED: Final = "The answer begins again; fetch the stream once more to read it."
_GOES_ON: Final = "The connection ends here, the answer goes on; fetch the stream once more to read it."
_IS_OVER: Final = "The rest of the answer cannot be had any more."


@dataclass(frozen=True, slots=True)
class AiSdkDialect:
    """``ids``: the last block of each entry carries its id. ``message_id``: the message that the stream continues.

    Ids are for readers that resume by them; the chat transport does not. ``earlier``: the blocks of that message for a
    client that resumes (ai_sdk/continued.py).
    """

    version: Version = 6
    ids: bool = False
    message_id: str | None = None
    earlier: bytes = b""

    heartbeat: ClassVar[bytes] = encode_comment()

    @property
    def name(self) -> str:
        """See Dialect."""
        return "ai-sdk" if self.version == 6 else f"ai-sdk-{self.version}"

    def open(self, stream_id: str) -> AiSdkTranscript:
        """See Dialect."""
        return AiSdkTranscript(self, self.message_id or f"msg_{stream_id}")


class AiSdkTranscript(EntryTranscript):
    """One stream as chunks."""

    def __init__(self, dialect: AiSdkDialect, message_id: str) -> None:
        self._dialect = dialect
        self._message_id = message_id
        self._message = UiAttempt(message_id)
        self._last: Cursor | None = None

    def hello(self, *, status: str, retry_ms: int) -> bytes:
        """See Transcript: what the message held before the answer."""
        return self._dialect.earlier

    def snapshot(self) -> bytes:
        """See Transcript."""
        return blocks(self._message.chunks(), id=self._id(self._last))

    def gap(self, gap: Gap) -> bytes | None:
        """See Transcript. The following chunks open the parts that they need."""
        if gap.voids and self._message.is_started:
            return None
        self._missing_seq = gap.last_seq
        data = {"reason": gap.reason, "from": gap.first_seq, "to": gap.last_seq}
        return block(_notice("gap", data), id=self._id(gap.at))

    def resumes(self, seq: int, gap: Gap) -> bool:
        """See Transcript, and rule 4."""
        has_other_ids = seq >= gap.first_seq and self._message.has_growing_parts
        return super().resumes(seq, gap) and not has_other_ids

    def discard(self, gap: Gap) -> bytes:
        """See Transcript, and rule 4."""
        return block(error_chunk(_RESTARTED, code=ATTEMPT_CODE), id="" if self._dialect.ids else None)

    def stalled(self, reason: StallReason | None) -> bytes:
        """See Transcript."""
        return block(_notice("stalled", {"reason": reason}))

    def bye(self, reason: str, *, reconnect: bool, retry_ms: int, last_number: int | None = None) -> bytes:
        """See Transcript."""
        return block(error_chunk(_GOES_ON if reconnect else _IS_OVER, code=reason))

    def _read(self, entry: Entry, frames: list[bytes]) -> None:
        if self._dialect.ids:
            self._last = entry.cursor
        event = ev.read_event(entry.event)
        chunks = self._restart(entry.seq) if isinstance(event, ev.Attempt) else self._message.take(event)
        self._is_over = isinstance(event, TERMINAL)
        if self._is_over and not isinstance(event, ev.Error):
            frames += [*map(block, chunks), encode_frame(b"[DONE]", id=self._id(self._last))]
        else:
            frames.append(blocks(chunks, id=self._id(self._last)))

    def _restart(self, seq: int) -> list[Chunk]:
        """Rules 3 and 4."""
        old = self._message
        stays = self._begin_attempt(seq) or not old.is_of_one_step or old.has_lasting_metadata
        if not stays and (not old.shows or self._dialect.version >= 7):
            self._message = old.emptied()
            return [_RESET_STEP] if old.shows else []
        self._message = UiAttempt(self._message_id)
        self.breaks_off = True
        return [error_chunk(_RESTARTED, code=ATTEMPT_CODE)]

    def _id(self, at: Cursor | None) -> str | None:
        return str(at) if self._dialect.ids and at is not None else None


def _notice(name: str, data: dict[str, Any]) -> Chunk:
    return {"type": f"data-{name}", "data": data, "transient": True}
