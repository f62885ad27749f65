"""The pages of the reference as Markdown, for GitHub and for mkdocs alike."""

from __future__ import annotations

import inspect
import re
import sys
import types
from collections.abc import Iterator, Mapping
from functools import cache, cached_property
from itertools import groupby
from textwrap import dedent
from typing import Any, Final, get_args, is_typeddict

from broadcaster.errors import BroadcasterError
from tests.guards.reference.fixtures import fixtures_page
from tests.guards.reference.pages import INTERNAL, MADE_BY_CALLS, PAGES, Page, documented
from tests.guards.reference.signatures import call_of, constructor_of, fields_of, type_text

OWN: Final = ("broadcaster", "worker")
NOTE: Final = "<!-- Printed from the docstrings by `python -m tests.guards.reference`; `make check` compares. -->"
_RULES: Final = re.compile(r"[;,] see the rules above|[;,] see the module's rules", re.ASCII)
_NAME: Final = re.compile(r"(?<![\w/`.])(`{1,2})?([A-Z]\w+(?:\.[a-z_]\w*)?)(?(1)\1)(?![\w`(])", re.ASCII)
_CODE: Final = re.compile(r"``(.+?)``|`(.+?)`", re.DOTALL)
_CAMEL: Final = re.compile(r"[A-Z]\w*?[a-z0-9][A-Z]\w*|\w+\.\w+", re.ASCII)
_HEAD_OF_RULES: Final = re.compile(r"^Rules\n")
_MODULES: Final = re.compile(r"\b(?:typing|collections\.abc|broadcaster(?:\.\w+)+)\.(?=\w)")
_DOCUMENT: Final = re.compile(r"\bdocs/([a-z-]+\.md)\b")
_RAISES: Final = re.compile(r"(?<=[.:]) (?=Raises\b)|^(?=Raises\b)", re.MULTILINE)


def pages() -> Mapping[str, str]:
    """File name → its text."""
    texts = {f"{page.name}.md": _Renderer(page).text for page in PAGES}
    texts["fixtures.md"] = f"{fixtures_page(NOTE, lambda text: prose(text, page='fixtures'))}\n"
    return {"index.md": _index(), **texts}


def prose(text: str, *, page: str) -> str:
    """A docstring as Markdown: names that are documented become links, the errors a paragraph of their own."""
    shown: list[str] = []
    clean = text if text.startswith("    ") else inspect.cleandoc(text)
    for is_code, group in groupby(clean.split("\n\n"), key=lambda block: block.startswith("    ")):
        if is_code:
            shown.append(_code(dedent("\n\n".join(group))))
            continue
        for block in group:
            parts = _RAISES.split(_HEAD_OF_RULES.sub("**Rules**\n\n", block))
            shown += [_linked(part.strip(), page=page) for part in parts if part.strip()]
    return "\n\n".join(shown)


def anchor(heading: str) -> str:
    """The anchor that GitHub and mkdocs make of a heading."""
    return re.sub(r"[^\w\- ]", "", heading).strip().lower().replace(" ", "-")


def heading_of(page: Page, name: str, each: Any) -> str:
    """A function is named with its module: a class may have its name but for the case, and so its anchor."""
    return f"{page.module}.{name}" if inspect.isfunction(each) else name


@cache
def _places() -> Mapping[str, list[tuple[str, str]]]:
    """Name → the pages and anchors that document it; also ``Class.method``."""
    places: dict[str, list[tuple[str, str]]] = {}
    for page, name, each in documented():
        places.setdefault(name, []).append((page.name, anchor(heading_of(page, name, each))))
        if inspect.isclass(each):
            for member, _ in members(each):
                places.setdefault(f"{name}.{member}", []).append((page.name, anchor(f"{name}.{member}")))
    return places


def _linked(text: str, *, page: str) -> str:
    """The text with links, and with Markdown's code in place of reStructuredText's."""

    def link(match: re.Match[str]) -> str:
        found = _places().get(match[2])
        is_name = match[1] or _CAMEL.fullmatch(match[2]) or ("errors", anchor(match[2])) in (found or ())
        if found is None or not is_name:  # a sentence may begin with Wait or Send
            return match[0]
        at, place = min(found, key=lambda each: (each[0] != page, each[0] != "errors"))
        return f"[`{match[2]}`]({'' if at == page else f'{at}.md'}#{place})"

    def code(match: re.Match[str]) -> str:
        return f"`{match[1] or match[2]}`"

    parts = re.split(r"(``.+?``|`[^`]+?`)", text, flags=re.DOTALL)
    for at, part in enumerate(parts):
        known = part.startswith("`") and _NAME.fullmatch(part) is not None and part.strip("`") in _places()
        parts[at] = _NAME.sub(link, part) if known or not part.startswith("`") else _CODE.sub(code, part)
    return _DOCUMENT.sub(r"[\1](../\1)", "".join(parts))


def members(kind: type) -> Iterator[tuple[str, Any]]:
    """The public methods and properties of a class and of its parents in our packages, in their order."""
    seen = set(INTERNAL.get(kind.__name__, ())) | set(getattr(kind, "__struct_fields__", ()))
    for parent in kind.__mro__:
        if parent.__module__.partition(".")[0] not in OWN:
            continue
        for name, member in vars(parent).items():
            is_call = inspect.isfunction(member) or isinstance(member, (classmethod, staticmethod, property))
            if is_call and not name.startswith("_") and name not in seen:
                seen.add(name)
                yield name, member


class _Renderer:
    """One page."""

    def __init__(self, page: Page) -> None:
        self._page = page

    @cached_property
    def text(self) -> str:
        parts = [NOTE, f"# `{self._page.module}`", self._page.introduction]
        for name, each in self._page.objects.items():
            parts += [f"## `{heading_of(self._page, name, each)}`", *self._described(name, each)]
        return "\n\n".join(part for part in parts if part) + "\n"

    def _described(self, name: str, each: Any) -> Iterator[str]:
        if isinstance(each, types.ModuleType):
            yield self._prose(each.__doc__ or "")
            for function, known in _functions(each):
                yield f"### `{name}.{function}`"
                yield from self._call(f"{name}.{function}", known)
        elif inspect.isclass(each):
            yield from self._class(name, each)
        elif inspect.isfunction(each):
            yield from self._call(name, each)
        else:
            yield _code(f"{name} = {_alias(each)}")
            yield self._prose(self._page.document_of(name))

    def _class(self, name: str, kind: type) -> Iterator[str]:
        if issubclass(kind, BroadcasterError):
            yield _facts(kind)
        elif name in self._page.returned_names:
            yield f"`{kind.__module__}.{name}`: calls return it."
        is_structure = _is_structure(kind)
        if not is_structure and name not in MADE_BY_CALLS and "__init__" in vars(kind):
            yield _code(constructor_of(name, kind))
        document = inspect.cleandoc(kind.__doc__ or "")
        yield self._prose(_RULES.sub("", document))
        if name not in MADE_BY_CALLS and (own := vars(kind).get("__init__")) is not None and own.__doc__:
            yield self._prose(own.__doc__)
        if _RULES.search(document):
            yield self._prose(_below_the_head(sys.modules[kind.__module__].__doc__ or ""))
        if is_structure:
            yield _table(kind)
        for member, known in members(kind):
            yield f"### `{name}.{member}`"
            yield from self._member(f"{name}.{member}", known)

    def _member(self, name: str, member: Any) -> Iterator[str]:
        if isinstance(member, property):
            known = member.fget
            yield _code(f"{name}: {type_text(inspect.signature(known).return_annotation)}" if known else name)
            yield self._prose(member.__doc__ or "")
            return
        yield from self._call(name, getattr(member, "__func__", member))

    def _call(self, name: str, function: Any) -> Iterator[str]:
        yield _code(call_of(name, function))
        yield self._prose(inspect.getdoc(function) or "")

    def _prose(self, text: str) -> str:
        return prose(text, page=self._page.name)


def _index() -> str:
    rows = ["| Page | Names |", "| --- | --- |"]
    for page in PAGES:
        names = ", ".join(
            f"[`{name}`]({page.name}.md#{anchor(heading_of(page, name, each))})" for name, each in page.objects.items()
        )
        rows.append(f"| [`{page.module}`]({page.name}.md) | {names} |")
    rows.append("| [fixtures](fixtures.md) | the pytest fixtures for your own tests |")
    introduction = (
        "Every public name of the Python packages, with its signature, its types, and the errors that it raises. The "
        "guides explain when to use which: [library.md](../library.md), [publishing.md](../publishing.md), "
        "[testing.md](../testing.md), [tools.md](../tools.md). What is not listed here may change in any release."
    )
    return "\n\n".join([NOTE, "# Python reference", introduction, "\n".join(rows)]) + "\n"


def _code(text: str) -> str:
    return f"```python\n{text}\n```"


def _alias(value: Any) -> str:
    arguments = get_args(value)
    if arguments and getattr(value, "__origin__", None) is None:
        return " | ".join(each.__name__ for each in arguments)
    return _MODULES.sub("", type_text(value))


def _facts(kind: type[BroadcasterError]) -> str:
    parent = kind.__mro__[1]
    is_special = issubclass(parent, BroadcasterError) and parent is not BroadcasterError
    of = f", a kind of [`{parent.__name__}`](#{anchor(parent.__name__)})" if is_special else ""
    retry = "may succeed later" if kind.retry else "does not succeed unchanged"
    return f"Code `{kind.code}`, HTTP {kind.status}{of}. The same call {retry}."


def _functions(module: types.ModuleType) -> Iterator[tuple[str, Any]]:
    for name, each in vars(module).items():
        if inspect.isfunction(each) and each.__module__ == module.__name__ and not name.startswith("_"):
            yield name, each


def _is_structure(kind: type) -> bool:
    marks = ("__struct_config__", "__dataclass_fields__", "_fields")
    return is_typeddict(kind) or any(hasattr(kind, mark) for mark in marks)


def _table(kind: type) -> str:
    hidden = INTERNAL.get(kind.__name__, frozenset())
    rows = [row for row in fields_of(kind) if row[0] not in hidden]
    if not rows:
        return ""
    has_defaults = any(default for _, _, default in rows)
    head = (
        ["| Field | Type | Default |", "| --- | --- | --- |"] if has_defaults else ["| Field | Type |", "| --- | --- |"]
    )
    cells = (
        (f"`{name}`", f"`{_in_cell(text)}`", *([f"`{_in_cell(default)}`" if default else ""] if has_defaults else []))
        for name, text, default in rows
    )
    return "\n".join([*head, *(f"| {' | '.join(row)} |" for row in cells)])


def _in_cell(text: str) -> str:
    return text.replace("|", "\\|")


def _below_the_head(document: str) -> str:
    return inspect.cleandoc(document).partition("\n\n")[2]
