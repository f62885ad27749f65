"""The project's files as the guards see them: read and parsed once, and named so that a failure can be clicked."""

import ast
import gc
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Module:
    """One Python file."""

    path: str
    text: str

    @cached_property
    def tree(self) -> ast.Module:
        # Python 3.11's parser fails with SystemError when a collection runs finalizers in the middle of it.
        gc.disable()
        try:
            return ast.parse(self.text)
        finally:
            gc.enable()

    @property
    def name(self) -> str:
        """The name by which it is imported."""
        return self.path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")

    @property
    def lines(self) -> list[str]:
        return self.text.split("\n")

    def at(self, node: ast.stmt | ast.expr) -> str:
        return f"{self.path}:{node.lineno}"


@cache
def read(path: Path) -> Module:
    return Module(str(path.relative_to(ROOT)), path.read_text(encoding="utf-8"))


def parse(text: str, path: str = "example.py") -> Module:
    return Module(path, text)


def modules(*folders: str) -> list[Module]:
    """Every Python file under the folders, tracked or not yet."""
    return [read(path) for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]


def functions(module: Module) -> Iterator[tuple[Function, bool]]:
    """Every function of a module, with whether its first parameter is the object or class it is called on."""
    for parent in ast.walk(module.tree):
        for node in ast.iter_child_nodes(parent):
            if isinstance(node, Function):
                yield node, isinstance(parent, ast.ClassDef) and not _is_static(node)


def files_git_would_track() -> list[Path]:
    """Tracked files, and new ones that nothing ignores; skips the test outside a git checkout."""
    git = shutil.which("git")
    if git is None or not (ROOT / ".git").exists():
        pytest.skip("not a git checkout: the files of the project are not known")
    command = [git, "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    paths = (ROOT / name for name in listed.split("\0") if name)
    return [path for path in paths if path.is_file()]


def _is_static(node: Function) -> bool:
    return any(isinstance(decorator, ast.Name) and decorator.id == "staticmethod" for decorator in node.decorator_list)
