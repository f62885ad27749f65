"""All rules over all that was written down, and the report of it."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

from tests.hunt.clients.viewer import Viewer
from tests.hunt.judging.answers import (
    Answer,
    Judged,
    Log,
    Violation,
    ending_of,
    events_of,
    judge_calls,
    judge_ending,
    judge_log,
    judge_text,
    judge_viewer,
    text_of,
)
from tests.hunt.judging.feeds import judge_feed
from tests.hunt.system.servers import read_log
from tests.hunt.system.tools import ONCE
from tests.hunt.system.wire import Broken, call
from tests.hunt.world import World

TAKEOVER_S: Final = 3.0
GETS: Final = 3
UNAWARE_S: Final = 2.0


@dataclass
class Verdict:
    """What a hunt found."""

    lines: list[str]
    violations: list[Violation]
    faults: int


async def judge_all(world: World, settled_s: float) -> Verdict:
    """Read every log and judge everything."""
    violations = [*world.found, *(Violation("webhook", "-", words) for words in world.receiver.wrong)]
    logs: dict[str, Log] = {}
    watched = (viewer.stream for viewer in world.viewers)  # a key that was lost begins a second answer
    for stream in {*(each.id for each in world.answers if each.id), *(feed.id for feed in world.feeds), *watched}:
        logs[stream] = await read_log(world.servers, stream)
    for answer in world.answers:
        if answer.id is not None:
            violations += [*_judge_answer(world, answer, logs[answer.id])]
            violations += await _judge_gets(world, answer, logs[answer.id])
    for feed in world.feeds:
        log = logs[feed.id]
        if feed.is_closed and world.keeps_of(feed.id):
            violations += judge_log(feed.id, log)
        violations += [*judge_feed(feed, log, events_of(log), keeps=world.keeps_of(feed.id))]
    violations += [each for viewer in world.viewers for each in judge_viewer(viewer, _held(world, viewer, logs))]
    violations += [*_judge_tools(world)]
    late = _late_takeovers(world)
    lines = [*_counts(world, logs, settled_s), *late]
    await _write_down(world, logs, violations)
    return Verdict(lines, violations, len(world.windows))


def _held(world: World, viewer: Viewer, logs: dict[str, Log]) -> Judged:
    log = logs[viewer.stream]
    answer = next((each for each in world.answers if each.id == viewer.stream), None)
    return Judged(
        events_of(log),
        log,
        answer,
        world.provider.calls.get(answer.name, []) if answer is not None else [],
        keeps=world.keeps_of(viewer.stream),
        lost_at=world.lost_at_of(viewer.stream),
        is_trimmed=any(feed.id == viewer.stream and feed.is_trimmed for feed in world.feeds),
    )


def _judge_answer(world: World, answer: Answer, log: Log) -> Iterator[Violation]:
    stream = str(answer.id)
    keeps = world.keeps_of(stream)
    events = events_of(log)
    ending = ending_of(events)
    if not log and not keeps:
        return
    yield from judge_log(stream, log)
    if ending is None:
        yield Violation("ending", stream, f"it never ended; the last entries: {log[-2:]}")
        return
    calls = world.provider.calls.get(answer.name, [])
    yield from judge_text(answer, events, calls)
    if keeps:
        yield from judge_ending(answer, ending, calls, stalled=_was_stalled(world))
        yield from judge_calls(answer, calls, excused=_excused(world))
    yield from _judge_webhook(world, answer, events, keeps=keeps)


def _excused(world: World) -> list[tuple[float, float]]:
    """When a worker could not learn of a stop: it was frozen, or cut off from Redis."""
    return [(w.began, w.ended + UNAWARE_S) for w in world.windows if "worker" in w.name or "relay" in w.name]


def _was_stalled(world: World) -> bool:
    """Whether no worker may have been heard of for as long as it takes to give an answer up."""
    limit_s = world.setup.settings["stall_timeout_s"]
    return any(window.ended - window.began > limit_s for window in world.windows)


def _judge_webhook(world: World, answer: Answer, events: Sequence[Any], *, keeps: bool) -> Iterator[Violation]:
    stream = str(answer.id)
    taken = world.receiver.taken.get(stream, [])
    if not answer.wish.has_webhook or answer.wish.way not in ("generations", "stream"):
        if taken:
            yield Violation("webhook", stream, "a webhook that was not asked for")
        return
    # The queue's keys have a fate of their own: what is owed may be lost with another stream's loss.
    if not taken and world.keeps:
        yield Violation("webhook", stream, "its webhook never came")
    ending = ending_of(events)
    status = {"finish": "finished", "abort": "aborted", "error": "failed"}[ending.kind] if ending else None
    if len(world.receiver.ids.get(stream, {""})) > 1 and keeps:
        yield Violation("webhook", stream, f"it came under {world.receiver.ids[stream]}")
    for body in taken:
        data = body["data"]
        if keeps and (data["status"] != status or data["text"] != text_of(events)):
            yield Violation("webhook", stream, f"{data['status']} {data['text'][-200:]!r}, the log: {ending}")


async def _gets(world: World, stream: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for url in world.urls:
        for _ in range(GETS):
            try:
                reply = await call(url, "GET", f"/v1/generations/{stream}")
            except Broken:
                await asyncio.sleep(0.2)
                continue
            found[url] = reply.json if reply.status == 200 else {"status": str(reply.status), "text": reply.code}
            if reply.status == 200:
                break
    return found


async def _judge_gets(world: World, answer: Answer, log: Log) -> list[Violation]:
    """Every front-end says the same of an answer, and it is what the log says."""
    found = await _gets(world, str(answer.id))
    events = events_of(log)
    ending = ending_of(events)
    if ending is None or (not world.keeps_of(str(answer.id)) and not log):
        return []
    status = {"finish": "finished", "abort": "aborted", "error": "failed"}[ending.kind]
    expected = (status, text_of(events))
    said = {url: (view["status"], view["text"]) for url, view in found.items()}
    return [
        Violation("get", str(answer.id), f"{url} says {each[0]} {each[1][-200:]!r}, the log {status}")
        for url, each in said.items()
        if each != expected
    ]


def _judge_tools(world: World) -> Iterator[Violation]:
    runs = world.folder / "tool-runs"
    if not runs.exists() or not world.keeps:
        return
    counted = Counter(runs.read_text().splitlines())
    for line, count in counted.items():
        name, answer, key = line.split()
        if name == ONCE and count > 1:
            yield Violation("tool", answer, f"{name} ran {count} times under {key}")


def _late_takeovers(world: World) -> list[str]:
    """How long after a worker's death the next call of its answers began, where nothing else was wrong meanwhile."""
    lease_s = world.setup.settings["lease_ttl_s"]
    lines = []
    for killed in world.worker_kills:
        for name, calls in world.provider.calls.items():
            for before, after in pairwise(calls):
                if before.outcome != "closed by the worker" or not killed - 1 < before.ended < killed + 2:
                    continue
                took_s = after.began - killed
                others = [w for w in world.windows if w.began < after.began and w.ended > killed - lease_s]
                if took_s > lease_s + TAKEOVER_S and len(others) < 2:
                    lines.append(f"late: {name} went on {took_s:.1f} s after its worker's death (lease {lease_s} s)")
    return lines


def _counts(world: World, logs: dict[str, Log], settled_s: float) -> list[str]:
    ends: Counter[str] = Counter()
    for answer in world.answers:
        ending = ending_of(events_of(logs[answer.id])) if answer.id else None
        ends["unknown" if ending is None else " ".join(filter(None, ending))] += 1
    dialects = Counter(viewer.dialect for viewer in world.viewers)
    acked = sum(len(written.acked) for feed in world.feeds for written in feed.writers.values())
    calls = sum(map(len, world.provider.calls.values()))
    faults = {name: count for name, count in world.done.items() if name.startswith("fault ")}
    connections = sum(viewer.connections for viewer in world.viewers)
    deliveries = sum(viewer.blocks for viewer in world.viewers)
    return [
        f"answers {len(world.answers)} ({_told(ends)}), provider calls {calls}",
        f"histories {len(logs)} of {sum(map(len, logs.values()))} entries",
        f"viewers {len(world.viewers)} ({_told(dialects)}), connections {connections}, deliveries {deliveries}",
        f"feeds {len(world.feeds)}, acknowledged events {acked}; webhooks {len(world.receiver.taken)} taken, "
        f"{world.receiver.refused} refused",
        f"faults {sum(faults.values())}: {_told(faults)}",
        f"refused: {_told(world.refused) or 'nothing'}",
        f"settled after {settled_s:.1f} s; nothing acknowledged was lost: {world.keeps}",
    ]


def _told(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in sorted(counts.items()))


async def _write_down(world: World, logs: dict[str, Log], violations: Sequence[Violation]) -> None:
    """What a person needs to find the cause, one file for each stream that a violation names."""
    for stream in {violation.stream for violation in violations}:
        lines = [str(each) for each in violations if each.stream == stream]
        answers = [each for each in world.answers if stream in (each.id, each.name)]
        for answer in answers:
            lines += [f"{answer}", *map(str, world.provider.calls.get(answer.name, []))]
        lines += ["", "the log:", *(f"{id} {event.decode()[:400]}" for id, event in logs.get(stream, []))]
        for viewer in world.viewers:
            if viewer.stream == stream:
                lines += ["", f"{viewer.name} {viewer.dialect} {viewer.fold.ending} {viewer.fold.declared}"]
                lines += [f"shows {viewer.fold.text[-2000:]!r}", *viewer.wrong, *viewer.trace]
        lines += ["", "faults:", *(f"{w.began:.3f} to {w.ended:.3f} {w.name}" for w in world.windows)]
        await asyncio.to_thread(_path(world.folder, stream).write_text, "\n".join(lines))


def _path(folder: Path, stream: str) -> Path:
    safe = "".join(each if each.isalnum() or each in "-_" else "-" for each in stream)
    return folder / f"violation-{safe}.txt"
