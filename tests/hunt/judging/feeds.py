"""What must hold of every feed: each acknowledged event once, each writer's in its order, nothing twice."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from tests.hunt.clients.feeds import EVENT, HuntedFeed
from tests.hunt.judging.answers import Log, Violation


def judge_feed(feed: HuntedFeed, log: Log, events: Sequence[Any], *, keeps: bool) -> Iterator[Violation]:
    """All writers of one feed."""
    for fault in feed.wrong:
        yield Violation("feed", feed.id, fault)
    places: dict[str, list[tuple[int, str]]] = {}
    reported_dropped = 0
    for (id, _), event in zip(log, events, strict=True):
        if event["type"] == EVENT:
            places.setdefault(event["data"]["w"], []).append((event["data"]["n"], id))
        elif event["type"] == "data-dropped":
            reported_dropped += event["data"]["events"]
    for writer, written in feed.writers.items():
        there = places.pop(writer, [])
        numbers = [n for n, _ in there]
        if doubles := [n for n, count in Counter(numbers).items() if count > 1]:
            yield Violation("feed", feed.id, f"{writer} has {doubles} twice")
        if numbers != sorted(numbers):
            yield Violation("feed", feed.id, f"{writer} is out of order: {numbers}")
        missing = sorted(written.acked.keys() - set(numbers))
        if missing and keeps and not feed.is_trimmed:
            yield Violation("feed", feed.id, f"{writer} received ids of {missing}, which are not there")
        moved = [(n, id, written.acked[n]) for n, id in there if written.acked.get(n) not in (None, "", id)]
        if moved and keeps:
            yield Violation("feed", feed.id, f"{writer}: not at the ids that the writer received: {moved[:5]}")
        if written.dropped > reported_dropped and keeps:
            yield Violation("feed", feed.id, f"{writer} dropped {written.dropped}, the stream says {reported_dropped}")
        if invented := sorted(set(numbers) - written.acked.keys() - written.unknown):
            yield Violation("feed", feed.id, f"{writer} never wrote {invented}")
    if places:
        yield Violation("feed", feed.id, f"unknown writers: {sorted(places)}")
