"""Every block of code in the documents, also one that no test runs: it can be read, and what it imports exists.

A block that stands for the inside of a function may return and await. ``…`` stands for what a reader fills in.
"""

from __future__ import annotations

import ast
import json
import re
import subprocess
import textwrap
import tomllib
from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Final, NamedTuple

import pytest

from tests.support.documents import ROOT
from tests.support.servers.programs import find_program

OURS: Final = ("broadcaster", "worker")
PACKAGE: Final = ROOT / "clients" / "js"
DOCUMENTS: Final = sorted(
    path
    for pattern in ("*.md", "docs/*.md", "docs/guides/*.md", ".github/*.md", "clients/js/*.md")
    for path in ROOT.glob(pattern)
)
_BLOCK: Final = re.compile(r"^( *)```(\w+)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
_JS_IMPORT: Final = re.compile(r'^import (?:type )?\{([^}]*)\} from "(llm-broadcaster[\w./-]*)";?$', re.MULTILINE)


class ReadBlock(NamedTuple):
    """A block, its language, and the line of its document where it begins."""

    where: str
    language: str
    text: str


def blocks() -> Iterator[ReadBlock]:
    for path in DOCUMENTS:
        document = path.read_text("utf-8")
        for found in _BLOCK.finditer(document):
            line = document.count("\n", 0, found.start()) + 1
            where = f"{path.relative_to(ROOT)}:{line}"
            yield ReadBlock(where, found[2], textwrap.dedent(found[3]))


def python_of(text: str) -> ast.Module:
    """Raises SyntaxError."""
    body = textwrap.indent(text.replace("…", "..."), "    ")
    return ast.parse(f"async def block():\n{body}")


def read_python(text: str) -> None:
    """What it imports of ours exists, and so do the attributes that it takes from there."""
    tree = python_of(text)
    ours = dict(imported(tree))
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in ours:
            assert hasattr(ours[node.value.id], node.attr), ast.unparse(node)


def imported(tree: ast.Module) -> Iterator[tuple[str, object]]:
    """Name → what is imported from our packages. Raises ImportError or AttributeError for what is not there."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in OURS:
            for name in node.names:
                is_module = find_spec(f"{node.module}.{name.name}") if is_package(node.module or "") else None
                module = import_module(f"{node.module}.{name.name}" if is_module else node.module or "")
                yield name.asname or name.name, module if is_module else getattr(module, name.name)
        elif isinstance(node, ast.Import):
            for name in node.names:
                if name.name.split(".")[0] in OURS:
                    yield name.asname or name.name, import_module(name.name)


def is_package(module: str) -> bool:
    spec = find_spec(module)
    return spec is not None and spec.submodule_search_locations is not None


def read_json(text: str) -> None:
    """One value, or a line each."""
    try:
        json.loads(text)
    except json.JSONDecodeError:
        for line in text.strip().split("\n"):
            json.loads(line)


def read_shell(text: str) -> None:
    done = subprocess.run(["bash", "-n"], input=text, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, done.stderr


def read_javascript(text: str) -> None:
    imports = "".join(f"{line}\n" for line in text.split("\n") if line.startswith("import "))
    rest = "\n".join(line for line in text.split("\n") if not line.startswith(("import ", "export ")))
    for part in (text,) if "\nreturn " not in text else (imports, f"async function block() {{\n{rest}\n}}"):
        command = [find_program("node", remedy="sudo apt-get install nodejs"), "--input-type=module", "--check"]
        done = subprocess.run(command, input=part, capture_output=True, text=True, timeout=30, check=False)
        assert done.returncode == 0, done.stderr
    check_exports(text)


def check_exports(text: str) -> None:
    """What a block imports from the JavaScript client is exported there."""
    exports: Mapping[str, Any] = json.loads((PACKAGE / "package.json").read_text("utf-8"))["exports"]
    for names, module in _JS_IMPORT.findall(text):
        found = exports.get(module.replace("llm-broadcaster", ".", 1))
        assert found is not None, f"the package has no {module}"
        source = (PACKAGE / (found["default"] if isinstance(found, dict) else found)).read_text("utf-8")
        for name in names.split(","):
            known = (
                rf"export (?:async )?(?:function|const|class)\*? {name.strip()}\b|export \{{[^}}]*\b{name.strip()}\b"
            )
            assert not name.strip() or re.search(known, source), f"{module} exports no {name.strip()}"


READERS: Final[Mapping[str, Callable[[str], object]]] = {
    "python": read_python,
    "json": read_json,
    "toml": tomllib.loads,
    "sh": read_shell,
    "bash": read_shell,
    "js": read_javascript,
    "jsx": check_exports,
    "ts": check_exports,
    "tsx": check_exports,
}
# What is no program, or is one that a test runs: the guides' mark says so, and a guard holds them to it.
NOT_READ: Final = frozenset({"text", "console", "diff", "html", "nginx"})
BLOCKS: Final = list(blocks())


def test_every_block_is_of_a_language_that_is_read_here() -> None:
    assert {block.language for block in BLOCKS} <= READERS.keys() | NOT_READ
    assert len(BLOCKS) > 100


@pytest.mark.parametrize("block", [each for each in BLOCKS if each.language in READERS], ids=lambda each: each.where)
def test_a_block_can_be_read_and_what_it_imports_exists(block: ReadBlock) -> None:
    READERS[block.language](block.text)


def test_every_page_that_reads_an_event_source_notices_one_that_stopped_for_good() -> None:
    pages = [block for block in BLOCKS if "new EventSource(" in block.text and ".onmessage" in block.text]
    for path in (ROOT / "examples").rglob("*"):
        if path.suffix in (".html", ".py", ".md") and "node_modules" not in path.parts:
            text = path.read_text("utf-8")
            if "new EventSource(" in text:
                pages.append(ReadBlock(str(path.relative_to(ROOT)), "html", text))
    assert len(pages) >= 7
    assert [page.where for page in pages if "EventSource.CLOSED" not in page.text] == []


@pytest.mark.parametrize(
    ("language", "text"),
    [
        ("python", "from broadcaster import Broadcasts\n"),
        ("python", "from broadcaster import sync\nsync.Publishes\n"),
        ("python", "broadcaster = (\n"),
        ("js", 'import { watches } from "llm-broadcaster";\n'),
        ("js", "const a = ;\n"),
        ("jsx", 'import { useStream } from "llm-broadcaster/reacts";\n'),
        ("sh", "if true; do\n"),
        ("json", '{"a": }\n'),
    ],
)
def test_a_block_with_a_fault_is_found(language: str, text: str) -> None:
    with pytest.raises((AssertionError, AttributeError, SyntaxError, ValueError)):
        READERS[language](text)
