"""Names are the trade's: each class name once, and no word that only this project knows (docs/glossary.md)."""

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from typing import Final

import pytest

from tests.guards.source import ROOT, Module, files_git_would_track, modules, parse

SHIPPED: Final = ("broadcaster", "worker")
BANNED: Final = frozenset(
    """
    told tell tells telling said say says saying heard hear hears hearing asked ask asks asking again word words
    look looks looked looking mouth shelf voice door wary homeless nobody nobodys somebody whoever
    wish wishes wished ear ears owed owes
    """.split()  # noqa: SIM905 - a list of a line each would be longer than all the rest
)
# The names of redis-py, of Redis and of the tools that users write.
OTHERS: Final = frozenset({"TryAgainError", "AskError", "ASKING", "tell"})
UNSHIPPED: Final = ("tests", "bench", "examples", "deploy")
# Tests and examples stream texts made of words, and name them so.
ALLOWED_UNSHIPPED: Final = frozenset({"word", "words"})
# A term of the trade that holds a banned word.
TERMS: Final = re.compile(r"look_?up")
SCRIPTS: Final = frozenset({".js", ".mjs", ".ts", ".tsx", ".jsx"})
# Identifiers of JavaScript, after the comments and texts that the same search passes over.
IN_SCRIPTS: Final = re.compile(
    r"""//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'|`(?:\\.|[^`\\])*`|([A-Za-z_$][\w$]*)""", re.DOTALL
)
# Both are public: one is raised by the library, the other by the client.
PUBLIC_TWICE: Final = frozenset({"StreamClosed"})


def test_every_class_name_is_used_once() -> None:
    places = defaultdict(list)
    for module in modules(*SHIPPED):
        for node in ast.walk(module.tree):
            if isinstance(node, ast.ClassDef):
                places[node.name].append(module.at(node))
    doubled = {name: at for name, at in sorted(places.items()) if len(at) > 1}
    assert not doubled.keys() - PUBLIC_TWICE, "\n".join(f"{name}: {', '.join(at)}" for name, at in doubled.items())


def test_identifiers_are_made_of_the_trades_words() -> None:
    offences = [offence for module in modules(*SHIPPED) for offence in private_words(module)]
    offences += [offence for module in modules(*UNSHIPPED) for offence in private_words(module, ALLOWED_UNSHIPPED)]
    assert not offences, "\n".join(offences)


def test_identifiers_of_javascript_are_made_of_the_trades_words() -> None:
    scripts = [path for path in files_git_would_track() if path.suffix in SCRIPTS and "vendor" not in path.parts]
    assert len(scripts) > 60
    offences = [
        f"{path.relative_to(ROOT)}: {name}"
        for path in scripts
        for name in dict.fromkeys(script_identifiers(path.read_text("utf-8")))
        if BANNED & set(words_of(name))
    ]
    assert not offences, "\n".join(offences)


def script_identifiers(text: str) -> Iterator[str]:
    """The names in a file of JavaScript or TypeScript; those inside of template literals are not found."""
    return (name for name in IN_SCRIPTS.findall(text) if name)


def private_words(module: Module, allowed: frozenset[str] = frozenset()) -> Iterator[str]:
    """Each identifier of a module that has a banned word, once."""
    seen, banned = set[str](), BANNED - allowed
    for node in ast.walk(module.tree):
        for name in identifiers(node):
            if name not in seen and name not in OTHERS and banned & set(words_of(name)):
                seen.add(name)
                yield f"{module.path}:{getattr(node, 'lineno', 1)}: {name}"


def identifiers(node: ast.AST) -> Iterator[str]:
    """The names that a node makes or uses."""
    for field in ("id", "attr", "arg", "name", "asname"):
        name = getattr(node, field, None)
        if isinstance(name, str):
            yield name


def words_of(name: str) -> list[str]:
    """``isToldOnce`` and ``is_told_once`` → is, told, once."""
    return re.findall(r"[a-z]+", TERMS.sub("", re.sub(r"([A-Z]+)", r"_\1", name).lower()))


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("told = 1", ["told"]),
        ("def f(is_asked): ...", ["is_asked"]),
        ("class SaidOnce: ...", ["SaidOnce"]),
        ("x.again()", ["again"]),
        ("x.look()", ["look"]),
        ("toll = basket = look_up = 1", []),
    ],
)
def test_the_guard_of_words_sees_every_kind_of_name(source: str, found: list[str]) -> None:
    assert [each.rpartition(" ")[2] for each in private_words(parse(source))] == found


def test_the_guard_of_words_sees_the_names_of_javascript_and_neither_comments_nor_texts() -> None:
    text = "/* told */ const isTold = 'asked'; // said\nthis.lookAgain(`word`);"
    assert list(script_identifiers(text)) == ["const", "isTold", "this", "lookAgain"]
