"""What must hold of feeds with a lease, and of what was deleted.

1. A feed whose writer died ends with ``error writer_lost``, not before its lease has lapsed.
2. A feed that had a call of its writer within every lease does not end so.
3. What was deleted is gone: no entry comes back, no append is taken, and its viewers have had an end.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from tests.hunt.clients.folds import Ending
from tests.hunt.clients.leases import DELETES, DIES, LeasedFeed
from tests.hunt.clients.viewer import Viewer
from tests.hunt.judging.answers import (
    Answer,
    Log,
    Violation,
    ending_of,
    events_of,
    faults_of_text,
    judge_ending,
    judge_log,
)
from tests.hunt.system.provider import Call

LOST: Final = Ending("error", "writer_lost")
# How late a feed may end when nothing is wrong, after its lease.
LATE_S: Final = 3.0
# Timers and clocks of two processes.
EARLY_S: Final = 0.1
GONE_CODES: Final = frozenset({"unknown_stream", "not_found", "not_found_error", "404"})


@dataclass(frozen=True)
class Circumstances:
    """``keeps``: Redis forgot nothing. ``is_steady``: no clock stepped. ``is_calm``: nothing hindered the end."""

    keeps: bool = True
    is_steady: bool = True
    is_calm: bool = False


def judge_leased(feed: LeasedFeed, log: Log, viewers: Sequence[Viewer], here: Circumstances) -> Iterator[Violation]:
    """All rules of one feed."""
    if not here.keeps or not feed.contacts:
        return
    for fault in feed.wrong:
        yield Violation("lease", feed.id, fault)
    if feed.fate == DELETES and feed.deletion_sent is not None:
        yield from _judge_deleted_feed(feed, log)
        return
    yield from judge_log(feed.id, log)
    events = events_of(log)
    ending = ending_of(events)
    there = [event["data"]["n"] for event in events if event["type"] == "data-hunt"]
    if sorted(set(there)) != there or not feed.acked.keys() <= set(there):
        yield Violation("lease", feed.id, f"it holds {there}, its writer received {sorted(feed.acked)}")
    if ending == LOST:
        yield from _judge_lost(feed, viewers, here)
    elif feed.fate == DIES or not feed.is_closed:
        yield Violation("lease", feed.id, f"its writer fell silent, and it ended with {ending}")


def _judge_lost(feed: LeasedFeed, viewers: Sequence[Viewer], here: Circumstances) -> Iterator[Violation]:
    if feed.is_closed:
        yield Violation("lease", feed.id, "it was closed, and ended with writer_lost")
    if not here.is_steady:
        return
    died = feed.fate == DIES and feed.refused is None
    if not died and feed.longest_gap_s < feed.lease_s - EARLY_S:
        fault = f"its writer was never silent for more than {feed.longest_gap_s:.2f} s of {feed.lease_s} s"
        yield Violation("lease", feed.id, f"it ended with writer_lost, and {fault}")
    last = feed.contacts[-1]
    for viewer in viewers:
        if viewer.ended_at is None or viewer.fold.ending is None or viewer.fold.ending.code != LOST.code:
            continue
        if died and viewer.ended_at < last.sent + feed.lease_s - EARLY_S:
            fault = f"{viewer.ended_at - last.sent:.2f} s after the last word of its writer"
            yield Violation("lease", feed.id, f"{viewer.name} had its end {fault}, the lease is {feed.lease_s} s")
    ends = [viewer.ended_at for viewer in viewers if viewer.ended_at is not None]
    if died and here.is_calm and ends and min(ends) > last.answered + feed.lease_s + LATE_S:
        fault = f"{min(ends) - last.answered:.2f} s after the last word of its writer"
        yield Violation("lease", feed.id, f"it ended {fault}, the lease is {feed.lease_s} s")


def _judge_deleted_feed(feed: LeasedFeed, log: Log) -> Iterator[Violation]:
    if feed.deleted is None:
        return
    if log:
        yield Violation("deletion", feed.id, f"it was deleted and holds {log[-3:]}")
    taken = [n for n, contact in feed.acked.items() if contact.sent > feed.deleted.answered]
    if taken:
        yield Violation("deletion", feed.id, f"{taken} were taken after its deletion")


def judge_deleted(answer: Answer, log: Log, statuses: Sequence[str]) -> Iterator[Violation]:
    """An answer whose deletion was taken, and what the front-ends report of it now."""
    if log:
        yield Violation("deletion", str(answer.id), f"it was deleted and holds {log[-3:]}")
    if wrong := sorted(set(statuses) - {"404"}):
        yield Violation("deletion", str(answer.id), f"it was deleted, and front-ends say {wrong}")


def judge_viewer_of_deleted(
    viewer: Viewer, answer: Answer | None, calls: Sequence[Call], *, stalled: bool
) -> Iterator[Violation]:
    """It has an end: that of the deletion, the stream's own, or that the stream is gone."""
    name = f"{viewer.name} ({viewer.dialect})"
    for fault in viewer.wrong:
        yield Violation("viewer", viewer.stream, f"{name} received {fault}")
    if viewer.wrong or viewer.has_left:
        return
    ending = viewer.fold.ending
    if viewer.ended_at is None or ending is None:
        yield Violation("viewer", viewer.stream, f"{name} never had an end, and its stream was deleted")
        return
    is_gone = ending.kind == "error" and (ending.code in GONE_CODES or "404" in viewer.fold.declared)
    if answer is None or is_gone or viewer.fold.declared:
        return  # a viewer that joined after the text was trimmed received a gap in its place
    is_whole = ending.kind == "finish"
    for fault in faults_of_text(answer, viewer.fold.text, calls, is_whole=is_whole):
        yield Violation("viewer", viewer.stream, f"{name} {fault}")
    if ending.kind == "error":
        yield from judge_ending(answer, ending, calls, stalled=stalled)
