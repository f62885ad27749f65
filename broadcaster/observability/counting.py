"""Plain counts of the rooms: what they add to while they work, and what a scrape reads.

A room keeps its counts in its own objects, as integers, ``Counter`` and ``Buckets``. Nothing here locks, formats or
knows a metric's name: adding costs a tenth of a microsecond. The composition roots know which counts become which
metrics (``metrics.py``).
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final, NamedTuple, TypeAlias

SHORT_S: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
"""Bounds for what should take milliseconds: deliveries, probes, appends, turns of the loop."""
LONG_S: Final = (0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 900.0, 1800.0)
"""Bounds for what a provider, a queue or a person waits for."""
PER_S: Final = (1.0, 2.0, 5.0, 10.0, 20.0, 35.0, 50.0, 75.0, 100.0, 150.0, 200.0, 350.0, 500.0, 1000.0)
"""Bounds for tokens a second."""


class Buckets:
    """A histogram: how many values were at most each bound, and their sum."""

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = tuple(bounds)
        self.counts = [0] * (len(self.bounds) + 1)
        self.sum = 0.0

    def observe(self, value: float) -> None:
        """Count one value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value

    @property
    def count(self) -> int:
        """How many values were counted."""
        return sum(self.counts)


class BucketsBy(dict[tuple[str, ...], Buckets]):
    """Histograms by the values of their labels; each is made at its first value."""

    def __init__(self, bounds: Sequence[float]) -> None:
        super().__init__()
        self._bounds = tuple(bounds)

    def __missing__(self, labels: tuple[str, ...]) -> Buckets:
        made = self[labels] = Buckets(self._bounds)
        return made


class Reading(NamedTuple):
    """One value of a metric now: its name, its value, and the values of its labels in the metric's order."""

    metric: str
    value: float | Buckets
    labels: tuple[str, ...] = ()


Source: TypeAlias = Callable[[], Iterable[Reading]]
"""Reads counts. It is called on the event loop at every scrape, and must not wait."""


def counted(metric: str, counts: Mapping[str, float]) -> Iterable[Reading]:
    """The readings of a metric with one label."""
    return [Reading(metric, value, (label,)) for label, value in counts.items()]


def counted_by(
    metric: str, counts: Mapping[tuple[str, ...], float] | Mapping[tuple[str, ...], Buckets]
) -> Iterable[Reading]:
    """The readings of a metric with several labels."""
    return [Reading(metric, value, labels) for labels, value in counts.items()]
