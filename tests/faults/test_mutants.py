"""The table of mutants does not rot: each still takes away what it names, and its tests exist."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Sequence
from operator import itemgetter
from pathlib import Path

import pytest

from tests.faults.mutants import ROOT, Mutant, first_red, mutated, noticed, read_mutants, read_record, write_record

MUTANTS = read_mutants()


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda each: f"{Path(each.file).name}-{each.name}")
def test_every_mutant_still_applies_and_its_tests_exist(mutant: Mutant) -> None:
    text = mutated(mutant)
    assert text != (ROOT / mutant.file).read_text("utf-8")
    if mutant.file.endswith(".py"):
        ast.parse(text)
    for test in mutant.tests:
        assert (ROOT / test.partition("::")[0]).is_file()


def test_every_recorded_test_is_still_collected_under_its_id() -> None:
    """Otherwise a run of mutants stops: pytest cannot run a test that is not there."""
    recorded = set(read_record().values())
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider"]
    files = sorted({test.partition("::")[0] for test in recorded})
    done = subprocess.run([*command, *files], cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert sorted(recorded - set(done.stdout.split("\n"))) == [], done.stdout[-300:] + done.stderr[-300:]


def _sources(mutant: Mutant) -> str:
    return "".join((ROOT / test.partition("::")[0]).read_text("utf-8") for test in mutant.tests)


@pytest.mark.parametrize(
    "only", sorted({(each.only, _sources(each)) for each in MUTANTS if each.only}), ids=itemgetter(0)
)
def test_every_word_that_selects_tests_is_in_the_name_of_one(only: tuple[str, str]) -> None:
    words, source = only
    names = re.findall(r"def (test_\w+)", source)
    for word in set(re.findall(r"\w+", words)) - {"and", "or", "not"}:
        assert any(word in name for name in names), word


def test_no_two_mutants_of_a_file_have_one_name() -> None:
    names = [(mutant.file, mutant.name) for mutant in MUTANTS]
    assert len(set(names)) == len(names)


def test_the_first_red_one_is_named_whole_and_only_when_it_is_red_twice(tmp_path: Path) -> None:
    name = "tests/test_it.py::test_it[in brackets - and on]"
    runs = iter(
        [
            (1, "tests/test_it.py::test_first PASSED [ 30%]\ntests/test_it.py::test_other FAILED [ 60%]\n"),
            (0, "tests/test_it.py::test_other PASSED [100%]\n"),
            (1, f"{name} FAILED                  [  9%]\n"),
            (1, f"{name} FAILED                  [100%]\n"),
        ]
    )
    requested: list[Sequence[str]] = []

    def run(folder: Path, tests: Sequence[str]) -> tuple[int, str]:
        requested.append(tests)
        return next(runs)

    assert first_red(tmp_path, ["tests"], run=run) == (name, "")
    assert requested[1:] == [
        ["tests/test_it.py::test_other"],
        ["tests", "--deselect=tests/test_it.py::test_other"],
        [name],
    ]


@pytest.mark.parametrize("code", [-1, 2, 4, 5])
def test_a_test_that_cannot_be_rerun_is_not_red(tmp_path: Path, code: int) -> None:
    runs = iter([(1, "tests/test_it.py::test_it ERROR [100%]\n"), (code, "nothing ran")])
    red, detail = first_red(tmp_path, ["tests"], run=lambda *_: next(runs))
    assert (red, detail) == (None, f"pytest ended with {code} for tests/test_it.py::test_it: nothing ran")


def test_a_red_test_is_found_in_the_output_of_pytest(tmp_path: Path) -> None:
    test = 'import pytest\n@pytest.mark.parametrize("it", ["a - b"])\ndef test_it(it):\n    assert not it\n'
    (tmp_path / "test_it.py").write_text(test, "utf-8")
    assert first_red(tmp_path, ["test_it.py"]) == ("test_it.py::test_it[a - b]", "")


MUTANT = Mutant("a guard", "a.py", "old", "new", ("tests/test_it.py",))


def test_the_recorded_test_is_tried_first_and_alone(tmp_path: Path) -> None:
    requested: list[Sequence[str]] = []

    def run(folder: Path, tests: Sequence[str]) -> tuple[int, str]:
        requested.append(tests)
        return 1, "tests/test_it.py::test_it FAILED [100%]\n"

    assert noticed(tmp_path, MUTANT, "tests/test_it.py::test_it", run=run) == ("tests/test_it.py::test_it", "")
    assert requested == [["tests/test_it.py::test_it"]]


@pytest.mark.parametrize("code", [0, 4], ids=["it stays green", "it is gone"])
def test_all_tests_are_tried_when_the_recorded_one_is_not_red(tmp_path: Path, code: int) -> None:
    red = (1, "tests/test_it.py::test_other FAILED [100%]\n")
    runs = iter([(code, ""), red, red])
    found, _ = noticed(tmp_path, MUTANT, "tests/test_it.py::test_it", run=lambda *_: next(runs))
    assert found == "tests/test_it.py::test_other"


def test_a_record_keeps_only_mutants_of_the_table(tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    assert read_record(path) == {}
    write_record({MUTANT.key: "tests/test_it.py::test_it", "b.py: gone": "tests/test_it.py::test_it"}, [MUTANT], path)
    assert read_record(path) == {MUTANT.key: "tests/test_it.py::test_it"}
