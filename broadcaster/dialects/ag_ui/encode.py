"""The dialect ``ag-ui``: AG-UI 1.0, as CopilotKit and the other clients of ``@ag-ui/client`` read it.

Rules
1. ``RUN_STARTED`` is the greeting of every response, and is sent once: a notice or a snapshot may follow right behind
   it. Message ids and the like: ag_ui/attempt.py.
2. ``finish`` closes what is open and is outcome ``success``, with the calls that have no result; ``abort`` closes it
   and is ``cancelled``; ``error`` is ``RUN_ERROR`` and closes nothing, because torn parts never became whole.
3. An attempt is ``RUN_ERROR`` with the code ``new_attempt``, ``RUN_STARTED``, and ``MESSAGES_SNAPSHOT`` of the
   conversation before the run: the client drops what is torn, including calls that must not be executed. If nothing was
   sent before, the attempt sends nothing.
4. A snapshot replaces all that a client holds, so it must hold the conversation itself: the surface passes it as
   ``history``. A client keeps its reasoning unless the snapshot has some. So a first snapshot has an empty message of
   reasoning, which makes the client drop all others; a second makes that an ordinary message, which a third drops.
   ``@ag-ui/client`` 0.0 (CopilotKit) keeps the empty one.
5. A late joiner receives each message in one piece. One that holds the conversation gets no snapshot before them,
   because it would lose the ids of its messages. A client that joins (``is_joined``) receives ``history`` first, and
   drops whatever it held, torn reasoning included: this is how an agent that lost its connection joins its own run.
6. A gap and a stall are ``CUSTOM`` ``hub.gap`` and ``hub.stalled``. Where delivery must go back (rewound, reset) the
   viewer is ended: what it holds may not be in the log. So it is at a gap while a call is open: arguments cannot be
   taken back, and with a hole they may still be JSON. A client that reconnects with void entries receives an attempt as
   in rule 3. The ids of its reasoning are not known, so the first snapshot has a message of reasoning itself, which
   makes the client drop all others, and two more snapshots drop that one. A client that holds entries that were not
   encoded here receives the same: its messages and steps have other ids, and it refuses an end while its own are open.
   Where only the end is left (expired), it keeps its text.
7. With ``has_places`` a client can resume within an entry. Each block but the last of an entry has the entry's id and
   its own number as id, ``5-3-1``; the last has the entry's id.

Source: the schemas, the verifier and the reducer of ``@ag-ui/client`` 1.0.0.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Final, NamedTuple

import msgspec

from broadcaster.core import events as ev
from broadcaster.core.cursor import START, Cursor
from broadcaster.core.entry import Entry
from broadcaster.core.notices import Gap, GapReason, StallReason
from broadcaster.core.sse import encode_comment
from broadcaster.dialects.ag_ui import wire
from broadcaster.dialects.ag_ui.attempt import Run
from broadcaster.dialects.reading import Json
from broadcaster.dialects.writing import NEW_ATTEMPT, TERMINAL, EntryTranscript, block, blocks

_MESSAGES: Final = msgspec.json.Decoder(list[dict[str, object]])
_WITHIN: Final = re.compile(r"([0-9]+-[0-9]+)-([1-9][0-9]{0,9})", re.ASCII)


class BegunEntry(NamedTuple):
    """An entry of which a client received the first ``blocks`` alone."""

    cursor: Cursor
    blocks: int


class Received(NamedTuple):
    """What a client that reconnects holds: the entries up to ``cursor``, and the beginning of the next one.

    Without a cursor it holds no whole entry, and joins anew (rule 5).
    """

    cursor: Cursor | None
    begun: BegunEntry | None = None

    @classmethod
    def parse(cls, id: str) -> Received:
        """Read an SSE id of rule 7. Raises BadCursor."""
        match = _WITHIN.fullmatch(id)
        last = Cursor.parse(id if match is None else match[1])
        cursor = last if match is None else Cursor(last.epoch, last.seq - 1)
        if cursor.seq <= 0:
            return cls(None)
        return cls(cursor, None if match is None else BegunEntry(last, int(match[2])))


@dataclass(frozen=True, slots=True, kw_only=True)
class AgUiDialect:
    """AG-UI with its options.

    ``thread_id`` and ``run_id`` are the client's; empty: the stream's id. ``history`` is the JSON list of the messages
    that the client had before the run (rule 4). ``ids``: entries' ids as SSE ids, for clients that reconnect by them.
    ``is_joined``: rule 5. ``has_places``: rule 7; a client that reconnects (``is_resumed``) may hold a ``begun`` entry.
    ``resumes_itself``: the client reconnects by itself where a response ends before its run, but not after an error.
    """

    thread_id: str = ""
    run_id: str = ""
    history: bytes = b"[]"
    ids: bool = False
    is_joined: bool = False
    has_places: bool = False
    resumes_itself: bool = False
    is_resumed: bool = False
    begun: BegunEntry | None = None

    name: ClassVar[str] = "ag-ui"
    heartbeat: ClassVar[bytes] = encode_comment()

    def open(self, stream_id: str) -> AgUiTranscript:
        """See Dialect."""
        return AgUiTranscript(self, stream_id)


class AgUiTranscript(EntryTranscript):
    """See Transcript."""

    def __init__(self, dialect: AgUiDialect, stream_id: str) -> None:
        self._dialect = dialect
        self._stream_id = stream_id
        self._run = Run(stream_id)
        self._at: Cursor | None = None
        self._has_sent = False

    def snapshot(self) -> bytes:
        """See Transcript."""
        if self._at is None:
            return b""
        return self._frames(self._run.snapshot(), at=self._at)

    def hello(self, *, status: str, retry_ms: int) -> bytes:
        """See Transcript, and rule 1. No ``retry``: an AG-UI client reconnects when its user does."""
        is_beginning = self._dialect.has_places and not self._dialect.is_resumed
        greeting = block(self._run_started(), id=str(START) if is_beginning else None)
        return b"".join([greeting, *map(block, self._forgotten() if self._dialect.is_joined else ())])

    def gap(self, gap: Gap) -> bytes | None:
        """See Transcript, and rule 6."""
        if gap.voids or self._run.has_open_call:
            return None
        data = {"reason": gap.reason, "from": gap.first_seq, "to": gap.last_seq}
        return self._frames([wire.custom("hub.gap", data)], at=gap.at)

    def resumes(self, seq: int, gap: Gap) -> bool:
        """See Transcript, and rule 6."""
        return gap.reason is GapReason.EXPIRED

    def discard(self, gap: Gap) -> bytes:
        """See Transcript, and rule 6."""
        return blocks(self._restarted(gap.reason) + self._forgotten(), id="" if self._dialect.ids else None)

    def stalled(self, reason: StallReason | None) -> bytes:
        """See Transcript."""
        return block(wire.custom("hub.stalled", {"reason": reason}))

    def bye(self, reason: str, *, reconnect: bool, retry_ms: int, last_number: int | None = None) -> bytes:
        """See Transcript."""
        if reconnect and self._dialect.resumes_itself:
            return b""
        text = "the connection ends before the run does"
        return block(wire.run_error(f"{text}; ask again" if reconnect else text, reason))

    def _events(self, entry: Entry) -> list[Json]:
        """The AG-UI events of this entry."""
        self._at = entry.cursor if self._dialect.ids else START
        event = ev.read_event(entry.event)
        if isinstance(event, ev.Attempt):
            return self._restart(event)
        if isinstance(event, TERMINAL):
            self._is_over = True
            return self._end(event)
        events = self._run.take(event)
        self._has_sent = self._has_sent or bool(events)
        return events

    def _restart(self, event: ev.Attempt) -> list[Json]:
        """Rules 3 and 4."""
        has_reasoned = self._run.has_reasoned
        has_sent, self._has_sent = self._has_sent, False
        self._run = Run(f"{self._stream_id}-a{event.attempt}")
        if not has_sent:
            return []
        return self._restarted(event.reason) + (self._forgotten() if has_reasoned else [self._snapshot()])

    def _restarted(self, reason: str) -> list[Json]:
        return [wire.run_error(f"the answer begins again ({reason})", NEW_ATTEMPT), self._run_started()]

    def _end(self, event: ev.TerminalEvent) -> list[Json]:
        """Rule 2."""
        if isinstance(event, ev.Error):
            return [wire.run_error(event.error_text, event.code, usage=self._run.usage)]
        events = self._run.closed()
        if isinstance(event, ev.Abort):
            outcome: Json = {"type": "cancelled"}
            metadata = {"reason": event.reason} if event.reason is not None else {}
        else:
            pending = self._run.pending
            outcome = {"type": "success"} | ({"pendingToolCallIds": pending} if pending else {})
            metadata = {"finishReason": event.finish_reason} if event.finish_reason is not None else {}
        finished: Json = {"type": "RUN_FINISHED", **self._ids(), "outcome": outcome}
        if (usage := self._run.usage) is not None:
            finished["usage"] = [usage]
        return [*events, finished | ({"metadata": metadata} if metadata else {})]

    def _forgotten(self) -> list[Json]:
        """The snapshots after which a client holds the conversation before the run, whatever it held (rule 4)."""
        events: list[Json] = []
        if all(message.get("role") != "reasoning" for message in _MESSAGES.decode(self._dialect.history)):
            torn = {"id": f"{self._stream_id}-void", "content": ""}
            events += [self._snapshot(also=[{**torn, "role": role}]) for role in ("reasoning", "assistant")]
        return [*events, self._snapshot()]

    def _run_started(self) -> Json:
        return {"type": "RUN_STARTED", **self._ids(), "protocolVersion": wire.PROTOCOL_VERSION}

    def _ids(self) -> Json:
        dialect = self._dialect
        return {"threadId": dialect.thread_id or self._stream_id, "runId": dialect.run_id or self._stream_id}

    def _snapshot(self, *, also: Sequence[Json] = ()) -> Json:
        history = msgspec.json.decode(self._dialect.history, type=list[msgspec.Raw])
        return {"type": "MESSAGES_SNAPSHOT", "messages": [*history, *also]}

    def _read(self, entry: Entry, frames: list[bytes]) -> None:
        """The entry's blocks, with their places if the dialect has them, without those that the client holds."""
        events, begun = self._events(entry), self._dialect.begun
        if self._dialect.has_places and len(events) > 1:
            received = begun.blocks if begun is not None and begun.cursor == entry.cursor else 0
            numbered = list(enumerate(events[:-1], start=1))[received:]
            frames += [block(event, id=f"{entry.cursor}-{number}") for number, event in numbered]
            events = events[-1:]
        frames.append(self._frames(events, at=self._at or START))

    def _frames(self, events: Sequence[Json], *, at: Cursor) -> bytes:
        """One block for each, the last one under the entry's id if the dialect has ids."""
        return blocks(events, id=str(at) if self._dialect.ids else None)
