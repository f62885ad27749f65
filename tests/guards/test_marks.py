"""Marks take no test away: what one command leaves out, another one runs."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def recipe(target: str) -> str:
    """The commands of a target of the Makefile."""
    found = re.search(rf"^{target}:.*\n((?:\t.*\n)+)", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)
    assert found
    return found[1]


def variable(name: str) -> str:
    """What the Makefile sets it to."""
    (value,) = re.findall(rf"^{name} := (.*)$", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)
    return str(value)


def folders_with(mark: str) -> set[str]:
    """The folders of ``tests`` in which a test bears the mark."""
    paths = [path for path in (ROOT / "tests").rglob("test_*.py") if f"mark.{mark}" in path.read_text("utf-8")]
    return {path.relative_to(ROOT / "tests").parts[0] for path in paths} - {"guards"}


def test_tests_that_make_test_leaves_out_are_run_by_make_compat_make_faults_or_make_release() -> None:
    assert 'not thorough"' in recipe("test")
    assert "thorough" not in recipe("faults")
    assert "tests.compat" in recipe("compat")
    assert "tests.release" in recipe("release")
    [chosen] = re.findall(r"-m thorough((?: tests/\w+)+)", recipe("compat"))
    run = {"compat", "release", *re.findall(r"tests/(\w+)", recipe("faults") + chosen)}
    assert folders_with("thorough") <= run


def test_tests_that_run_alone_are_run_by_make_test() -> None:
    assert "$(WAITING) -m alone tests/log" in recipe("test")
    assert folders_with("alone") == {"log"}


def test_the_first_part_of_make_test_ignores_only_folders_that_another_part_or_command_runs() -> None:
    assert variable("NOT_NOW") == "$(addprefix --ignore=,$(LATER) tests/guards tests/frameworks)"
    # Where the engine is another one nothing is run later, and nothing is ignored for it.
    assert variable("LATER") == "$(if $(filter valkey,$(ENGINE)),tests/e2e tests/faults)"
    assert '-m "not thorough" $(LATER))' in recipe("test")
    assert "check-guards" in variable("CHECKS")
    assert "tests/guards" in recipe("check-guards")
    assert "tests.frameworks" in recipe("compat")


def test_make_check_runs_every_check() -> None:
    makefile = (ROOT / "Makefile").read_text("utf-8")
    assert sorted(variable("CHECKS").split()) == sorted(re.findall(r"^(check-\w+):", makefile, re.MULTILINE))
    assert "$(CHECKS)" in recipe("check")


def test_the_table_of_marks_has_every_mark() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    marks = {line.partition(":")[0] for line in project["tool"]["pytest"]["ini_options"]["markers"]}
    section = (ROOT / "tests/README.md").read_text("utf-8").partition("## Marks")[2].partition("\n## ")[0]
    assert set(re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE)) == marks
