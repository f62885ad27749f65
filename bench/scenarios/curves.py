"""How cost grows: one thing varied, the rest held where no server is near its limit."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Final

from bench.measuring import Traffic, fan_out
from bench.plan import ON_PRIMARIES, Outcome, Site, Step

NAMES: Final = ("floor", "ours", "nchan")

_DELIVERIES_PER_S: Final = 20_000.0
_MOST_RATE: Final = 20.0
_STREAM_DELIVERIES_PER_S: Final = 8_000.0
_PRIMARIES_RATE: Final = 20.0
_RATE_VIEWERS: Final = 200
_START_S: Final = 3.0


def by_viewers(site: Site) -> list[Step]:
    """One stream; 20 events a second, fewer where that would be over 20 000 deliveries a second."""
    points = ((count, 1, min(_MOST_RATE, _DELIVERIES_PER_S / count)) for count in site.size.viewer_curve)
    return _steps(
        site, "viewers", ((count, Traffic(count, streams, rate, site.size.seconds)) for count, streams, rate in points)
    )


def by_streams(site: Site) -> list[Step]:
    """One viewer each; 20 events a second and stream, fewer where that would be over 8 000 deliveries a second."""
    rates = ((count, min(_MOST_RATE * count, _STREAM_DELIVERIES_PER_S)) for count in site.size.stream_curve)
    return _steps(site, "streams", ((count, Traffic(count, count, rate, site.size.seconds)) for count, rate in rates))


def by_primaries(site: Site) -> list[Step]:
    """Streams with two viewers each, whose logs lie on one, two and three primaries of a cluster."""
    streams = site.size.generations
    traffic = Traffic(2 * streams, streams, _PRIMARIES_RATE * streams, site.size.seconds)
    return [
        Step(
            "primaries",
            name.rpartition("-")[2],
            name,
            number,
            partial(_run, site, name, traffic, run=f"primaries-{number}", at=float(name.rpartition("-")[2])),
            expects_s=site.size.seconds + _START_S,
        )
        for number in range(site.size.rounds)
        for name in site.yard.known(*ON_PRIMARIES)
    ]


def by_rate(site: Site) -> list[Step]:
    """One stream with 200 viewers."""
    return _steps(
        site, "rate", ((rate, Traffic(_RATE_VIEWERS, 1, rate, site.size.seconds)) for rate in site.size.rate_curve)
    )


def _steps(site: Site, scenario: str, points: Iterable[tuple[float, Traffic]]) -> list[Step]:
    return [
        Step(
            scenario,
            f"{at:g}",
            name,
            0,
            partial(_run, site, name, traffic, run=f"{scenario}-{at:g}", at=at),
            expects_s=site.size.seconds + _START_S,
        )
        for at, traffic in points
        for name in site.yard.known(*NAMES)
    ]


def _run(site: Site, name: str, traffic: Traffic, *, run: str, at: float) -> Outcome:
    values, faults = fan_out(site.bench, site.yard.get(name), traffic, run=run)
    return {**values, "at": at}, faults
