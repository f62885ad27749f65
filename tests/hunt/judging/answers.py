"""What must hold of every answer, whatever happened. The rules are those of docs and ARCHITECTURE, not of the code.

A judge is given what was written down: the log, the provider's calls, the viewers, the webhooks. ``keeps``: whether
Redis kept all that it acknowledged: if not, a viewer that received a gap is excused, and silence never is.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from tests.hunt.clients.folds import Ending, NativeFold
from tests.hunt.clients.viewer import Viewer
from tests.hunt.draw import Order
from tests.hunt.system.provider import TEXT_STEP, TOOL_STEP, Call
from tests.hunt.system.tools import ONCE

Log = Sequence[tuple[str, bytes]]
TERMINALS: Final = ("finish", "error", "abort")
_TOKEN: Final = re.compile(r"<([\w-]+)\.(\d+)\.(\d+)/(\d+)>x*")
# A worker that learns of a stop only now may have had a call on its way.
CALL_AFTER_STOP_S: Final = 2.0


class Violation(NamedTuple):
    """``rule`` was broken by ``stream``; ``fault`` describes how."""

    rule: str
    stream: str
    fault: str

    def __str__(self) -> str:
        return f"VIOLATION {self.rule} of {self.stream}: {self.fault}"


@dataclass
class Answer:
    """One answer that was requested: everything known about it from outside."""

    name: str
    order: Order
    id: str | None = None
    began: float = field(default_factory=time.monotonic)
    stop_requested: bool = False
    stop_acked: float | None = None
    deleted_at: float | None = None  # when the deletion was taken


class Token(NamedTuple):
    """A delta that a text holds."""

    answer: str
    call: int
    at: int
    total: int


def tokens_of(text: str) -> list[Token] | None:
    """The deltas of a text; None: it holds something else."""
    found = []
    end = 0
    for match in _TOKEN.finditer(text):
        if match.start() != end:
            return None
        answer, call, at, total = match.groups()
        found.append(Token(answer, int(call), int(at), int(total)))
        end = match.end()
    return found if end == len(text) else None


def events_of(log: Log) -> list[Any]:
    """The log's events as JSON."""
    return [json.loads(event) for _, event in log]


def text_of(events: Sequence[Any]) -> str:
    """The text of the newest attempt."""
    text = ""
    for event in events:
        if event["type"] == "attempt":
            text = ""
        elif event["type"] == "text-delta":
            text += event["delta"]
    return text


def ending_of(events: Sequence[Any]) -> Ending | None:
    """How the log ends; None: it does not."""
    if not events or events[-1]["type"] not in TERMINALS:
        return None
    last = events[-1]
    return Ending(last["type"], last.get("code", last.get("reason", "")))


def judge_log(stream: str, log: Log) -> Iterator[Violation]:
    """Dense numbers, rising ids, one terminal event, last."""
    ids = [tuple(map(int, id.split("-"))) for id, _ in log]
    for at, (epoch, seq) in enumerate(ids):
        if seq != ids[0][1] + at or (at and epoch < ids[at - 1][0]):
            yield Violation("dense", stream, f"{epoch}-{seq} stands at place {at + 1} of {ids[:1]}…{ids[-1:]}")
            break
    ends = [at for at, event in enumerate(events_of(log)) if event["type"] in TERMINALS]
    if ends != [len(log) - 1]:
        yield Violation("one terminal event", stream, f"terminal events at {ends} of {len(log)} entries")


def judge_text(answer: Answer, events: Sequence[Any], calls: Sequence[Call]) -> Iterator[Violation]:
    """The text of the log is whole where the log is finished."""
    is_whole = events[-1]["type"] == "finish"
    for fault in faults_of_text(answer, text_of(events), calls, is_whole=is_whole):
        yield Violation("text", answer.id or answer.name, fault)


def faults_of_text(answer: Answer, text: str, calls: Sequence[Call], *, is_whole: bool) -> Iterator[str]:
    """The text is that of calls of this answer, a step after the other; only the last one may be torn, unless whole."""
    tokens = tokens_of(text)
    if tokens is None:
        yield f"foreign text: {text[:300]!r}…{text[-300:]!r}"
        return
    runs: list[list[Token]] = []
    for token in tokens:
        if token.answer != answer.name:
            yield f"a delta of another answer: {token}"
            return
        if not runs or runs[-1][0].call != token.call:
            runs.append([])
        runs[-1].append(token)
    for number, run in enumerate(runs):
        must_be_whole = is_whole or number < len(runs) - 1
        places = [token.at for token in run]
        if places != list(range(len(run))) or (must_be_whole and len(run) != run[0].total):
            yield f"call {run[0].call} has the deltas {places} of {run[0].total}"
    steps = [calls[run[0].call - 1].step for run in runs]
    expected = [TEXT_STEP] if answer.order.plan.tool is None else [TOOL_STEP, TEXT_STEP]
    if steps != expected[: len(steps)] or (is_whole and steps != expected):
        yield f"the steps are {steps}"


def judge_ending(answer: Answer, ending: Ending, calls: Sequence[Call], *, stalled: bool) -> Iterator[Violation]:
    """An end has a cause: a stop, an abandonment, a provider, a loss that the caller did not want repaired."""
    stream, order = answer.id or answer.name, answer.order
    if ending.kind == "abort":
        allowed = {"stopped": answer.stop_requested, "abandoned": is_abandonable(order)}
        if not allowed.get(ending.code, False):
            yield Violation("ending", stream, f"{ending} without a cause")
    if ending.kind == "error":
        has_trouble = any(call.outcome not in ("whole", "closed by the worker", "cancelled") for call in calls)
        causes = {
            "provider_": has_trouble,
            "worker_lost": order.fields.get("on_worker_loss") == "fail" or stalled,
            "tool_outcome_unknown": order.plan.tool == ONCE,
        }
        if not any(ending.code.startswith(code) and holds for code, holds in causes.items()):
            yield Violation("ending", stream, f"{ending} without a cause; calls: {[call.outcome for call in calls]}")
    if ending.kind == "finish" and any(call.outcome == "whole" for call in calls):
        return
    if ending.kind == "finish":
        yield Violation("ending", stream, f"finished without a whole call: {[call.outcome for call in calls]}")


def is_abandonable(order: Order) -> bool:
    """Whether an answer may end because it has no viewers."""
    by_default = {"chat", "messages", "ai-sdk", "ag-ui"}
    return order.way in by_default or order.fields.get("on_abandon") == "cancel"


def judge_calls(
    answer: Answer, calls: Sequence[Call], *, excused: Sequence[tuple[float, float]]
) -> Iterator[Violation]:
    """No call of the provider begins after a stop that was acknowledged."""
    stream = answer.id or answer.name
    for call in calls:
        if answer.stop_acked is None or call.began < answer.stop_acked + CALL_AFTER_STOP_S:
            continue
        if any(began <= call.began <= ended for began, ended in excused):
            continue
        after_s = call.began - answer.stop_acked
        yield Violation("stop", stream, f"call {call.number} began {after_s:.2f} s after the stop was taken")


class Judged(NamedTuple):
    """What a viewer is held against. ``answer`` and its calls: None of a feed. ``lost_at``: Redis forgot until then.
    ``has_lease``: a process ends the stream although its last writer is gone."""

    events: Sequence[Any]
    log: Log
    answer: Answer | None
    calls: Sequence[Call]
    keeps: bool
    lost_at: float
    is_trimmed: bool
    has_lease: bool = True


def judge_viewer(viewer: Viewer, held: Judged) -> Iterator[Violation]:
    """What a viewer shows is what the log holds, and it ends as the log does."""
    name = f"{viewer.name} ({viewer.dialect})"
    for fault in viewer.wrong:
        yield Violation("viewer", viewer.stream, f"{name} received {fault}")
    is_forgotten = not held.keeps and held.answer is None and not held.log
    # Redis lost the closing of a feed whose writers are gone: without a lease no process ends it.
    is_left_open = not held.keeps and not held.has_lease and ending_of(held.events) is None
    if viewer.wrong or viewer.has_left or is_forgotten or is_left_open:
        return
    if viewer.ended_at is None or viewer.fold.ending is None:
        yield Violation("viewer", viewer.stream, f"{name} never had an end; the log: {ending_of(held.events)}")
        return
    declared = viewer.fold.declared
    if not held.keeps and (declared or viewer.post is not None):
        return  # it was reported; and a key that was lost begins another answer
    if set(declared) - ({"trimmed"} if held.is_trimmed else set()):
        yield Violation("viewer", viewer.stream, f"{name} received a gap of {declared}, and nothing was lost")
    if viewer.ended_at > held.lost_at:
        faults = _against_log(viewer, viewer.fold.ending, held)
    elif held.answer is not None:
        is_whole = viewer.fold.ending.kind == "finish"
        faults = faults_of_text(held.answer, viewer.fold.text, held.calls, is_whole=is_whole)
    else:
        return
    for fault in faults:
        yield Violation("viewer", viewer.stream, f"{name} {fault}")


def _against_log(viewer: Viewer, ending: Ending, held: Judged) -> Iterator[str]:
    shown, expected = viewer.fold.text, text_of(held.events)
    if shown != expected:
        yield f"shows {shown[-300:]!r}, the log has {expected[-300:]!r}"
    of_log = ending_of(held.events)
    if of_log is not None and ending.kind != of_log.kind:
        yield f"ended with {ending}, the log with {of_log}"
    if viewer.is_native_throughout and isinstance(viewer.fold, NativeFold):
        received = [(f"{epoch}-{seq}", event) for epoch, seq, event in viewer.fold.entries]
        stored = [(id, event) for (id, _), event in zip(held.log, held.events, strict=True)]
        count = min(len(received), len(stored)) if held.is_trimmed else len(stored)
        if received[-count:] != stored[-count:] or (len(received) < len(stored) and not viewer.fold.declared):
            yield f"has {len(received)} entries, not those of the log"
