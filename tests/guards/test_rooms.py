"""Rooms stay small, and no import turns back."""

import ast
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from graphlib import CycleError, TopologicalSorter

import grimp

from tests.guards.source import ROOT, Module, files_git_would_track, modules, parse

FOLDER_LIMIT_FILES = 15
PACKAGES = ("broadcaster", "worker")


def test_no_folder_holds_more_than_fifteen_files() -> None:
    counted = Counter(path.parent.relative_to(ROOT) for path in files_git_would_track())
    rooms = {folder: count for folder, count in counted.items() if folder.parts and folder.parts[0] in PACKAGES}
    assert rooms
    crowded = [f"{folder}: {count} files" for folder, count in rooms.items() if count > FOLDER_LIMIT_FILES]
    assert not crowded, "\n".join(crowded)


def test_no_modules_import_each_other_in_a_circle() -> None:
    graph = grimp.build_graph(*PACKAGES, cache_dir=None, exclude_type_checking_imports=True)
    imports = {module: set(graph.find_modules_directly_imported_by(module)) for module in graph.modules}
    for module in modules(*PACKAGES):
        imports[module.name] |= graph.modules & set(imports_by_name(module))
    assert circle_in(imports) == []


def imports_by_name(module: Module) -> Iterator[str]:
    """The modules that it gives to ``import_module``, which an import linter does not see."""
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module"):
            yield from (
                each.value for each in node.args if isinstance(each, ast.Constant) and isinstance(each.value, str)
            )


def circle_in(imports: Mapping[str, Iterable[str]]) -> list[str]:
    """One circle of imports, its first module repeated at its end; empty: there is none."""
    try:
        TopologicalSorter({module: set(imported) for module, imported in imports.items()}).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def test_the_circle_guard_finds_a_circle() -> None:
    assert circle_in({"a": ["b"], "b": ["c"], "c": []}) == []
    assert set(circle_in({"a": ["b"], "b": ["c"], "c": ["a"]})) == {"a", "b", "c"}


def test_the_circle_guard_sees_modules_that_are_imported_by_name() -> None:
    named = imports_by_name(parse("importlib.import_module('a.b').c; import_module('d'); import_module(e)"))
    assert sorted(named) == ["a.b", "d"]
