"""Files, functions and signatures stay small enough to read in one go."""

import ast
from collections.abc import Iterable, Iterator

import pytest

from tests.guards.source import Module, functions, modules, parse

FILE_LIMIT_LINES = 400
BODY_LIMIT_LINES = 50
POSITIONAL_LIMIT = 3
SHIPPED = ("broadcaster", "worker", "bench", "examples")


def test_no_file_is_longer_than_400_lines() -> None:
    lengths = {module.path: module.text.count("\n") for module in modules(*SHIPPED, "tests")}
    too_long = [f"{path}: {length} lines" for path, length in lengths.items() if length > FILE_LIMIT_LINES]
    assert not too_long, "\n".join(too_long)


def test_every_function_body_is_shorter_than_50_lines() -> None:
    too_long = [offence for module in modules(*SHIPPED) for offence in long_bodies(module)]
    assert not too_long, "\n".join(too_long)


def test_no_function_takes_more_than_three_positional_parameters() -> None:
    sources = modules(*SHIPPED)
    annotated = annotated_aliases(sources)
    too_many = [offence for module in sources for offence in wide_signatures(module, annotated)]
    assert not too_many, "\n".join(too_many)


def long_bodies(module: Module) -> Iterator[str]:
    """Bodies at or over the limit, from the first statement after the docstring to the last line."""
    for function, _ in functions(module):
        body = function.body[1:] if ast.get_docstring(function) is not None else function.body
        length = (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0
        if length >= BODY_LIMIT_LINES:
            yield f"{module.at(function)}: {function.name} has {length} lines"


def wide_signatures(module: Module, annotated: frozenset[str] = frozenset()) -> Iterator[str]:
    """Functions with too many positional parameters.

    Commands and routes are called by keyword, by Typer and FastAPI; their parameters show it: all `Annotated`.
    """
    for function, is_method in functions(module):
        parameters = [*function.args.posonlyargs, *function.args.args][is_method:]
        if len(parameters) > POSITIONAL_LIMIT and not all(_is_annotated(each, annotated) for each in parameters):
            yield f"{module.at(function)}: {function.name} takes {len(parameters)} positional parameters"


def annotated_aliases(sources: Iterable[Module]) -> frozenset[str]:
    """Names that stand for an `Annotated[...]`, as in `Caller = Annotated[Tenant, Depends(...)]`."""
    assignments = (node for module in sources for node in module.tree.body if isinstance(node, ast.Assign))
    names = (node.targets[0] for node in assignments if _names_annotated(node.value))
    return frozenset(name.id for name in names if isinstance(name, ast.Name))


def _is_annotated(parameter: ast.arg, aliases: frozenset[str]) -> bool:
    annotation = parameter.annotation
    return _names_annotated(annotation) or (isinstance(annotation, ast.Name) and annotation.id in aliases)


def _names_annotated(annotation: ast.expr | None) -> bool:
    return isinstance(annotation, ast.Subscript) and ast.unparse(annotation.value).endswith("Annotated")


@pytest.mark.parametrize(("lines", "offences"), [(49, 0), (50, 1)])
def test_the_body_guard_counts_up_to_its_limit_and_not_the_docstring(lines: int, offences: int) -> None:
    body = '    """Says\n    much.\n    """\n' + "    x = 1\n" * lines
    assert len(list(long_bodies(parse(f"def f():\n{body}")))) == offences


@pytest.mark.parametrize(
    ("source", "offences"),
    [
        ("def f(a, b, c, *, d): ...", 0),
        ("def f(a, b, c, d=1): ...", 1),
        ("async def f(a, b, /, c, d): ...", 1),
        ("class C:\n    def f(self, a, b, c): ...", 0),
        ("class C:\n    @staticmethod\n    def f(a, b, c, d): ...", 1),
        ("def f(a: Annotated[int, 1], b: Annotated[int, 1], c: Annotated[int, 1], d: Annotated[int, 1]): ...", 0),
        ("Id = Annotated[str, 1]\ndef f(a: Id, b: Id, c: Id, d: Id): ...", 0),
        ("def f(a: Annotated[int, 1], b: int, c: int, d: int): ...", 1),
    ],
)
def test_the_signature_guard_sees_what_is_passed_by_position(source: str, offences: int) -> None:
    module = parse(source)
    assert len(list(wide_signatures(module, annotated_aliases([module])))) == offences
