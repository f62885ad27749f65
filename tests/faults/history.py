"""The checker of histories: what the log acknowledged and what every viewer received, held to the promises.

A history is recorded while things break (recorded_worker.py, viewers.py) and judged when it is over, without reading
the system: pure, in time linear in what was recorded.

| Rule | Broken when |
|---|---|
| ``sorted`` | a seq comes at or below the last one, and no gap ``rewound`` or ``reset`` voided it; an epoch falls |
| ``no_double`` | the same, with the very id that the viewer holds |
| ``dense_or_declared`` | a seq is missing untold; a gap does not name what is missing, or names what the log has |
| ``acked_delivered_or_declared`` | an acknowledged event is not in the log; a whole viewer has not got it, untold |
| ``one_terminal`` | the log has none, two, or one that is not its last entry; a viewer gets something after one |
| ``no_torn_clean_end`` | a response ends properly without terminal and ``hub.bye``; or an EventSource would die of it |
| ``log_is_dense`` | the log's seqs have a hole, or an epoch falls; it lost its head, untrimmed, and is not all lost |
| ``viewer_equals_log`` | a viewer holds what the log does not, or, unless it left, not all of it when all is over |

What a rewind voids, delivery may rewrite: from the declared cursor on, the same ids or those of a newer epoch. A
viewer is *whole* when it got the terminal event or a 204; whole viewers hold all of the log, the others a beginning.

What was acknowledged stays: Redis may lose it, but then its worker resends it under the same id. Only where such
losses were caused on purpose, and no worker was left to resend it, is the history ``is_lossy``. Then a newer epoch in
the log at or before that place answers for it; an older one may come back after a rewind; and a viewer that is not
whole may hold what the log has no more.
"""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal, NamedTuple, TypeAlias

from broadcaster.core.cursor import START, Cursor
from broadcaster.core.entry import Entry
from broadcaster.core.events import is_terminal
from broadcaster.errors import BadCursor

Rule: TypeAlias = Literal[
    "sorted",
    "no_double",
    "dense_or_declared",
    "acked_delivered_or_declared",
    "one_terminal",
    "no_torn_clean_end",
    "log_is_dense",
    "viewer_equals_log",
]

GAP: Final = "hub.gap"
BYE: Final = "hub.bye"
OK: Final = 200
NO_MORE: Final = 204
_VOIDING: Final = ("rewound", "reset")
_MISSING: Final = ("trimmed", "expired")


@dataclass(frozen=True, slots=True)
class Acked:
    """An append that the log acknowledged: ``events[0]`` has ``first_seq``."""

    stream: str
    epoch: int
    first_seq: int
    events: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Opened:
    """A response began: to a request with this ``Last-Event-ID``, with this status."""

    after: str | None
    status: int


@dataclass(frozen=True, slots=True)
class Got:
    """An entry."""

    id: str
    data: bytes


@dataclass(frozen=True, slots=True)
class Noticed:
    """A notice ``hub.*``; ``id`` is its own (only ``hub.gap`` has one)."""

    name: str
    data: bytes
    id: str | None


@dataclass(frozen=True, slots=True)
class Closed:
    """``clean``: the response ended properly (chunk 0, or a 204). ``torn``: it broke. ``left``: the viewer went."""

    how: Literal["clean", "torn", "left"]


Happening: TypeAlias = Opened | Got | Noticed | Closed


@dataclass(slots=True)
class ViewerTrace:
    """All that happened to one viewer of one stream, over all its connections, in order."""

    stream: str
    happenings: list[Happening] = field(default_factory=list)


@dataclass(slots=True)
class History:
    """``log``: each stream's entries, read when it is over and before it expires; ``trimmed``: whose heads were cut."""

    acked: Sequence[Acked]
    viewers: Mapping[str, ViewerTrace]
    log: Mapping[str, Sequence[Entry]]
    is_lossy: bool = False
    trimmed: frozenset[str] = frozenset()


class Violation(NamedTuple):
    """A promise that was broken; without a viewer, by the log itself."""

    rule: Rule
    stream: str
    viewer: str | None
    text: str


def check(history: History) -> list[Violation]:
    """Every rule that the history breaks, the log's own first."""
    found: list[Violation] = []
    logs = {stream: _LogView(entries) for stream, entries in history.log.items()}
    acked = _acked_by_stream(history.acked)
    for stream in sorted({*logs, *acked, *(trace.stream for trace in history.viewers.values())}):
        log = logs.setdefault(stream, _LogView(()))
        has_its_head = stream not in history.trimmed and not history.is_lossy
        found += [Violation(rule, stream, None, text) for rule, text in log.violations(has_its_head=has_its_head)]
    voided: dict[str, list[tuple[int, int]]] = {}
    for name, trace in history.viewers.items():
        reading = _Reading(logs[trace.stream], acked.get(trace.stream, {}), is_lossy=history.is_lossy)
        for happening in trace.happenings:
            reading.take(happening)
        reading.close()
        found += [Violation(rule, trace.stream, name, text) for rule, text in reading.found]
        voided.setdefault(trace.stream, []).extend(reading.voided)
    for stream, events in acked.items():
        gap = _Ranges(voided.get(stream, ()))
        found += [
            Violation("acked_delivered_or_declared", stream, None, f"{cursor} was acknowledged and is not in the log")
            for cursor, event in events.items()
            if not logs[stream].accounts_for(cursor, event, may_be_replaced=history.is_lossy or cursor.seq in gap)
        ]
    return found


def lost(history: History) -> list[tuple[str, Cursor]]:
    """Acknowledged events that are not in the log under their id when all is over: stream and cursor of each."""
    logs = {stream: _LogView(entries) for stream, entries in history.log.items()}
    return [
        (stream, cursor)
        for stream, events in _acked_by_stream(history.acked).items()
        for cursor, event in events.items()
        if not logs.get(stream, _LogView(())).accounts_for(cursor, event, may_be_replaced=False)
    ]


def _acked_by_stream(acked: Iterable[Acked]) -> dict[str, dict[Cursor, bytes]]:
    by_stream: dict[str, dict[Cursor, bytes]] = {}
    for each in acked:
        events = by_stream.setdefault(each.stream, {})
        for seq, event in enumerate(each.events, each.first_seq):
            events[Cursor(each.epoch, seq)] = event
    return by_stream


class _Ranges:
    """Ranges of seqs, both ends included, that may overlap."""

    def __init__(self, ranges: Iterable[tuple[int, int]]) -> None:
        self._begins: list[int] = []
        self._ends: list[int] = []
        for begin, end in sorted(ranges):
            if self._ends and begin <= self._ends[-1] + 1:
                self._ends[-1] = max(self._ends[-1], end)
            else:
                self._begins.append(begin)
                self._ends.append(end)

    def __contains__(self, seq: int) -> bool:
        at = bisect_right(self._begins, seq) - 1
        return at >= 0 and seq <= self._ends[at]


class _LogView:
    """A stream's log at the end of the history."""

    def __init__(self, entries: Sequence[Entry]) -> None:
        self.entries = entries
        self.by_seq = {entry.seq: entry for entry in entries}
        self._runs = [entry for at, entry in enumerate(entries) if not at or entry.epoch != entries[at - 1].epoch]

    @property
    def first_seq(self) -> int:
        return self.entries[0].seq if self.entries else 0

    def violations(self, *, has_its_head: bool) -> Iterable[tuple[Rule, str]]:
        if has_its_head and self.first_seq > 1 and b'"log_lost"' not in self.entries[0].event:
            yield "log_is_dense", f"it begins at {self.entries[0].cursor}, and nobody trimmed it"
        for before, entry in zip(self.entries, self.entries[1:], strict=False):
            if entry.seq != before.seq + 1:
                yield "log_is_dense", f"{entry.cursor} follows {before.cursor}"
            elif entry.epoch < before.epoch:
                yield "log_is_dense", f"the epoch falls from {before.cursor} to {entry.cursor}"
        ends = [entry.cursor for entry in self.entries if entry.is_terminal]
        if len(ends) != 1 or not self.entries[-1].is_terminal:
            gap = ", ".join(map(str, ends)) or "none"
            yield "one_terminal", f"terminal events: {gap}; last entry: {self._last()}"

    def _last(self) -> str:
        return str(self.entries[-1].cursor) if self.entries else "none"

    def accounts_for(self, cursor: Cursor, event: bytes, *, may_be_replaced: bool) -> bool:
        """Whether this acknowledged event is in the log, was trimmed off its front, or a newer epoch replaced it."""
        entry = self.by_seq.get(cursor.seq)
        if entry is not None and entry.cursor == cursor:
            return entry.event == event
        if cursor.seq < self.first_seq and cursor.epoch <= self.entries[0].epoch:
            return True
        return may_be_replaced and self.is_replaced(cursor)

    def is_replaced(self, cursor: Cursor) -> bool:
        """Whether a newer epoch begins at or before this place; before a trimmed log's first entry that is unknown."""
        if cursor.seq < self.first_seq:
            return True
        newer = bisect_right(self._runs, cursor.epoch, key=lambda entry: entry.epoch)
        return newer < len(self._runs) and self._runs[newer].seq <= cursor.seq


class _Reading:
    """One viewer's trace, read once from its first happening to its last."""

    def __init__(self, log: _LogView, acked: Mapping[Cursor, bytes], *, is_lossy: bool) -> None:
        self.found: list[tuple[Rule, str]] = []
        self.voided: list[tuple[int, int]] = []
        self._log = log
        self._acked = acked
        self._is_lossy = is_lossy
        self._begin: Cursor | None = None  # where it joined; None: nothing happened yet
        self._last = START
        self._held: dict[int, tuple[Cursor, bytes]] = {}  # what it holds, rewinds folded, in order of seqs
        self._ever: dict[Cursor, bytes] = {}
        self._void_epochs: dict[int, int] = {}  # of voided entries, until rewritten
        self._missing: list[tuple[int, int]] = []  # reported gone, rewinds folded
        self._gaps_reported: list[tuple[int, int]] = []  # every range ever reported
        self._has_ended = False
        self._is_whole = False
        self._bye = False
        self._has_left = True  # or has not come yet

    def take(self, happening: Happening) -> None:
        self._has_left = happening == Closed("left")
        match happening:
            case Opened(after, status):
                self._open(after, status)
            case Got(id, data):
                self._bye = False
                self._get(id, data)
            case Noticed(name, data, id):
                self._bye = name == BYE
                if name == GAP:
                    self._gap(json.loads(data), id)
            case Closed(how):
                if how == "clean" and not self._has_ended and not self._bye:
                    self._break("no_torn_clean_end", f"ended properly at {self._last} without terminal or hub.bye")

    def close(self) -> None:
        """Nothing more happens: compare what the viewer holds with the log, and with what was acknowledged."""
        if self._is_whole or not self._is_lossy:
            self._compare_log()
        if self._is_whole:
            self._compare_acked()
        elif not self._has_left:
            self._break("viewer_equals_log", f"it stayed, and had no end after {self._last}")

    def _break(self, rule: Rule, text: str) -> None:
        self.found.append((rule, text))

    def _open(self, after: str | None, status: int) -> None:
        self._bye = False
        if self._begin is None:
            self._begin = self._last = Cursor.parse(after) if after else START
            entry = self._log.by_seq.get(self._last.seq)
            # A viewer with the terminal's own id has received it elsewhere.
            self._has_ended = entry is not None and entry.cursor == self._last and entry.is_terminal
        if status == NO_MORE:
            self._is_whole = True
        elif status != OK:
            self._break("no_torn_clean_end", f"status {status}: an EventSource dies of it")

    def _get(self, id: str, data: bytes) -> None:
        try:
            cursor = Cursor.parse(id)
        except BadCursor:
            self._break("sorted", f"{id!r} is no cursor")
            return
        last = self._last
        if self._has_ended:
            self._break("one_terminal", f"{cursor} came after the terminal event {last}")
            return
        if cursor.seq <= last.seq:
            held = self._held.get(cursor.seq)
            is_double = held is not None and held[0] == cursor
            self._break("no_double" if is_double else "sorted", f"{cursor} came after {last}")
            return
        if cursor.epoch < last.epoch:
            self._break("sorted", f"the epoch falls: {cursor} came after {last}")
        elif cursor.seq > last.seq + 1:
            self._break("dense_or_declared", f"{cursor} came after {last}, without a gap")
        if self._void_epochs.pop(cursor.seq, 0) > cursor.epoch and not self._is_lossy:
            self._break("sorted", f"{cursor} came in place of a newer epoch's entry")
        self._last = cursor
        self._held[cursor.seq] = (cursor, data)
        self._ever[cursor] = data
        if self._acked.get(cursor, data) != data:
            self._break("viewer_equals_log", f"{cursor} came with {data!r}, not with what was acknowledged")
        if is_terminal(data):
            self._has_ended = self._is_whole = True

    def _gap(self, gap: Mapping[str, object], id: str | None) -> None:
        reason, begin, end = gap.get("reason"), gap.get("from"), gap.get("to")
        try:
            at = Cursor.parse(id or "")
        except BadCursor:
            self._break("dense_or_declared", f"a gap with the id {id!r}")
            return
        if self._has_ended:
            self._break("one_terminal", f"a gap at {at} came after the terminal event {self._last}")
        elif not isinstance(begin, int) or not isinstance(end, int):
            self._break("dense_or_declared", f"a gap without a range: {gap}")
        elif reason in _MISSING:
            self._miss(at, begin, end)
        elif reason in _VOIDING:
            self._rewind(at, begin, end)
        else:
            self._break("dense_or_declared", f"a gap of an unknown reason: {gap}")

    def _miss(self, at: Cursor, begin: int, end: int) -> None:
        if begin != self._last.seq + 1 or not begin <= end == at.seq:
            self._break("dense_or_declared", f"a gap {begin} to {end} at {at} came after {self._last}")
        self._gaps_reported.append((begin, end))
        self._missing.append((begin, end))
        self._last = at

    def _rewind(self, at: Cursor, begin: int, end: int) -> None:
        if (begin, end) == (0, 0):  # the cursor is of another log, which begins further on
            if at.seq < self._last.seq:
                self._break("dense_or_declared", f"a gap without a range at {at} came after {self._last}")
            begin, end = 1, at.seq
            self._held.clear()
            self._missing = [(1, at.seq)]
        elif (begin, end) != (at.seq + 1, self._last.seq):
            self._break("dense_or_declared", f"void {begin} to {end} at {at} came after {self._last}")
        self._gaps_reported.append((begin, end))
        self.voided.append((begin, end))
        while self._held and (newest := next(reversed(self._held))) > at.seq:
            self._void_epochs[newest] = self._held.pop(newest)[0].epoch
        while self._missing and self._missing[-1][1] > at.seq:
            first, _ = self._missing.pop()
            if first <= at.seq:
                self._missing.append((first, at.seq))
                break
        self._last = at
        self._begin = min(self._begin or START, at, key=lambda cursor: cursor.seq)

    def _compare_log(self) -> None:
        begin = self._begin or START
        missing = _Ranges(self._missing)
        for entry in self._log.entries:
            held = self._held.get(entry.seq)
            if held is not None and held != (entry.cursor, entry.event):
                self._break("viewer_equals_log", f"it holds {held[0]} with {held[1]!r}, the log {entry}")
            elif held is None and entry.seq in missing:
                self._break("dense_or_declared", f"{entry.cursor} was reported gone and is in the log")
            elif held is None and self._is_whole and entry.seq > begin.seq:
                self._break("viewer_equals_log", f"{entry.cursor} is in the log; the viewer does not hold it")
        end = self._log.entries[-1].seq if self._log.entries else 0
        beyond = next(reversed(self._held), 0)
        if beyond > end:
            self._break("viewer_equals_log", f"it holds {self._held[beyond][0]}, beyond the log's end")

    def _compare_acked(self) -> None:
        begin = self._begin or START
        gap = _Ranges(self._gaps_reported)
        for cursor, event in self._acked.items():
            if cursor.seq <= begin.seq or self._ever.get(cursor) == event or cursor.seq in gap:
                continue
            if not (self._is_lossy and self._log.is_replaced(cursor)):
                self._break("acked_delivered_or_declared", f"{cursor} was acknowledged; the viewer never got it")
