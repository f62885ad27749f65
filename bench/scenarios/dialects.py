"""Every dialect beside ``native``: CPU of a delivery, memory of idle and of stalled viewers, on one front-end.

A dialect's frames are encoded once for each stream and event. With many viewers on a stream that is nothing; with two,
as most answers have, it is most of what a dialect adds. So both are measured.
"""

from __future__ import annotations

import itertools
from functools import partial
from typing import Final, Protocol

from bench.measuring import Traffic, fan_out, publish
from bench.plan import Outcome, Site, Step
from bench.scenarios.holding import hold, stall
from bench.servers import Ours

NATIVE: Final = "native"
OTHERS: Final = ("ai-sdk", "openai-chat", "openai-responses", "anthropic", "ag-ui")
CPU_OF: Final = "dialects"
IDLE: Final = "dialects, idle"
STALLED: Final = "dialects, stalled"
MANY: Final = "many viewers of a stream"
FEW: Final = "two viewers each"
A_FIFTH: Final = "a fifth stalled"

_VIEWERS_OF_A_STREAM: Final = 2
_RATE: Final = 20.0
_FEW_DELIVERIES_PER_S: Final = 16_000.0  # the dialect that costs the most stays below a full core
_EVENTS_BEFORE: Final = 20  # of each stream: an idle viewer waits in the midst of an answer
_EXPECTS_S: Final = 6.0
_RUNS: Final = itertools.count()  # runs never share a stream


class _Run(Protocol):
    """Measures one dialect in one case."""

    def __call__(self, site: Site, server: Ours, *, dialect: str, run: str) -> Outcome: ...


def by_dialect(site: Site) -> list[Step]:
    """All dialects of a round, then the next round, so that each is beside ``native``; stalled viewers in one round."""
    rounds = site.size.rounds
    cases: tuple[tuple[str, str, _Run, int], ...] = (
        (CPU_OF, MANY, _to_many, rounds),
        (CPU_OF, FEW, _to_few, rounds),
        (IDLE, FEW, _idle, rounds),
        (STALLED, A_FIFTH, _stalled, 1),
    )
    return [
        Step(scenario, case, name, number, partial(_measure, site, name, run), expects_s=_EXPECTS_S)
        for scenario, case, run, count in cases
        for number in range(count)
        for name in (NATIVE, *OTHERS)
        if site.yard.known("ours")
    ]


def _measure(site: Site, dialect: str, run: _Run) -> Outcome:
    server = site.yard.get("ours")
    assert isinstance(server, Ours)
    return run(site, server, dialect=dialect, run=f"dialects-{next(_RUNS)}")


def _to_many(site: Site, server: Ours, *, dialect: str, run: str) -> Outcome:
    traffic = Traffic(site.size.viewers, 1, _RATE, site.size.seconds, settle_s=site.size.settle_s)
    return fan_out(site.bench, server.speaking(dialect), traffic, run=run)


def _to_few(site: Site, server: Ours, *, dialect: str, run: str) -> Outcome:
    viewers = site.size.streams * _VIEWERS_OF_A_STREAM
    rate = min(_RATE * site.size.streams, _FEW_DELIVERIES_PER_S / _VIEWERS_OF_A_STREAM)
    traffic = Traffic(viewers, site.size.streams, rate, site.size.seconds, settle_s=site.size.settle_s)
    return fan_out(site.bench, server.speaking(dialect), traffic, run=run)


def _idle(site: Site, server: Ours, *, dialect: str, run: str) -> Outcome:
    streams = site.size.streams
    target = server.publish_to(run, streams)
    words = ["--streams", str(streams), "--rate", "0", "--count", str(_EVENTS_BEFORE * streams)]
    publish(site.bench, [*target, *words], timeout_s=_EXPECTS_S)
    server.restart()  # memory that earlier viewers have left free would not grow
    return hold(site, server.speaking(dialect), run, viewers=streams * _VIEWERS_OF_A_STREAM, streams=streams)


def _stalled(site: Site, server: Ours, *, dialect: str, run: str) -> Outcome:
    return stall(site, server.speaking(dialect), run)
