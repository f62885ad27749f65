"""What the small shapes share (``delta``, ``named``, ``parts``): text as it grows, and the same for who comes late.

Rules
1. A shape has words for some of what we say, and the rest is left out (``SmallDialect``). Text parts follow each other
   as they came: these shapes know of one text.
2. A late joiner hears each stretch of text, or of reasoning, in one piece.
3. A new attempt takes back what was said where the shape has a word for that. Elsewhere it is an error, and what
   follows belongs to the new attempt: a client stops at an error, and who asks again hears the new attempt alone. One
   that finds nothing said changes nothing.
4. A hole is told. Where delivery must go back (rewound, reset) the viewer is ended: the log may not have what it holds.
   A client that comes back with what is void receives what it would receive at a new attempt, and then the prelude.
5. After an error there is no ``[DONE]``, and nothing ends without one of the shape's own endings. An error that only
   ends the connection says ``retry: true``: an EventSource that is left open then goes on by itself from its last id.
   Where delivery must go back, only a shape with a word for dropping text says that. The others say ``new_attempt``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final, NamedTuple

import msgspec

from broadcaster.core import events as ev
from broadcaster.core.entry import Entry
from broadcaster.core.notices import Gap, StallReason
from broadcaster.core.pieces import Pieces
from broadcaster.core.sse import encode_comment, encode_frame
from broadcaster.dialects.reading import Json
from broadcaster.dialects.writing import NEW_ATTEMPT, Unnumbered

GAP: Final = "gap"  # the reason of a farewell when delivery must go back; see hub.stop_reasons

_json: Final = msgspec.json.Encoder()


class Said(NamedTuple):
    """One block: its data, and its event's name where the shape has names."""

    data: bytes
    event: str | None = None


DONE: Final = Said(b"[DONE]")


def said(data: Any, event: str | None = None) -> Said:
    """A block of JSON."""
    return Said(_json.encode(data), event)


@dataclass(frozen=True, slots=True)
class SmallDialect(ABC):
    """A shape: a Dialect, and its words. An empty list: it has none for this.

    ``ids``: entries' ids as SSE ids, so that an EventSource goes on where it was cut.
    """

    ids: bool = False

    name: ClassVar[str]
    heartbeat: ClassVar[bytes] = encode_comment()

    def open(self, stream_id: str) -> SmallTranscript:
        """See Dialect."""
        return SmallTranscript(self, stream_id)

    # -- words

    def start(self, stream_id: str, model: str | None) -> list[Said]:
        """The answer begins."""
        return []

    def text(self, delta: str) -> list[Said]:
        """More text."""
        return []

    def reasoning(self, delta: str) -> list[Said]:
        """More reasoning."""
        return []

    def call(self, event: ev.ToolInputAvailable) -> list[Said]:
        """A tool is called."""
        return []

    def result(self, id: str, *, output: Any = None, error: str | None = None) -> list[Said]:
        """What came of a call."""
        return []

    @abstractmethod
    def finish(self, reason: str | None, usage: Json | None) -> list[Said]:
        """The answer is whole."""

    @abstractmethod
    def abort(self, reason: str | None) -> list[Said]:
        """It was stopped."""

    @abstractmethod
    def error(self, message: str, code: str, *, retry: bool = False) -> list[Said]:
        """It is not whole, or the connection ends before it (rule 5)."""

    def retry(self, event: ev.Attempt) -> list[Said]:
        """What makes a client forget all it was told; nothing: it cannot (rule 3)."""
        return []

    def gap(self, gap: Json) -> list[Said]:
        """Entries are missing."""
        return []

    def stalled(self, reason: str | None) -> list[Said]:
        """Why nothing comes; None: it goes on."""
        return []


class _Stretch:
    """Text, or reasoning, that nothing interrupted."""

    __slots__ = ("pieces", "say")

    def __init__(self, say: Callable[[str], list[Said]], pieces: Pieces) -> None:
        self.say = say
        self.pieces = pieces

    def fork(self) -> _Stretch:
        return _Stretch(self.say, self.pieces.fork())


class SmallTranscript(Unnumbered):
    """See Transcript."""

    __slots__ = ("_at", "_attempt", "_is_over", "_model", "_parts", "_start", "_stream_id", "_usage", "_words")

    def __init__(self, words: SmallDialect, stream_id: str) -> None:
        self._words = words
        self._stream_id = stream_id
        self._at: Entry | None = None
        self._attempt = 1
        self._is_over = False
        self._begin()

    def _begin(self) -> None:
        """Nothing has been said of this attempt."""
        self._parts: list[_Stretch | Said] = []
        self._start: list[Said] | None = None
        self._model: str | None = None
        self._usage: Json | None = None

    def encode(self, entries: Sequence[Entry]) -> bytes:
        """See Transcript."""
        return b"".join([self._frames(self._told(entry), of=entry) for entry in entries])

    def prelude(self) -> bytes:
        """See Transcript, and rule 2."""
        if self._at is None or self._start is None:
            return b""
        blocks = [*self._start]
        for part in self._parts:
            blocks += [part] if isinstance(part, Said) else part.say(part.pieces.text)
        return self._frames(blocks, of=self._at)

    def fork(self) -> SmallTranscript:
        """See Transcript."""
        fork = SmallTranscript(self._words, self._stream_id)
        fork._at, fork._is_over, fork._start = self._at, self._is_over, self._start
        fork._attempt, fork._model, fork._usage = self._attempt, self._model, self._usage
        fork._parts = [part if isinstance(part, Said) else part.fork() for part in self._parts]
        return fork

    def hello(self, *, status: str, retry_ms: int) -> bytes:
        """Nothing: a block with ``retry`` alone ends some clients."""
        return b""

    def gap(self, gap: Gap) -> bytes | None:
        """See Transcript, and rule 4."""
        if gap.voids:
            return None
        told = {"reason": gap.reason.value, "from": gap.first_seq, "to": gap.last_seq}
        return self._frames(self._words.gap(told), of=Entry(gap.at.epoch, gap.at.seq, b""))

    def discard(self, gap: Gap) -> bytes:
        """See Transcript."""
        return self._frames(self._dropped(self._attempt, gap.reason.value), clears_id=True)

    def stalled(self, reason: StallReason | None) -> bytes:
        """See Transcript."""
        return self._frames(self._words.stalled(None if reason is None else reason.value))

    def bye(self, reason: str, *, reconnect: bool, last_number: int | None = None) -> bytes:
        """See Transcript, and rule 5."""
        if reason == GAP and not self._words.retry(ev.Attempt(attempt=self._attempt, reason=reason)):
            return self._frames(self._dropped(self._attempt, reason))
        return self._frames(self._words.error("the stream ended before the answer did", reason, retry=reconnect))

    # ---------------------------------------------------------------------------------------------------------- entries

    def _told(self, entry: Entry) -> list[Said]:
        if self._is_over:
            return []
        self._at = entry
        match event := ev.read_event(entry.event):
            case ev.Start():
                model = (event.message_metadata or {}).get("model")
                self._model = model if isinstance(model, str) else self._model
                return self._started()
            case ev.TextDelta():
                return self._grown(self._words.text, event.delta)
            case ev.ReasoningDelta():
                return self._grown(self._words.reasoning, event.delta)
            case ev.Usage():
                self._usage = _counted(self._usage or {}, event)
                return []
            case ev.Attempt():
                return self._begun_again(event)
            case ev.Finish() | ev.Error() | ev.Abort():
                self._is_over = True
                return self._started() + self._ended(event)
            case _:
                return self._called(event)

    def _called(self, event: ev.Event) -> list[Said]:
        """Calls of tools, and what came of them."""
        words = self._words
        match event:
            case ev.ToolInputAvailable():
                return self._kept(words.call(event))
            case ev.ToolOutputAvailable(preliminary=None | False):
                return self._kept(words.result(event.tool_call_id, output=event.output))
            case ev.ToolOutputError() | ev.ToolInputError():
                return self._kept(words.result(event.tool_call_id, error=event.error_text))
            case _:
                return []

    def _started(self) -> list[Said]:
        if self._start is not None:
            return []
        self._start = self._words.start(self._stream_id, self._model)
        return self._start

    def _grown(self, say: Callable[[str], list[Said]], delta: str) -> list[Said]:
        if not delta or not (blocks := say(delta)):
            return []
        last = self._parts[-1] if self._parts else None
        if isinstance(last, _Stretch) and last.say == say:
            last.pieces.append(delta)
        else:
            self._parts.append(_Stretch(say, Pieces(delta)))
        return self._started() + blocks

    def _kept(self, blocks: list[Said]) -> list[Said]:
        if not blocks:
            return []
        self._parts += blocks
        return self._started() + blocks

    def _begun_again(self, event: ev.Attempt) -> list[Said]:
        """Rule 3."""
        has_said, start = bool(self._parts), self._start
        self._attempt = event.attempt
        self._begin()
        if not has_said:
            self._start = start
            return []
        return self._dropped(event.attempt, event.reason)

    def _dropped(self, attempt: int, reason: str) -> list[Said]:
        """What makes a client drop all that it was sent."""
        words = self._words
        taken_back = words.retry(ev.Attempt(attempt=attempt, reason=reason))
        return taken_back or words.error(f"the answer begins again ({reason}): ask again", NEW_ATTEMPT)

    def _ended(self, event: ev.TerminalEvent) -> list[Said]:
        match event:
            case ev.Finish():
                return self._words.finish(event.finish_reason, self._usage)
            case ev.Abort():
                return self._words.abort(event.reason)
            case ev.Error():
                return self._words.error(event.error_text, event.code)

    def _frames(self, blocks: Sequence[Said], *, of: Entry | None = None, clears_id: bool = False) -> bytes:
        """The last one under the entry's id, or an empty one, where ids are wanted."""
        last = len(blocks) - 1
        id = None if of is None else f"{of.epoch}-{of.seq}"
        id = ("" if clears_id else id) if self._words.ids else None
        return b"".join(
            encode_frame(data, event=event, id=id if at == last else None) for at, (data, event) in enumerate(blocks)
        )


def _counted(known: Json, event: ev.Usage) -> Json:
    """``estimated`` speaks of the latest counts only: its absence takes an earlier one back."""
    counts: Json = {name: count for name, count in known.items() if name != "estimated"} | msgspec.to_builtins(event)
    return {name: count for name, count in counts.items() if name not in ("type", "providerMetadata")}
