"""Plots as SVG, written by hand: lines over two axes, each linear or logarithmic, and bars. Pure; no library.

text = draw(Plot("CPU per delivery", x=Axis("viewers", log=True), y=Axis("us"), lines=[Line("ours", points)]))
text = draw_bars("CPU us per delivery", {"floor": 8.8, "ours": 9.1})
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final
from xml.sax.saxutils import escape

Point = tuple[float, float]

WIDTH: Final = 720
HEIGHT: Final = 400
_LEFT: Final = 64
_RIGHT: Final = 130  # room for the lines' names
_TOP: Final = 44
_BOTTOM: Final = 52
_BAR_LEFT: Final = 150
_BAR: Final = 22
_BAR_STEP: Final = 34
_TICKS: Final = 5
# Distinguishable without colours too: by their names at the end of each line.
_COLOURS: Final = ("#0b6e4f", "#c1121f", "#3a5a98", "#b07d00", "#6a4c93", "#555555")
_GRID: Final = "#dddddd"
_INK: Final = "#222222"
_FEWEST_NAME_GAP: Final = 15


@dataclass(frozen=True, slots=True)
class Axis:
    """What runs along it, with its unit."""

    label: str
    log: bool = False


@dataclass(frozen=True, slots=True)
class Line:
    """A name and its points, in the order of x."""

    name: str
    points: Sequence[Point]


@dataclass(frozen=True, slots=True)
class Plot:
    """One picture."""

    title: str
    x: Axis
    y: Axis
    lines: Sequence[Line]


def draw(plot: Plot) -> str:
    """The picture. Raises ValueError when no line has a point, or one cannot stand on a logarithmic axis."""
    points = [point for line in plot.lines for point in line.points]
    if not points:
        raise ValueError("a plot needs a point")
    across = _Scale.of(plot.x, (x for x, _ in points), (_LEFT, WIDTH - _RIGHT))
    up = _Scale.of(plot.y, (y for _, y in points), (HEIGHT - _BOTTOM, _TOP))
    return _picture(plot.title, HEIGHT, [*_grid(plot, across, up), *_lines(plot, across, up)])


def draw_bars(title: str, values: Mapping[str, float]) -> str:
    """A bar for each name, in their order, from 0 to its value. Raises ValueError when there is none above 0."""
    most = max(values.values(), default=0.0)
    if most <= 0:
        raise ValueError("bars need a value above 0")
    parts = []
    for number, (name, value) in enumerate(values.items()):
        y = _TOP + number * _BAR_STEP
        width = round(value / most * (WIDTH - _BAR_LEFT - _RIGHT), 1)
        colour = _COLOURS[number % len(_COLOURS)]
        parts.append(_text(name, _BAR_LEFT - 8, y + _BAR / 2 + 4, anchor="end"))
        parts.append(f'<rect x="{_BAR_LEFT}" y="{y}" width="{width}" height="{_BAR}" fill="{colour}"/>')
        parts.append(_text(f"{value:.3g}", _BAR_LEFT + width + 8, y + _BAR / 2 + 4, weight="600"))
    return _picture(title, _TOP + len(values) * _BAR_STEP, parts)


def _picture(title: str, height: int, parts: Iterable[str]) -> str:
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img" '
        f'aria-label="{escape(title, _QUOTES)}" font-family="system-ui, sans-serif" font-size="12">',
        f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>',
        _text(title, _LEFT, 24, size=15, weight="600"),
        *parts,
        "</svg>",
    ]
    return "\n".join(lines) + "\n"


@dataclass(frozen=True, slots=True)
class _Scale:
    """Values on an axis to places in the picture."""

    least: float
    most: float
    begin: float
    end: float
    log: bool

    @classmethod
    def of(cls, axis: Axis, values: Iterable[float], places: tuple[float, float]) -> _Scale:
        found = list(values)
        if axis.log:
            if min(found) <= 0:
                raise ValueError(f"{axis.label}: a logarithmic axis has no place for {min(found):g}")
            least = 10.0 ** math.floor(math.log10(min(found)))
            most = 10.0 ** math.ceil(math.log10(max(found)))
            return cls(least, most if most > least else 10 * least, *places, True)
        step = _step(max(found) or 1.0)
        return cls(0.0, step * math.ceil((max(found) or 1.0) / step), *places, False)

    def place(self, value: float) -> float:
        change: Callable[[float], float] = math.log10 if self.log else float
        share = (change(value) - change(self.least)) / (change(self.most) - change(self.least))
        return round(self.begin + share * (self.end - self.begin), 1)

    def ticks(self) -> list[float]:
        if self.log:
            decades = round(math.log10(self.most / self.least))
            return [self.least * 10.0**number for number in range(decades + 1)]
        step = _step(self.most)
        return [step * number for number in range(round(self.most / step) + 1)]


def _step(most: float) -> float:
    """A round distance of ticks, about five up to ``most``."""
    raw = most / _TICKS
    power = 10.0 ** math.floor(math.log10(raw))
    return next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= raw * 0.999)


def _grid(plot: Plot, across: _Scale, up: _Scale) -> list[str]:
    parts = []
    for value in up.ticks():
        y = up.place(value)
        parts.append(f'<path d="M{across.begin} {y}H{across.end}" stroke="{_GRID}"/>')
        parts.append(_text(_number(value), _LEFT - 8, y + 4, anchor="end"))
    for value in across.ticks():
        x = across.place(value)
        parts.append(f'<path d="M{x} {up.begin}v5" stroke="{_INK}"/>')
        parts.append(_text(_number(value), x, up.begin + 20, anchor="middle"))
    middle = (across.begin + across.end) / 2
    parts.append(f'<path d="M{across.begin} {up.begin}H{across.end}" stroke="{_INK}"/>')
    parts.append(_text(plot.x.label, middle, HEIGHT - 12, anchor="middle"))
    parts.append(_text(plot.y.label, _LEFT, _TOP - 6, anchor="start"))
    return parts


def _lines(plot: Plot, across: _Scale, up: _Scale) -> list[str]:
    parts, names = [], []
    for number, line in enumerate(line for line in plot.lines if line.points):
        colour = _COLOURS[number % len(_COLOURS)]
        places = [(across.place(x), up.place(y)) for x, y in line.points]
        path = "L".join(f"{x} {y}" for x, y in places)
        parts.append(f'<path d="M{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts += [f'<circle cx="{x}" cy="{y}" r="3" fill="{colour}"/>' for x, y in places]
        names.append((places[-1][1], places[-1][0], line.name, colour))
    last = -math.inf
    for y, x, name, colour in sorted(names):
        last = max(y, last + _FEWEST_NAME_GAP)  # names never lie on each other
        parts.append(_text(name, x + 8, last + 4, colour=colour, weight="600"))
    return parts


_QUOTES: Final = {'"': "&quot;"}


def _text(
    text: str,
    x: float,
    y: float,
    *,
    anchor: str = "start",
    size: int = 12,
    weight: str = "400",
    colour: str = _INK,
) -> str:
    return (
        f'<text x="{x:g}" y="{y:g}" text-anchor="{anchor}" font-size="{size}" font-weight="{weight}" '
        f'fill="{colour}">{escape(text)}</text>'
    )


def _number(value: float) -> str:
    """As people write it: 10 000, 0.5."""
    return f"{value:,.0f}".replace(",", " ") if value >= 1 and value == round(value) else f"{value:g}"
