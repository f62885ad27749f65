"""Small habits that no linter knows: each prevents a failure that is found late."""

import ast
import re
from collections.abc import Iterator

import pytest

from broadcaster.log.redis.scripts import SCRIPTS
from tests.guards.source import ROOT, Function, Module, files_git_would_track, functions, modules, parse

# Spelled in two pieces, so that this file does not break its own rule.
REGISTRY_HOSTS = ("pypi" + ".org", "python" + "hosted", "npm" + "js", "deb." + "debian")
# What users run or read.
SHIPPED = ("broadcaster", "worker", "examples")
LATE_IMPORT_REASON = re.compile(r"# noqa: PLC0415\W+\w+ \w+")


def test_no_sse_text_is_cut_with_splitlines() -> None:
    # It also cuts at U+2028, U+0085 and others, which may stand inside a line of SSE or JSON.
    offences = [offence for module in modules(*SHIPPED) for offence in splitlines_uses(module)]
    assert not offences, "\n".join(offences)


def test_no_task_is_started_and_forgotten() -> None:
    # The loop keeps only a weak reference to a task, and its failure would go unseen.
    offences = [offence for module in modules(*SHIPPED) for offence in forgotten_tasks(module)]
    assert not offences, "\n".join(offences)


def test_every_import_inside_a_function_gives_its_reason() -> None:
    offences = [offence for module in modules(*SHIPPED) for offence in late_imports(module)]
    assert not offences, "\n".join(offences)


def test_every_lua_script_opens_by_naming_its_keys_and_arguments() -> None:
    scripts = sorted((ROOT / "broadcaster").rglob("*.lua"))
    offences = [str(path.relative_to(ROOT)) for path in scripts if not names_keys_and_argv(path.read_text())]
    assert not offences, "\n".join(offences)


def test_every_script_is_run_and_every_one_that_is_run_exists() -> None:
    run = {name for module in modules("broadcaster") for name in re.findall(r'SCRIPTS\["(\w+)"\]', module.text)}
    assert run == set(SCRIPTS)


def test_no_file_names_a_package_registry() -> None:
    # A checkout must install from whatever registry or mirror its machine is set up for.
    offences = []
    for path in files_git_would_track():
        content = path.read_bytes().lower()
        offences += [f"{path.relative_to(ROOT)}: {host}" for host in REGISTRY_HOSTS if host.encode() in content]
    assert not offences, "\n".join(offences)


def test_everything_public_in_core_and_log_has_a_docstring() -> None:
    sources = modules("broadcaster/core", "broadcaster/log")
    offences = [offence for module in sources for offence in undocumented(module)]
    assert not offences, "\n".join(offences)


def splitlines_uses(module: Module) -> Iterator[str]:
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Attribute) and node.attr == "splitlines":
            yield f"{module.at(node)}: splitlines"


def forgotten_tasks(module: Module) -> Iterator[str]:
    """Tasks whose handle is thrown away; a task group holds its own."""
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Expr) or (isinstance(node, ast.Assign) and _is_underscore(node.targets)):
            call = node.value
            if isinstance(call, ast.Call) and _starts_task(ast.unparse(call.func)):
                yield f"{module.at(node)}: {ast.unparse(call.func)}"


def late_imports(module: Module) -> Iterator[str]:
    """Imports inside functions without `# noqa: PLC0415` and a reason of two words or more after it."""
    inside = (node for function, _ in functions(module) for node in ast.walk(function))
    for node in inside:
        if isinstance(node, ast.Import | ast.ImportFrom):
            text = "\n".join(module.lines[node.lineno - 1 : node.end_lineno])
            if not LATE_IMPORT_REASON.search(text):
                yield f"{module.at(node)}: {ast.unparse(node)}"


def names_keys_and_argv(script: str) -> bool:
    """Whether the comment that opens the script names both."""
    opening = re.match(r"(?:[ \t]*--[^\n]*\n)*", script)
    comment = opening[0] if opening else ""
    return "KEYS" in comment and "ARGV" in comment


def undocumented(module: Module) -> Iterator[str]:
    """The module itself, its public classes and its public functions; methods are described by their class."""
    if not ast.get_docstring(module.tree):
        yield f"{module.path}:1: the module"
    for node in module.tree.body:
        if isinstance(node, ast.ClassDef | Function) and not (node.name.startswith("_") or ast.get_docstring(node)):
            yield f"{module.at(node)}: {node.name}"


def _is_underscore(targets: list[ast.expr]) -> bool:
    return all(isinstance(target, ast.Name) and target.id == "_" for target in targets)


def _starts_task(called: str) -> bool:
    owner, _, name = called.rpartition(".")
    is_loop = owner in ("", "asyncio") or owner.removesuffix("()").lower().endswith("loop")
    return name == "ensure_future" or (name == "create_task" and is_loop)


@pytest.mark.parametrize(
    ("source", "offences"),
    [
        ("asyncio.create_task(run())", 1),
        ("_ = asyncio.create_task(run())", 1),
        ("asyncio.get_running_loop().create_task(run())", 1),
        ("self._loop.create_task(run())", 1),
        ("asyncio.ensure_future(run())", 1),
        ("task = asyncio.create_task(run())", 0),
        ("tasks.add(asyncio.create_task(run()))", 0),
        ("group.create_task(run())", 0),
    ],
)
def test_the_task_guard_distinguishes_a_kept_task_from_a_forgotten_one(source: str, offences: int) -> None:
    assert len(list(forgotten_tasks(parse(source)))) == offences


@pytest.mark.parametrize(
    ("source", "offences"),
    [
        ("import a", 0),
        ("def f():\n    import a", 1),
        ("def f():\n    import a  # noqa: PLC0415", 1),
        ("def f():\n    import a  # noqa: PLC0415 - an optional extra", 0),
        ("def f():\n    from a import (  # noqa: PLC0415 - an optional extra\n        b,\n    )", 0),
    ],
)
def test_the_import_guard_wants_a_reason(source: str, offences: int) -> None:
    assert len(list(late_imports(parse(source)))) == offences


def test_the_docstring_guard_sees_modules_classes_and_functions() -> None:
    source = 'class A:\n    def method(self): ...\ndef b(): ...\ndef _private(): ...\nasync def c():\n    """Told."""'
    assert [offence.rpartition(" ")[2] for offence in undocumented(parse(source))] == ["module", "A", "b"]


@pytest.mark.parametrize(
    ("script", "is_named"),
    [
        ("-- Append.\n-- KEYS 1 stream\n-- ARGV 1 epoch\nlocal x = 1\n", True),
        ("-- Append.\n-- KEYS 1 stream\nlocal x = ARGV[1]\n", False),
        ("local x = 1\n-- KEYS and ARGV\n", False),
    ],
)
def test_the_script_guard_reads_the_opening_comment_alone(script: str, is_named: bool) -> None:
    assert names_keys_and_argv(script) is is_named


def test_the_splitlines_guard_sees_calls_and_references() -> None:
    assert len(list(splitlines_uses(parse("a.splitlines()\nmap(str.splitlines, b)")))) == 2
