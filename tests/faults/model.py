"""A model of the system, which makes good histories: whatever happens by chance, it keeps the promises.

One stream, its log, one worker at a time, and viewers that come, are cut, leave and come late. Redis loses the log's
tail now and then: the worker resends it, or, when entries of an earlier attempt are gone, everything of its own
behind what is left, under a newer epoch. It is far simpler than the system, and shares no code with it or the checker
but the text they write.
"""

from __future__ import annotations

import json
import random
from dataclasses import dataclass, field

from broadcaster.core.cursor import START, Cursor
from broadcaster.core.entry import Entry
from tests.faults.history import Acked, Closed, Got, History, Noticed, Opened, ViewerTrace

STREAM = "gen_model"


@dataclass
class _Watcher:
    """A viewer of the model; ``seen``: the ids that stand behind its cursor, its own or those it joined after."""

    trace: ViewerTrace
    seen: list[Cursor] = field(default_factory=list)
    cursor: Cursor = START  # the id it would resume with
    has_ended: bool = False
    has_left: bool = False

    def note(self, *happenings: Opened | Got | Noticed | Closed) -> None:
        self.trace.happenings += happenings

    def open(self, status: int = 200) -> None:
        self.note(Opened(None if self.cursor == START else str(self.cursor), status))
        if status == 200:
            self.note(Noticed("hub.hello", b'{"id":"gen_model","status":"running"}', None))


@dataclass
class Model:
    """Call ``run`` once: it answers the history."""

    rng: random.Random
    log: list[Entry] = field(default_factory=list)
    acked: list[Acked] = field(default_factory=list)
    watchers: list[_Watcher] = field(default_factory=list)
    is_lossy: bool = False
    epoch: int = 100
    base_seq: int = 0
    own: list[bytes] = field(default_factory=list)
    unheard: list[bytes] = field(default_factory=list)  # in the log, the answer was lost: acknowledged later
    attempts: int = 1
    has_ended: bool = False
    is_trimmed: bool = False

    def run(self) -> History:
        """A history from the first event to the end of every viewer."""
        doings = (self._append, self._append, self._join, self._deliver, self._deliver, self._disturb)
        rare = (self._take_over, self._lose_tail, self._trim, self._leave)
        self._join()
        for _ in range(self.rng.randint(4, 40)):
            self.rng.choice(doings if self.rng.random() < 0.8 else rare)()
        self._finish()
        for _ in range(self.rng.randint(0, 6)):
            self.rng.choice((self._join, self._deliver, self._disturb, self._lose_tail))()
        for watcher in self.watchers:
            self._see_out(watcher)
        traces = {f"viewer-{at}": watcher.trace for at, watcher in enumerate(self.watchers)}
        trimmed = frozenset({STREAM} if self.is_trimmed else ())
        return History(self.acked, traces, {STREAM: self.log}, self.is_lossy, trimmed)

    # -- the worker and its log

    @property
    def last_seq(self) -> int:
        return self.log[-1].seq if self.log else 0

    def _append(self) -> None:
        if self.has_ended:
            return
        count = self.rng.randint(1, 4)
        events = [f'{{"type":"text-delta","id":"0","delta":"{self.rng.random()}"}}'.encode() for _ in range(count)]
        self._write(events)

    def _write(self, events: list[bytes]) -> None:
        self.log += [Entry(self.epoch, seq, event) for seq, event in enumerate(events, self.last_seq + 1)]
        self.own += events
        self.unheard += events
        if self.rng.random() < 0.8:
            self._receive()

    def _receive(self) -> None:
        if self.unheard:
            first = self.base_seq + len(self.own) - len(self.unheard) + 1
            self.acked.append(Acked(STREAM, self.epoch, first, tuple(self.unheard)))
            self.unheard = []

    def _take_over(self) -> None:
        """The worker is killed; another one begins anew behind its entries."""
        if not self.has_ended:
            self.attempts += 1
            self._begin_epoch()
            self.own = []
            self.unheard = []

    def _begin_epoch(self) -> None:
        self.epoch += self.rng.randint(1, 50)
        event = b'{"type":"attempt","attempt":%d}' % self.attempts
        self.log.append(Entry(self.epoch, self.last_seq + 1, event))
        self.base_seq = self.last_seq

    def _lose_tail(self) -> None:
        """Redis loses the newest entries; viewers may read before the worker has resent them."""
        if len(self.log) < 2:
            return
        at = self.rng.randrange(1, len(self.log))
        if self.has_ended and self.log[at - 1].seq < self.base_seq:
            return
        self._receive()
        del self.log[at:]
        if self.rng.random() < 0.5:
            self._deliver()
        if self.last_seq >= self.base_seq:
            resent = self.own[self.last_seq - self.base_seq :]
            self.log += [Entry(self.epoch, seq, event) for seq, event in enumerate(resent, self.last_seq + 1)]
        else:
            self.is_lossy = True
            own, self.own = self.own, []
            self._begin_epoch()
            self._write(own)

    def _trim(self) -> None:
        if len(self.log) > 4:
            del self.log[: self.rng.randint(1, 3)]
            self.is_trimmed = True

    def _finish(self) -> None:
        """By its worker; or by a process that noticed that there is none, under a newer epoch."""
        self.has_ended = True
        if self.rng.random() < 0.7:
            self._write([b'{"type":"finish","finishReason":"stop"}'])
            self._receive()
        else:
            self.epoch += 1
            self.log.append(Entry(self.epoch, self.last_seq + 1, b'{"type":"error","errorText":"no worker"}'))
            self.base_seq, self.own, self.unheard = self.last_seq, [], []

    # -- the viewers

    def _join(self) -> None:
        watcher = _Watcher(ViewerTrace(STREAM))
        if self.log and self.rng.random() < 0.3:
            at = self.rng.randrange(len(self.log))
            watcher.seen = [entry.cursor for entry in self.log[: at + 1]]
            watcher.cursor = watcher.seen[-1]
            watcher.has_ended = self.log[at].is_terminal
        watcher.open(204 if watcher.has_ended else 200)
        if watcher.has_ended:
            watcher.note(Closed("clean"))
            watcher.has_left = True
        self.watchers.append(watcher)

    def _someone(self) -> _Watcher | None:
        there = [watcher for watcher in self.watchers if not watcher.has_left]
        return self.rng.choice(there) if there else None

    def _leave(self) -> None:
        watcher = self._someone()
        if watcher is not None:
            watcher.note(Closed("left"))
            watcher.has_left = True

    def _disturb(self) -> None:
        """A response ends before its stream does, and the viewer comes back."""
        watcher = self._someone()
        if watcher is None or watcher.has_ended:
            return
        if self.rng.random() < 0.5:
            watcher.note(Noticed("hub.bye", b'{"reason":"drain","reconnect":true}', None), Closed("clean"))
        else:
            watcher.note(Closed("torn"))
        watcher.open()

    def _deliver(self) -> None:
        watcher = self._someone()
        if watcher is not None:
            self._deliver_to(watcher, most=self.rng.randint(1, 5))
            if self.rng.random() < 0.2 and not watcher.has_ended:
                watcher.note(Noticed("hub.stalled", b'{"reason":null}', None))

    def _see_out(self, watcher: _Watcher) -> None:
        if watcher.has_left:
            return
        self._deliver_to(watcher, most=10**6)
        if self.rng.random() < 0.8:
            watcher.note(Closed("clean"))
        else:
            watcher.note(Closed("torn"))
            watcher.open(204)
            watcher.note(Closed("clean"))

    def _deliver_to(self, watcher: _Watcher, *, most: int) -> None:
        if not self.log or watcher.has_ended or not self._place(watcher):
            return
        first_seq = self.log[0].seq
        for entry in self.log[max(0, watcher.cursor.seq + 1 - first_seq) :][:most]:
            watcher.note(Got(f"{entry.epoch}-{entry.seq}", entry.event))
            watcher.cursor = Cursor(entry.epoch, entry.seq)
            watcher.seen.append(watcher.cursor)
            watcher.has_ended = entry.is_terminal

    def _place(self, watcher: _Watcher) -> bool:
        """Report what is void or gone; False: it stands ahead of a log whose worker will resend its tail."""
        ids = {entry.cursor for entry in self.log}
        cursor, first = watcher.cursor, self.log[0]
        before = Cursor(first.epoch, first.seq - 1)
        if cursor in ids or cursor.seq == before.seq <= 0:
            return True
        if watcher.seen and cursor.seq > self.last_seq and cursor.epoch == self.log[-1].epoch:
            return False
        if cursor.seq <= before.seq:
            if cursor.seq < before.seq:
                self._report_gap(watcher, "trimmed", at=before, begin=cursor.seq + 1, end=before.seq)
            return True
        standing = [each for each in watcher.seen if each in ids]
        keep = standing[-1] if standing else before
        self._report_gap(watcher, "rewound", at=keep, begin=keep.seq + 1, end=cursor.seq)
        watcher.seen = [each for each in watcher.seen if each.seq <= keep.seq]
        return True

    def _report_gap(self, watcher: _Watcher, reason: str, *, at: Cursor, begin: int, end: int) -> None:
        gap = json.dumps({"reason": reason, "from": begin, "to": end}).encode()
        watcher.note(Noticed("hub.gap", gap, f"{at.epoch}-{at.seq}"))
        watcher.cursor = at


def good_history(rng: random.Random) -> History:
    """One that keeps every promise."""
    return Model(rng).run()
