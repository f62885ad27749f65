"""A world in miniature round one splice: a log that grows, forks and is trimmed, a channel that loses and doubles, a
reader whose pages take time, and a receiver that holds the splice to its promises. Every order of events can be tried.
"""

from __future__ import annotations

import copy
from collections.abc import Hashable, Iterator
from dataclasses import dataclass, field

from broadcaster.core.continuity import Push, TailVerdict
from broadcaster.core.cursor import START, Cursor
from broadcaster.core.entry import Entry
from broadcaster.core.events import is_terminal
from broadcaster.core.notices import Gap
from broadcaster.core.splice import CaughtUp, Deliver, Rewound, Splice, SpliceStep

DELTA = b'{"type":"text-delta","id":"t","delta":"x"}'
FINISH = b'{"type":"finish"}'


def entry(epoch: int, seq: int) -> Entry:
    return Entry(epoch, seq, DELTA)


def entries(epoch: int, first_seq: int, last_seq: int) -> list[Entry]:
    return [entry(epoch, seq) for seq in range(first_seq, last_seq + 1)]


def push(epoch: int, first_seq: int, count: int = 1) -> Push:
    return Push(epoch, first_seq, count, (DELTA,) * count)


def live_splice(log: list[Entry]) -> Splice:
    splice = Splice()
    splice.next_read()
    splice.take(log, is_last=True)
    assert splice.is_live
    return splice


@dataclass
class Receiver:
    """What a room would hold; every call is checked against the promises of the design."""

    held: list[Entry] = field(default_factory=list)
    last_seq: int = 0
    gaps: list[Gap] = field(default_factory=list)
    rewinds: list[Cursor] = field(default_factory=list)
    settled: int = 0

    def deliver(self, entries: list[Entry]) -> None:
        assert entries, "an empty delivery"
        for entry in entries:
            assert entry.seq == self.last_seq + 1, f"{entry.cursor} after seq {self.last_seq}"
            assert not self.held or entry.epoch >= self.held[-1].epoch, "an epoch fell"
            self.held.append(entry)
            self.last_seq = entry.seq

    def do(self, step: SpliceStep) -> None:
        match step:
            case Deliver(entries):
                self.deliver(list(entries))
            case Gap():
                assert step.first_seq == self.last_seq + 1
                assert step.last_seq >= step.first_seq
                assert step.at.seq == step.last_seq
                self.gaps.append(step)
                self.last_seq = step.last_seq
            case Rewound(keep):
                assert self.held, "nothing was there to rewind"
                assert keep != self.held[-1].cursor, "a rewind that voids nothing"
                assert keep == START or keep in [entry.cursor for entry in self.held]
                self.rewinds.append(keep)
                self.held = [entry for entry in self.held if entry.seq <= keep.seq]
                self.gaps = [gap for gap in self.gaps if gap.last_seq <= keep.seq]
                self.last_seq = keep.seq
            case CaughtUp():
                self.settled += 1


@dataclass
class World:
    """``plan`` is what the writer does, in order.

    ``a`` append one, ``b`` append two at once, ``p`` append one and poke, ``q`` append one and push nothing, ``f<n>``
    lose the last n entries and go on with a newer epoch, ``o<n>`` lose the last n and go on under an older epoch than
    theirs, where there is one (the clock stepped back), ``t<n>`` trim the first n, ``e`` a newer epoch, ``z`` append
    the terminal, ``l`` the subscriber connection is lost (all pushes under way with it) and comes back.
    """

    plan: tuple[str, ...]
    page: int = 3
    sends_prev_epoch: bool = True
    can_lose: bool = False
    can_double: bool = False
    splice: Splice = field(default_factory=Splice)
    receiver: Receiver = field(default_factory=Receiver)
    log: list[Entry] = field(default_factory=list)
    trimmed: int = 0
    epoch: int = 1
    newest_epoch: int = 1
    at: int = 0
    channel: tuple[Push, ...] = ()
    was_doubled: bool = False
    read_after: Cursor | None = None
    answer: tuple[Entry, ...] | None = None

    # -- what can happen next

    def choices(self) -> list[str]:
        found = []
        if self.at < len(self.plan):
            found.append("write")
        if self.channel:
            found.append("push")
            if self.can_lose:
                found.append("lose")
            if self.can_double and not self.was_doubled:
                found.append("double")
        if self.read_after is None and self.splice.wants_read:
            found.append("read")
        if self.read_after is not None:
            found.append("serve" if self.answer is None else "take")
        return found

    def happen(self, choice: str) -> None:
        getattr(self, f"_{choice}")()

    def key(self) -> Hashable:
        """Two worlds with the same key have the same future."""
        splice = self.splice
        receiver = self.receiver
        lineages = (splice._delivered.runs, splice._delivered.last, splice._traced.runs, splice._traced.last)
        parked = (tuple(splice._parked), splice._judged_by_next_page, splice._must_reread)
        phase = (splice._phase, splice._is_last_trimmed)
        received = (tuple(receiver.held), receiver.last_seq, tuple(receiver.gaps), receiver.settled > 0)
        under_way = (self.channel, self.was_doubled, self.read_after, self.answer, self.trimmed, self.at)
        return (lineages, parked, phase, received, under_way, tuple(self.log))

    def branch(self) -> World:
        """A copy that shares only what is never changed in place."""
        there = copy.copy(self)
        there.splice = copy.copy(self.splice)
        for name in ("_delivered", "_traced"):
            setattr(there.splice, name, copy.deepcopy(getattr(self.splice, name)))
        there.splice._parked = list(self.splice._parked)
        receiver = self.receiver
        there.receiver = Receiver(
            list(receiver.held), receiver.last_seq, list(receiver.gaps), list(receiver.rewinds), receiver.settled
        )
        return there

    def quiesce(self) -> None:
        """All that is under way arrives, then tail checks and reads run until nothing is left to do."""
        while self.at < len(self.plan):
            self._write()
        while self.channel:
            self._push()
        self._read_all()
        for _ in range(4):
            verdict = self.splice.judge_tail(self._log_last())
            if self.splice.is_over or verdict in (TailVerdict.FINE, TailVerdict.HOLD):
                return
            self.splice.trace() if verdict is TailVerdict.FORK else self.splice.reread()
            self._read_all()
        raise AssertionError("the tail check does not come to rest")

    def _read_all(self) -> None:
        for _ in range(100):
            if self.read_after is not None:
                self.happen("serve" if self.answer is None else "take")
            elif self.splice.wants_read:
                self._read()
            else:
                return
        raise AssertionError("the splice asks for reads without end")

    def check_outcome(self) -> None:
        """What was delivered is what the log holds; what is missing was reported."""
        held = {entry.seq: entry for entry in self.receiver.held}
        for entry in self.log:
            assert held.get(entry.seq) == entry, f"{entry.cursor} is {held.get(entry.seq)}"
        assert self.receiver.last_seq >= self._log_last().seq
        reported = {seq for gap in self.receiver.gaps for seq in range(gap.first_seq, gap.last_seq + 1)}
        for seq in range(1, self.receiver.last_seq + 1):
            assert (seq in held) != (seq in reported), f"seq {seq} is neither delivered nor reported missing, or both"
        assert self.receiver.settled > 0

    # -- the writer and the log

    def _log_last(self) -> Cursor:
        return self.log[-1].cursor if self.log else START

    def _write(self) -> None:
        action = self.plan[self.at]
        self.at += 1
        kind, number = action[0], int(action[1:] or 0)
        if kind in ("f", "o"):
            kept, lost = self.log[: len(self.log) - number], self.log[len(self.log) - number :]
            older = lost[0].epoch - 1 if kind == "o" else 0
            self.log = kept
            self.epoch = older if older >= (kept[-1].epoch if kept else 1) else self._newer_epoch()
            kind = "a"
        if kind == "e":
            self.epoch = self._newer_epoch()
            kind = "a"
        if kind == "t":
            self.trimmed += number
            self.log = self.log[number:]
        elif kind == "l":
            self.channel = ()
            self.splice.reread()
        else:
            self._append({"b": 2}.get(kind, 1), terminal=kind == "z", push={"q": "no", "p": "poke"}.get(kind, "yes"))

    def _newer_epoch(self) -> int:
        """No id is ever written twice: between two of these there is room for older ones."""
        self.newest_epoch += 10
        return self.newest_epoch

    def _append(self, count: int, *, terminal: bool, push: str) -> None:
        before = self._log_last() if self.log else Cursor(0, self.trimmed)
        event = FINISH if terminal else DELTA
        entries = [Entry(self.epoch, before.seq + 1 + at, event) for at in range(count)]
        self.log = [*self.log, *entries]
        if push == "no":
            return
        prev_epoch = before.epoch if self.sends_prev_epoch and before.epoch else None
        events = () if push == "poke" else tuple(entry.event for entry in entries)
        self.channel += (Push(self.epoch, entries[0].seq, count, events, prev_epoch),)

    # -- the channel

    def _push(self) -> None:
        push, *rest = self.channel
        self.channel = tuple(rest)
        self._receive(push)

    def _lose(self) -> None:
        self.channel = self.channel[1:]

    def _double(self) -> None:
        self.was_doubled = True
        self._receive(self.channel[0])

    def _receive(self, push: Push) -> None:
        """As a watch receives it: while the splice is live, the single event that comes next takes the fast path."""
        last = self.splice.last
        is_next = self.splice.is_live and (push.epoch, push.first_seq) == (last.epoch, last.seq + 1)
        if is_next and len(push.events) == 1 and push.prev_epoch is None and not is_terminal(push.events[0]):
            self.splice.advance(1)
            self.receiver.deliver([Entry(push.epoch, push.first_seq, push.events[0])])
        elif entries := self.splice.receive(push):
            self.receiver.deliver(list(entries))

    # -- the reader: a page is requested, served from the log as it then is, and taken, each at its own time

    def _read(self) -> None:
        self.read_after = self.splice.next_read()

    def _serve(self) -> None:
        assert self.read_after is not None
        self.answer = tuple(entry for entry in self.log if entry.cursor > self.read_after)[: self.page]

    def _take(self) -> None:
        assert self.answer is not None
        entries, self.read_after, self.answer = self.answer, None, None
        for step in self.splice.take(entries, is_last=len(entries) < self.page):
            self.receiver.do(step)


def every_end(world: World) -> Iterator[World]:
    """Every world that some order of events leads to, brought to rest."""
    seen: set[Hashable] = set()
    open_worlds = [world]
    while open_worlds:
        here = open_worlds.pop()
        key = here.key()
        if key in seen:
            continue
        seen.add(key)
        choices = here.choices()
        for choice in choices:
            there = here.branch()
            there.happen(choice)
            open_worlds.append(there)
        if not choices:
            here.quiesce()
            yield here
