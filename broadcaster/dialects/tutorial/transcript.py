"""What the small shapes share (``delta``, ``named``, ``parts``): growing text, and snapshots of it for late joiners.

Rules
1. A shape expresses some of our events, and leaves the rest out (``SmallDialect``). Text parts follow each other as
   they came: these shapes have one text.
2. A late joiner receives each stretch of text, or of reasoning, in one piece.
3. A new attempt takes back what was sent, where the shape has a message for that. Elsewhere it is an error, and what
   follows belongs to the new attempt: a client stops at an error, and its next request receives the new attempt alone.
   An attempt after which nothing was sent changes nothing, unless clients may hold what was not encoded here.
4. A gap is sent. Where delivery must go back (rewound, reset) the viewer is ended: the log may not have what its client
   holds. A client that returns with a void id receives the message of a new attempt, and then the snapshot.
5. After an error there is no ``[DONE]``, and every response ends with one of the shape's own endings. An error that
   only ends the connection has ``retry: true``: an EventSource that is left open then resumes from its last id. Where
   delivery must go back, only a shape with a message for dropping text sends that. The others send ``new_attempt``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final, NamedTuple

import msgspec

from broadcaster.core import events as ev
from broadcaster.core.cursor import Cursor
from broadcaster.core.entry import Entry
from broadcaster.core.forking import Forkable, Pieces
from broadcaster.core.notices import Gap, StallReason
from broadcaster.core.sse import encode_comment, encode_frame
from broadcaster.dialects.reading import Json
from broadcaster.dialects.writing import NEW_ATTEMPT, EntryTranscript

GAP: Final = "gap"  # the reason of a farewell when delivery must go back (hub/stop_reasons.py)

_json: Final = msgspec.json.Encoder()


class SseBlock(NamedTuple):
    """One block: its data, and its event's name where the shape has names."""

    data: bytes
    event: str | None = None


DONE: Final = SseBlock(b"[DONE]")


def json_block(data: Any, event: str | None = None) -> SseBlock:
    """A block of JSON."""
    return SseBlock(_json.encode(data), event)


@dataclass(frozen=True, slots=True)
class SmallDialect(ABC):
    """A shape: a Dialect, and the blocks of each event. An empty list: it has none for this event.

    ``ids``: entries' ids as SSE ids, so that an EventSource resumes where it was cut.
    """

    ids: bool = False

    name: ClassVar[str]
    heartbeat: ClassVar[bytes] = encode_comment()

    def open(self, stream_id: str) -> SmallTranscript:
        """See Dialect."""
        return SmallTranscript(self, stream_id)

    # -- blocks

    def start(self, stream_id: str, model: str | None) -> list[SseBlock]:
        """The answer begins."""
        return []

    def text(self, delta: str) -> list[SseBlock]:
        """More text."""
        return []

    def reasoning(self, delta: str) -> list[SseBlock]:
        """More reasoning."""
        return []

    def call(self, event: ev.ToolInputAvailable) -> list[SseBlock]:
        """A tool is called."""
        return []

    def result(self, id: str, *, output: Any = None, error: str | None = None) -> list[SseBlock]:
        """The result of a call."""
        return []

    @abstractmethod
    def finish(self, reason: str | None, usage: Json | None) -> list[SseBlock]:
        """The answer is complete."""

    @abstractmethod
    def abort(self, reason: str | None) -> list[SseBlock]:
        """It was stopped."""

    @abstractmethod
    def error(self, message: str, code: str, *, retry: bool = False) -> list[SseBlock]:
        """The answer is incomplete, or the connection ends before it (rule 5)."""

    def retry(self, event: ev.Attempt) -> list[SseBlock]:
        """What makes a client drop all that it was sent; empty: it cannot (rule 3)."""
        return []

    def gap(self, gap: Json) -> list[SseBlock]:
        """Entries are missing."""
        return []

    def stalled(self, reason: str | None) -> list[SseBlock]:
        """Why no entries come; None: they come again."""
        return []


@dataclass(slots=True)
class _Stretch(Forkable):
    """Uninterrupted text, or reasoning."""

    format: Callable[[str], list[SseBlock]]
    pieces: Pieces


class SmallTranscript(EntryTranscript):
    """See Transcript."""

    def __init__(self, shape: SmallDialect, stream_id: str) -> None:
        self._shape = shape
        self._stream_id = stream_id
        self._at: Cursor | None = None
        self._attempt = 1
        self._begin()

    def _begin(self) -> None:
        """Nothing of this attempt has been sent."""
        self._parts: list[_Stretch | SseBlock] = []
        self._start: list[SseBlock] | None = None
        self._model: str | None = None
        self._usage: Json | None = None

    def snapshot(self) -> bytes:
        """See Transcript, and rule 2."""
        if self._at is None or self._start is None:
            return b""
        blocks = [*self._start]
        for part in self._parts:
            blocks += [part] if isinstance(part, SseBlock) else part.format(part.pieces.text)
        return self._frames(blocks, at=self._at)

    def gap(self, gap: Gap) -> bytes | None:
        """See Transcript, and rule 4."""
        if gap.voids:
            return None
        self._missing_seq = gap.last_seq
        fields = {"reason": gap.reason, "from": gap.first_seq, "to": gap.last_seq}
        return self._frames(self._shape.gap(fields), at=gap.at)

    def discard(self, gap: Gap) -> bytes:
        """See Transcript."""
        return self._frames(self._dropped(self._attempt, gap.reason), clears_id=True)

    def stalled(self, reason: StallReason | None) -> bytes:
        """See Transcript."""
        return self._frames(self._shape.stalled(reason))

    def bye(self, reason: str, *, reconnect: bool, retry_ms: int, last_number: int | None = None) -> bytes:
        """See Transcript, and rule 5."""
        if reason == GAP and not self._shape.retry(ev.Attempt(attempt=self._attempt, reason=reason)):
            return self._frames(self._dropped(self._attempt, reason))
        return self._frames(self._shape.error("the stream ended before the answer did", reason, retry=reconnect))

    # ---------------------------------------------------------------------------------------------------------- entries

    def _read(self, entry: Entry, frames: list[bytes]) -> None:
        self._at = entry.cursor
        event = ev.read_event(entry.event)
        blocks = self._restarted(event, seq=entry.seq) if isinstance(event, ev.Attempt) else self._blocks(event)
        frames.append(self._frames(blocks, at=self._at))

    def _blocks(self, event: ev.Event) -> list[SseBlock]:
        match event:
            case ev.Start():
                model = (event.message_metadata or {}).get("model")
                self._model = model if isinstance(model, str) else self._model
                return self._started()
            case ev.TextDelta():
                return self._grown(self._shape.text, event.delta)
            case ev.ReasoningDelta():
                return self._grown(self._shape.reasoning, event.delta)
            case ev.Usage():
                self._usage = _counted(self._usage or {}, event)
                return []
            case ev.Finish() | ev.Error() | ev.Abort():
                self._is_over = True
                return self._started() + self._ended(event)
            case ev.ToolInputAvailable():
                return self._kept(self._shape.call(event))
            case ev.ToolOutputAvailable(preliminary=None | False):
                return self._kept(self._shape.result(event.tool_call_id, output=event.output))
            case ev.ToolOutputError() | ev.ToolInputError():
                return self._kept(self._shape.result(event.tool_call_id, error=event.error_text))
            case _:
                return []

    def _started(self) -> list[SseBlock]:
        if self._start is not None:
            return []
        self._start = self._shape.start(self._stream_id, self._model)
        return self._start

    def _grown(self, format: Callable[[str], list[SseBlock]], delta: str) -> list[SseBlock]:
        if not delta or not (blocks := format(delta)):
            return []
        last = self._parts[-1] if self._parts else None
        if isinstance(last, _Stretch) and last.format == format:
            last.pieces.append(delta)
        else:
            self._parts.append(_Stretch(format, Pieces(delta)))
        return self._started() + blocks

    def _kept(self, blocks: list[SseBlock]) -> list[SseBlock]:
        if not blocks:
            return []
        self._parts += blocks
        return self._started() + blocks

    def _restarted(self, event: ev.Attempt, *, seq: int) -> list[SseBlock]:
        """Rule 3."""
        has_content, start = self._begin_attempt(seq) or bool(self._parts), self._start
        self._attempt = event.attempt
        self._begin()
        if not has_content:
            self._start = start
            return []
        return self._dropped(event.attempt, event.reason)

    def _dropped(self, attempt: int, reason: str) -> list[SseBlock]:
        """What makes a client drop all that it was sent."""
        shape = self._shape
        taken_back = shape.retry(ev.Attempt(attempt=attempt, reason=reason))
        return taken_back or shape.error(f"the answer restarts ({reason}): send the request again", NEW_ATTEMPT)

    def _ended(self, event: ev.TerminalEvent) -> list[SseBlock]:
        match event:
            case ev.Finish():
                return self._shape.finish(event.finish_reason, self._usage)
            case ev.Abort():
                return self._shape.abort(event.reason)
            case ev.Error():
                return self._shape.error(event.error_text, event.code)

    def _frames(self, blocks: Sequence[SseBlock], *, at: Cursor | None = None, clears_id: bool = False) -> bytes:
        """The last one under the entry's id, or an empty one, where ids are wanted."""
        last = len(blocks) - 1
        id = None if at is None else str(at)
        id = ("" if clears_id else id) if self._shape.ids else None
        return b"".join(
            encode_frame(data, event=event, id=id if place == last else None)
            for place, (data, event) in enumerate(blocks)
        )


def _counted(known: Json, event: ev.Usage) -> Json:
    """``estimated`` concerns the latest counts only: its absence takes an earlier one back."""
    counts: Json = {name: count for name, count in known.items() if name != "estimated"} | msgspec.to_builtins(event)
    return {name: count for name, count in counts.items() if name not in ("type", "providerMetadata")}
