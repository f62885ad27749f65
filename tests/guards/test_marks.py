"""Marks take no test away: what one command leaves out, another one runs."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def recipe(target: str) -> str:
    """The commands of a target of the Makefile."""
    found = re.search(rf"^{target}:.*\n((?:\t.*\n)+)", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)
    assert found
    return found[1]


def folders_with(mark: str) -> set[str]:
    """The folders of ``tests`` in which a test bears the mark."""
    paths = [path for path in (ROOT / "tests").rglob("test_*.py") if f"mark.{mark}" in path.read_text("utf-8")]
    return {path.relative_to(ROOT / "tests").parts[0] for path in paths} - {"guards"}


def test_tests_that_make_test_leaves_out_are_run_by_make_compat_or_make_faults() -> None:
    assert 'not thorough"' in recipe("test")
    assert "thorough" not in recipe("faults")
    assert "tests.compat" in recipe("compat")
    [chosen] = re.findall(r"-m thorough((?: tests/\w+)+)", recipe("compat"))
    run = {"compat", *re.findall(r"tests/(\w+)", recipe("faults") + chosen)}
    assert folders_with("thorough") <= run


def test_tests_that_run_alone_are_run_by_make_test() -> None:
    assert "-m alone tests/log" in recipe("test")
    assert folders_with("alone") == {"log"}


@pytest.mark.parametrize("folder", ["e2e", "faults", "guards", "frameworks"])
def test_a_folder_that_the_first_part_of_make_test_ignores_has_a_command(folder: str) -> None:
    assert f"tests/{folder}" in recipe("test") + recipe("check") or f"tests.{folder}" in recipe("compat")


def test_the_first_part_of_make_test_ignores_nothing_else() -> None:
    (ignored,) = re.findall(
        r"^NOT_NOW := \$\(addprefix --ignore=tests/,(.*)\)$", (ROOT / "Makefile").read_text(), re.MULTILINE
    )
    assert ignored.split() == ["e2e", "faults", "guards", "frameworks"]


def test_the_table_of_marks_has_every_mark() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    marks = {line.partition(":")[0] for line in project["tool"]["pytest"]["ini_options"]["markers"]}
    section = (ROOT / "tests/README.md").read_text("utf-8").partition("## Marks")[2].partition("\n## ")[0]
    assert set(re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE)) == marks
