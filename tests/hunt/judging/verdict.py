"""All rules over all that was written down, and the report of it."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tests.hunt.clients.traffic import MOST_OPEN
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
from tests.hunt.judging.leases import LATE_S, Circumstances, judge_deleted, judge_leased, judge_viewer_of_deleted
from tests.hunt.judging.takeovers import late_takeovers
from tests.hunt.system.lag import MOST_LAG_S
from tests.hunt.system.servers import read_log
from tests.hunt.system.tools import ONCE
from tests.hunt.system.wire import Broken, call
from tests.hunt.world import World

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
    violations = [*world.found, *(Violation("webhook", "-", fault) for fault in world.receiver.wrong)]
    logs: dict[str, Log] = {}
    watched = (viewer.stream for viewer in world.viewers)  # a key that was lost begins a second answer
    for stream in {
        *(each.id for each in world.answers if each.id),
        *(feed.id for feed in world.feeds),
        *(feed.id for feed in world.leased),
        *watched,
    }:
        logs[stream] = await read_log(world.servers, stream)
    for answer in world.answers:
        if answer.id is not None and answer.id in world.forgotten:
            violations += await _judge_deletion(world, answer, logs[answer.id])
        elif answer.id is not None:
            violations += [*_judge_answer(world, answer, logs[answer.id])]
            violations += await _judge_gets(world, answer, logs[answer.id])
    for feed in world.feeds:
        log = logs[feed.id]
        if feed.is_closed and world.keeps_of(feed.id):
            violations += judge_log(feed.id, log)
        violations += [*judge_feed(feed, log, events_of(log), keeps=world.keeps_of(feed.id))]
    violations += [each for viewer in world.viewers for each in _judge_viewer(world, viewer, logs)]
    violations += [*_judge_tools(world)]
    violations += [*_judge_leases(world, logs)]
    late, too_late = _judge_takeovers(world)
    violations += too_late
    lines = [*_counts(world, logs, settled_s), *late, str(world.lag)]
    await _write_down(world, logs, violations)
    return Verdict(lines, violations, len(world.windows))


def _judge_viewer(world: World, viewer: Viewer, logs: dict[str, Log]) -> Iterator[Violation]:
    held = _held(world, viewer, logs)
    if viewer.stream in world.forgotten:
        yield from judge_viewer_of_deleted(viewer, held.answer, held.calls, stalled=_was_stalled(world))
    else:
        yield from judge_viewer(viewer, held)


async def _judge_deletion(world: World, answer: Answer, log: Log) -> list[Violation]:
    if answer.deleted_at is None or not world.keeps_of(str(answer.id)):
        return []
    statuses = [view["status"] for view in (await _gets(world, str(answer.id))).values()]
    calls = world.provider.calls.get(answer.name, [])
    found = judge_calls(answer, calls, excused=_excused(world))
    return [*judge_deleted(answer, log, statuses), *found]


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
        has_lease=all(feed.id != viewer.stream for feed in world.feeds),
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
    """Whether no worker may have renewed for as long as it takes to give an answer up."""
    limit_s = world.setup.settings["stall_timeout_s"]
    return any(window.ended - window.began > limit_s for window in world.windows)


def _judge_webhook(world: World, answer: Answer, events: Sequence[Any], *, keeps: bool) -> Iterator[Violation]:
    stream = str(answer.id)
    taken = world.receiver.taken.get(stream, [])
    if not answer.order.has_webhook or answer.order.way not in ("generations", "stream"):
        if taken:
            yield Violation("webhook", stream, "a webhook that was not asked for")
        return
    # The queue's keys have a fate of their own: a pending webhook may be lost with another stream's loss.
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
    """Every front-end reports the same of an answer, and it is what the log holds."""
    found = await _gets(world, str(answer.id))
    events = events_of(log)
    ending = ending_of(events)
    if ending is None or (not world.keeps_of(str(answer.id)) and not log):
        return []
    status = {"finish": "finished", "abort": "aborted", "error": "failed"}[ending.kind]
    expected = (status, text_of(events))
    views = {url: (view["status"], view["text"]) for url, view in found.items()}
    return [
        Violation("get", str(answer.id), f"{url} says {each[0]} {each[1][-200:]!r}, the log {status}")
        for url, each in views.items()
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


def _judge_takeovers(world: World) -> tuple[list[str], list[Violation]]:
    """Lines of those that came late, and violations where nothing else was the cause."""
    settings = world.setup.settings
    late = late_takeovers(
        world.worker_kills,
        world.provider.calls,
        world.windows,
        world.lag,
        lease_s=settings["lease_ttl_s"],
        has_room=settings["concurrency"] > MOST_OPEN,
    )
    lines, violations = [], []
    for each in late:
        lines.append(f"late: {each.answer}: {each}; the lease is {settings['lease_ttl_s']} s")
        if not each.causes:
            violations.append(Violation("take-over", each.answer, str(each)))
    return lines, violations


def _judge_leases(world: World, logs: dict[str, Log]) -> Iterator[Violation]:
    is_steady = not any(window.name.startswith("clock") for window in world.windows)
    for feed in world.leased:
        viewers = [viewer for viewer in world.viewers if viewer.stream == feed.id]
        since = feed.contacts[-1].answered if feed.contacts else feed.began
        until = since + feed.lease_s + LATE_S
        is_calm = not any(w.began < until and w.ended > since - feed.lease_s for w in world.windows)
        is_calm &= world.lag.longest(since, until) < MOST_LAG_S
        here = Circumstances(world.keeps_of(feed.id), is_steady, is_calm)
        yield from judge_leased(feed, logs[feed.id], viewers, here)


def _counts(world: World, logs: dict[str, Log], settled_s: float) -> list[str]:
    ends: Counter[str] = Counter()
    for answer in world.answers:
        ending = ending_of(events_of(logs[answer.id])) if answer.id else None
        ends["unknown" if ending is None else " ".join(filter(None, ending))] += 1
    dialects = Counter(viewer.dialect for viewer in world.viewers)
    acked = sum(len(written.acked) for feed in world.feeds for written in feed.writers.values())
    calls = sum(map(len, world.provider.calls.values()))
    faults = {name: count for name, count in world.done.items() if name.startswith("fault ")}
    leases = {name.split()[1]: count for name, count in world.done.items() if name.startswith("lease ")}
    connections = sum(viewer.connections for viewer in world.viewers)
    deliveries = sum(viewer.blocks for viewer in world.viewers)
    return [
        f"answers {len(world.answers)} ({_counted(ends)}), provider calls {calls}",
        f"histories {len(logs)} of {sum(map(len, logs.values()))} entries",
        f"viewers {len(world.viewers)} ({_counted(dialects)}), connections {connections}, deliveries {deliveries}",
        f"feeds {len(world.feeds)}, acknowledged events {acked}; webhooks {len(world.receiver.taken)} taken, "
        f"{world.receiver.refused} refused",
        f"leases {_counted(leases)}; deletions {world.done['deletions']}",
        f"faults {sum(faults.values())}: {_counted(faults)}",
        f"refused: {_counted(world.refused) or 'nothing'}",
        f"settled after {settled_s:.1f} s; nothing acknowledged was lost: {world.keeps}",
    ]


def _counted(counts: dict[str, int]) -> str:
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
