"""Figures that fault tests measure, and the table of them."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Figures:
    """Values by name. ``unit`` is given once per name: another one is a mistake."""

    units: dict[str, str] = field(default_factory=dict)
    values: dict[str, list[float]] = field(default_factory=dict)

    def add(self, name: str, value: float, unit: str) -> None:
        """One measurement."""
        if self.units.setdefault(name, unit) != unit:
            raise ValueError(f"{name} is measured in {self.units[name]}, not in {unit}")
        self.values.setdefault(name, []).append(value)

    def merge(self, other: Mapping[str, Any]) -> None:
        """Take what ``dump`` of another process gave."""
        for name, (unit, values) in other.items():
            for value in values:
                self.add(name, value, unit)

    def dump(self) -> dict[str, Any]:
        """Everything, in plain types."""
        return {name: [self.units[name], values] for name, values in self.values.items()}

    def rows(self) -> Iterator[dict[str, Any]]:
        """A row per name: n, p50, p99, max."""
        for name, values in self.values.items():
            yield {
                "name": name,
                "unit": self.units[name],
                "n": len(values),
                "p50": _percentile(values, 50),
                "p99": _percentile(values, 99),
                "max": max(values),
            }

    def table(self) -> list[str]:
        """Lines for people."""
        rows = [
            (row["name"], str(row["n"]), *(f"{row[key]:.3g} {row['unit']}" for key in ("p50", "p99", "max")))
            for row in self.rows()
        ]
        rows.insert(0, ("figure", "n", "p50", "p99", "max"))
        widths = [max(len(row[column]) for row in rows) for column in range(5)]
        return ["  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]

    def json_lines(self) -> str:
        """A line per name."""
        return "".join(json.dumps(row) + "\n" for row in self.rows())


def _percentile(values: Sequence[float], percent: int) -> float:
    """The smallest value that so many percent do not exceed."""
    return sorted(values)[max(0, math.ceil(len(values) * percent / 100) - 1)]
