"""The arithmetic of a run: rows, medians over rounds, ratios between servers. Pure."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from bench.yardstick import NAME as YARDSTICK

Values = Mapping[str, float]

_US_PER_S: Final = 1e6


@dataclass(frozen=True, slots=True)
class Row:
    """One measurement: a server in one case of a scenario, once. The unit of a value is in its name."""

    scenario: str
    case: str
    server: str
    round: int
    values: Values
    faults: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Cell:
    """The rounds of one server in one case: the median of each value, its least and its most."""

    values: Values
    least: Values
    most: Values
    rounds: int
    faults: tuple[str, ...] = ()


Key = tuple[str, str, str]
"""Scenario, case, server."""


@dataclass(slots=True)
class Table:
    """Everything measured, by scenario, case and server."""

    rows: list[Row] = field(default_factory=list)

    def add(self, row: Row) -> None:
        """Take one more row."""
        self.rows.append(row)

    def cells(self) -> dict[Key, Cell]:
        """All rounds of each key, joined, in the order in which the keys came."""
        grouped: dict[Key, list[Row]] = {}
        for row in self.rows:
            grouped.setdefault((row.scenario, row.case, row.server), []).append(row)
        return {key: join(rows) for key, rows in grouped.items()}

    def value(self, key: Key, name: str) -> float | None:
        """The median; None when it was not measured."""
        return self.cells().get(key, _EMPTY).values.get(name)

    def at_best_speed(self, key: Key, name: str) -> float | None:
        """The median of what each round would have measured at the best speed that the machine had in the run.

        A round whose speed is not known counts as it is; None when nothing was measured.
        """
        best = min((row.values[YARDSTICK] for row in self.rows if YARDSTICK in row.values), default=0.0)
        found = [
            row.values[name] * (best / row.values[YARDSTICK] if YARDSTICK in row.values else 1.0)
            for row in self.rows
            if (row.scenario, row.case, row.server) == key and name in row.values
        ]
        return statistics.median(found) if found else None

    def ratio(self, name: str, key: Key, *, to: Key) -> float | None:
        """One median over another; None when either is missing or the second is 0."""
        above, below = self.value(key, name), self.value(to, name)
        return None if above is None or not below else above / below


_EMPTY: Final = Cell({}, {}, {}, 0)


def join(rows: Sequence[Row]) -> Cell:
    """The rounds of one key as one cell; a value that some rounds lack is joined over the others."""
    names = dict.fromkeys(name for row in rows for name in row.values)
    columns = {name: [row.values[name] for row in rows if name in row.values] for name in names}
    return Cell(
        {name: statistics.median(column) for name, column in columns.items()},
        {name: min(column) for name, column in columns.items()},
        {name: max(column) for name, column in columns.items()},
        len(rows),
        tuple(dict.fromkeys(fault for row in rows for fault in row.faults)),
    )


def per_us(seconds: float, count: float) -> float:
    """Seconds spread over ``count``, in microseconds each; 0 when there is nothing to spread them over."""
    return seconds * _US_PER_S / count if count else 0.0


def quantile(values: Iterable[float], share: float) -> float:
    """The value below which ``share`` (0 to 1) of all lie, by nearest rank. Raises ValueError when there is none."""
    ordered = sorted(values)
    if not ordered:
        raise ValueError("no values")
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def spread(counts: Sequence[int]) -> float:
    """How far the fullest or emptiest is from the mean, as a share of it; 0: all alike."""
    mean = sum(counts) / len(counts)
    return max(abs(count - mean) for count in counts) / mean if mean else 0.0
