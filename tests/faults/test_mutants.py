"""The table of mutants does not rot: each still takes away what it says, and its tests are there."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests.faults.mutants import ROOT, Mutant, mutated, read_mutants

MUTANTS = read_mutants()


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda each: f"{Path(each.file).name}-{each.name}")
def test_every_mutant_still_applies_and_its_tests_exist(mutant: Mutant) -> None:
    text = mutated(mutant)
    assert text != (ROOT / mutant.file).read_text("utf-8")
    if mutant.file.endswith(".py"):
        ast.parse(text)
    for test in mutant.tests:
        assert (ROOT / test.partition("::")[0]).is_file()


def test_no_two_mutants_of_a_file_have_one_name() -> None:
    names = [(mutant.file, mutant.name) for mutant in MUTANTS]
    assert len(set(names)) == len(names)
