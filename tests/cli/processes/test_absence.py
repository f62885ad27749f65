"""A package that is absent for a while."""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path

import pytest

from broadcaster.process.absence import absent

PACKAGE = "a_package_of_this_test"


@pytest.fixture(autouse=True)
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / f"{PACKAGE}.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(sys.modules, PACKAGE, sys)  # whatever is imported is removed after the test
    monkeypatch.delitem(sys.modules, PACKAGE)


def test_a_package_cannot_be_imported_while_it_is_absent_and_can_be_afterwards() -> None:
    with absent(PACKAGE), pytest.raises(ImportError):
        import_module(PACKAGE)
    assert import_module(PACKAGE).__name__ == PACKAGE


def test_a_package_is_back_after_an_import_has_failed() -> None:
    with pytest.raises(KeyError), absent(PACKAGE):
        raise KeyError
    assert import_module(PACKAGE).__name__ == PACKAGE


def test_a_package_that_is_imported_already_stays() -> None:
    imported = import_module(PACKAGE)
    with absent(PACKAGE):
        assert import_module(PACKAGE) is imported
    assert import_module(PACKAGE) is imported
