"""The plots: well-formed, every point inside the picture, axes with labels."""

from __future__ import annotations

import re
from itertools import pairwise
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.svg import HEIGHT, WIDTH, Axis, Line, Plot, draw, draw_bars

SVG = "{http://www.w3.org/2000/svg}"
POSITIVE = st.floats(0.001, 1e7)


def plot(*lines: Line, log: bool = True) -> Plot:
    return Plot("CPU per delivery", Axis("viewers", log=log), Axis("us"), lines)


def texts(svg: str) -> list[str]:
    return [each.text or "" for each in ElementTree.fromstring(svg).iter(f"{SVG}text")]


@given(st.lists(st.tuples(POSITIVE, POSITIVE), min_size=1, max_size=20), st.booleans())
def test_every_point_lies_inside_the_picture(points: list[tuple[float, float]], is_log: bool) -> None:
    tree = ElementTree.fromstring(draw(plot(Line("ours", points), log=is_log)))
    circles = [(float(each.attrib["cx"]), float(each.attrib["cy"])) for each in tree.iter(f"{SVG}circle")]
    assert len(circles) == len(points)
    assert all(0 <= x <= WIDTH and 0 <= y <= HEIGHT for x, y in circles)


def test_a_larger_value_lies_further_right_and_higher() -> None:
    tree = ElementTree.fromstring(draw(plot(Line("ours", [(10, 5), (100, 6), (1000, 9)]))))
    circles = [(float(each.attrib["cx"]), float(each.attrib["cy"])) for each in tree.iter(f"{SVG}circle")]
    assert circles == sorted(circles, key=lambda place: (place[0], -place[1]))
    # Decades are as wide as each other.
    assert circles[1][0] - circles[0][0] == pytest.approx(circles[2][0] - circles[1][0], abs=0.2)


def test_axes_and_lines_are_named_and_ticks_are_round() -> None:
    shown = texts(draw(plot(Line("ours", [(10, 12.3), (10_000, 9)]), Line("floor", [(10, 8), (10_000, 7.9)]))))
    assert {"CPU per delivery", "viewers", "us", "ours", "floor"} <= set(shown)
    assert [each for each in shown if re.fullmatch(r"[\d .]+", each)] == [
        *("0", "2.5", "5", "7.5", "10", "12.5"),
        *("10", "100", "1 000", "10 000"),
    ]


def test_names_of_lines_that_end_together_do_not_lie_on_each_other() -> None:
    svg = draw(plot(*(Line(name, [(1, 5), (10, 5)]) for name in ("ours", "floor", "nchan"))))
    tree = ElementTree.fromstring(svg)
    heights = sorted(
        float(each.attrib["y"]) for each in tree.iter(f"{SVG}text") if each.text in ("ours", "floor", "nchan")
    )
    assert all(later - earlier >= 12 for earlier, later in pairwise(heights))


def test_markup_in_a_label_is_escaped() -> None:
    assert "<b> & co" in texts(draw(plot(Line("<b> & co", [(1, 1)]))))


def test_a_plot_of_nothing_and_a_zero_on_a_logarithmic_axis_are_refused() -> None:
    with pytest.raises(ValueError, match="needs a point"):
        draw(plot(Line("ours", [])))
    with pytest.raises(ValueError, match="no place for 0"):
        draw(plot(Line("ours", [(0, 1)])))


def test_bars_are_as_long_as_their_values_and_stand_in_their_order() -> None:
    svg = draw_bars("CPU", {"floor": 5.0, "ours": 6.0, "naive": 100.0})
    widths = [float(each.attrib["width"]) for each in ElementTree.fromstring(svg).iter(f"{SVG}rect")][1:]
    assert widths[0] / widths[2] == pytest.approx(0.05, abs=0.001)
    assert texts(svg) == ["CPU", "floor", "5", "ours", "6", "naive", "100"]


def test_bars_of_nothing_are_refused() -> None:
    with pytest.raises(ValueError, match="above 0"):
        draw_bars("CPU", {"ours": 0.0})
