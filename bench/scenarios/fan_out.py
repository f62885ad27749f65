"""W1 and W2: events as they come, to one stream's many viewers and to many streams' few."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Final, NamedTuple

from bench.measuring import Traffic, fan_out
from bench.plan import Outcome, Site, Step

_VIEWERS_OF_A_STREAM: Final = 2
W2_RATE: Final = 20.0
_START_S: Final = 2.5


class _Load(NamedTuple):
    viewers: int
    streams: int
    rate: float  # events a second of each stream


def w1(site: Site) -> list[Step]:
    """Rates that a server carries without batching, then more than any can write one by one.

    Naive servers, Centrifugo and those of node are in the first rate only, and are offered no more than they carry.
    """
    size = site.size
    steps: list[Step] = []
    for rate in size.rates:
        slower = ("centrifugo", "naive") if rate == size.rates[0] else ()
        once = ("better-sse",) if slower else ()
        names = ("floor", "ours", "nchan", *slower)
        steps += _rounds(site, "w1", _Load(size.viewers, 1, rate), names=names, once=once)
    # The floor does not batch: it would only fill its memory.
    return steps + _rounds(site, "w1", _Load(size.viewers, 1, size.overload_rate), names=("ours", "nchan"))


def w2(site: Site) -> list[Step]:
    """As many streams as W1 has viewers, each with two."""
    load = _Load(site.size.streams * _VIEWERS_OF_A_STREAM, site.size.streams, W2_RATE)
    names, once = ("floor", "ours", "nchan", "centrifugo", "naive"), ("better-sse", "resumable-stream")
    return _rounds(site, "w2", load, names=names, once=once)


def _rounds(site: Site, scenario: str, load: _Load, *, names: Sequence[str], once: Sequence[str] = ()) -> list[Step]:
    """All servers of a round, then the next round; those of ``once`` are in the first alone."""
    return [
        _step(site, name, number, scenario=scenario, load=load)
        for number in range(site.size.rounds)
        for name in site.yard.known(*names, *(() if number else once))
    ]


def _step(site: Site, name: str, number: int, *, scenario: str, load: _Load) -> Step:
    return Step(
        scenario,
        case_of(load.rate),
        name,
        number,
        partial(_run, site, name, f"{scenario}-{load.rate:g}-{number}", load=load),
        expects_s=site.size.seconds + _START_S,
    )


def case_of(rate: float) -> str:
    """A rate as the tables name it."""
    return f"{rate:g} events/s"


def _run(site: Site, name: str, run: str, *, load: _Load) -> Outcome:
    server = site.yard.get(name)
    offered = min(load.rate, server.carries / load.viewers)
    traffic = Traffic(
        viewers=load.viewers,
        streams=load.streams,
        rate=offered * load.streams,
        seconds=site.size.seconds,
        settle_s=site.size.settle_s,
    )
    values, faults = fan_out(site.bench, server, traffic, run=run)
    return {**values, "rate_per_stream": offered}, faults
