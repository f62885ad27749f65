"""The dialect ``ag-ui``: AG-UI 1.0, as CopilotKit and the other clients of ``@ag-ui/client`` read it.

Rules
1. ``RUN_STARTED`` is the greeting of every response, and never said again: whatever follows may stand right behind it,
   a notice or a prelude. Message ids and the like: ``ag_ui_run.py``.
2. ``finish`` closes what is open and is outcome ``success``, with the calls that nobody has answered; ``abort`` closes
   it and is ``cancelled``; ``error`` is ``RUN_ERROR`` and closes nothing, for what is torn never became whole.
3. An attempt is ``RUN_ERROR`` with the code ``new_attempt``, ``RUN_STARTED``, and ``MESSAGES_SNAPSHOT`` of what the
   conversation was before the run: the client forgets what is torn, calls that must not be executed included. One that
   finds nothing said changes nothing.
4. A snapshot replaces all that a client holds, so it must hold the conversation itself: the surface gives it as
   ``history``. It spares reasoning unless it has some of its own: torn reasoning is made a message like any other by a
   first snapshot, for the second one to drop.
5. A late joiner hears the messages again, each in one piece. One that holds the conversation gets no snapshot before
   them: it would cost it the ids of its messages. One that joins with nothing (``is_joined``) gets ``history`` first.
6. A gap and a stall are ``CUSTOM`` ``hub.gap`` and ``hub.stalled``. Where delivery must go back (rewound, reset) the
   viewer is ended: what it holds may not be in the log. A client that comes back with what is void receives an attempt
   as in rule 3. The ids of its reasoning are not known, so the first snapshot has a message of reasoning itself, which
   makes the client drop all others, and two more snapshots drop that one.

Source: the schemas, the verifier and the reducer of ``@ag-ui/client`` 1.0.0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Final

import msgspec

from broadcaster.core import events as ev
from broadcaster.core.entry import Entry
from broadcaster.core.notices import Gap, StallReason
from broadcaster.core.sse import encode_comment, encode_frame
from broadcaster.dialects import ag_ui_words as words
from broadcaster.dialects.ag_ui_run import Run
from broadcaster.dialects.reading import Json
from broadcaster.dialects.writing import NEW_ATTEMPT, Unnumbered, block

_json: Final = msgspec.json.Encoder()
_ROLES: Final = msgspec.json.Decoder(list[dict[str, object]])


@dataclass(frozen=True, slots=True, kw_only=True)
class AgUiDialect:
    """AG-UI with its options.

    ``thread_id`` and ``run_id`` are the client's; empty: the stream's id. ``history`` is the JSON list of the messages
    that the client had before the run (rule 4). ``ids``: entries' ids as SSE ids, for clients that reconnect by them.
    ``is_joined``: the client holds no conversation yet (rule 5).
    """

    thread_id: str = ""
    run_id: str = ""
    history: bytes = b"[]"
    ids: bool = False
    is_joined: bool = False

    name: ClassVar[str] = "ag-ui"
    heartbeat: ClassVar[bytes] = encode_comment()

    def open(self, stream_id: str) -> AgUiTranscript:
        """See Dialect."""
        return AgUiTranscript(self, stream_id)


class AgUiTranscript(Unnumbered):
    """See Transcript."""

    __slots__ = ("_at", "_dialect", "_has_said", "_is_over", "_run", "_stream_id")

    def __init__(self, dialect: AgUiDialect, stream_id: str) -> None:
        self._dialect = dialect
        self._stream_id = stream_id
        self._run = Run(stream_id)
        self._at: Entry | None = None
        self._has_said = False
        self._is_over = False

    def encode(self, entries: Sequence[Entry]) -> bytes:
        """See Transcript."""
        return b"".join([self._frames(self._told(entry), of=entry) for entry in entries])

    def prelude(self) -> bytes:
        """See Transcript."""
        if self._at is None:
            return b""
        return self._frames(self._run.again(), of=self._at)

    def fork(self) -> AgUiTranscript:
        """See Transcript."""
        fork = AgUiTranscript(self._dialect, self._stream_id)
        fork._run, fork._at = self._run.fork(), self._at
        fork._has_said, fork._is_over = self._has_said, self._is_over
        return fork

    def hello(self, *, status: str, retry_ms: int) -> bytes:
        """See Transcript, and rule 1. No ``retry``: an AG-UI client asks again when its user does."""
        return block(self._run_started()) + (block(self._snapshot()) if self._dialect.is_joined else b"")

    def gap(self, gap: Gap) -> bytes | None:
        """See Transcript, and rule 6."""
        if gap.voids:
            return None
        told = {"reason": gap.reason.value, "from": gap.first_seq, "to": gap.last_seq}
        return self._frames([words.custom("hub.gap", told)], of=Entry(gap.at.epoch, gap.at.seq, b""))

    def discard(self, gap: Gap) -> bytes:
        """See Transcript, and rule 6."""
        said = self._restarted(gap.reason.value)
        if not self._remembers_reasoning():
            torn = {"id": f"{self._stream_id}-void", "content": ""}
            said += [self._snapshot(also=[{**torn, "role": role}]) for role in ("reasoning", "assistant")]
        last = encode_frame(_json.encode(self._snapshot()), id="" if self._dialect.ids else None)
        return b"".join(map(block, said)) + last

    def stalled(self, reason: StallReason | None) -> bytes:
        """See Transcript."""
        return block(words.custom("hub.stalled", {"reason": None if reason is None else reason.value}))

    def bye(self, reason: str, *, reconnect: bool, last_number: int | None = None) -> bytes:
        """See Transcript."""
        told = "the connection ends before the run does"
        return block(words.run_error(f"{told}; ask again" if reconnect else told, reason))

    def _told(self, entry: Entry) -> list[Json]:
        """What this entry says, in the words of AG-UI."""
        if self._is_over:
            return []
        self._at = entry
        event = ev.read_event(entry.event)
        if isinstance(event, ev.Attempt):
            return self._begin_again(event)
        if isinstance(event, ev.Finish | ev.Error | ev.Abort):
            self._is_over = True
            return self._end(event)
        said = self._run.tell(event)
        self._has_said = self._has_said or bool(said)
        return said

    def _begin_again(self, event: ev.Attempt) -> list[Json]:
        """Rules 3 and 4."""
        torn = self._run.reasoning_ids
        has_said, self._has_said = self._has_said, False
        self._run = Run(f"{self._stream_id}-a{event.attempt}")
        if not has_said:
            return []
        said = self._restarted(event.reason)
        if torn and not self._remembers_reasoning():
            said.append(self._snapshot(also=[{"id": id, "role": "assistant", "content": ""} for id in torn]))
        return [*said, self._snapshot()]

    def _restarted(self, reason: str) -> list[Json]:
        return [words.run_error(f"the answer begins again ({reason})", NEW_ATTEMPT), self._run_started()]

    def _end(self, event: ev.TerminalEvent) -> list[Json]:
        """Rule 2."""
        if isinstance(event, ev.Error):
            return [words.run_error(event.error_text, event.code, usage=self._run.usage)]
        said = self._run.closed()
        if isinstance(event, ev.Abort):
            outcome: Json = {"type": "cancelled"}
            metadata = {"reason": event.reason} if event.reason is not None else {}
        else:
            outcome, pending = {"type": "success"}, self._run.pending
            outcome |= {"pendingToolCallIds": pending} if pending else {}
            metadata = {"finishReason": event.finish_reason} if event.finish_reason is not None else {}
        thread_id, run_id = self._ids()
        return [
            *said,
            words.run_finished(thread_id, run_id, outcome=outcome, usage=self._run.usage, metadata=metadata),
        ]

    def _run_started(self) -> Json:
        return words.run_started(*self._ids())

    def _ids(self) -> tuple[str, str]:
        return self._dialect.thread_id or self._stream_id, self._dialect.run_id or self._stream_id

    def _remembers_reasoning(self) -> bool:
        return any(message.get("role") == "reasoning" for message in _ROLES.decode(self._dialect.history))

    def _snapshot(self, *, also: Sequence[Json] = ()) -> Json:
        history = msgspec.json.decode(self._dialect.history, type=list[msgspec.Raw])
        return {"type": "MESSAGES_SNAPSHOT", "messages": [*history, *also]}

    def _frames(self, events: Sequence[Json], *, of: Entry) -> bytes:
        """One block for each, the last one under the entry's id where ids are wanted."""
        if not events:
            return b""
        *others, last = events
        return b"".join(map(block, others)) + block(last, of=of if self._dialect.ids else None)
