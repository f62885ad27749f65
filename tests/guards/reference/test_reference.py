"""docs/reference/ is what the docstrings say, and every public name has one."""

from __future__ import annotations

import inspect
import re

import broadcaster
from tests.guards.reference.__main__ import FOLDER
from tests.guards.reference.pages import INTERNAL, PAGES, documented
from tests.guards.reference.render import anchor, members, pages, prose


def test_the_reference_is_that_of_the_docstrings() -> None:
    stored = {path.name: path.read_text("utf-8") for path in FOLDER.glob("*.md")}
    assert stored == pages(), "python -m tests.guards.reference"


def test_every_public_name_and_every_member_has_a_docstring() -> None:
    bare = []
    for page, name, each in documented():
        if inspect.isclass(each) and not (vars(each).get("__doc__") or ""):
            bare.append(f"{page.module}.{name}")
        if inspect.isclass(each):
            bare += [f"{name}.{member}" for member, known in members(each) if not inspect.getdoc(known)]
        if inspect.isroutine(each) and not each.__doc__:
            bare.append(f"{page.module}.{name}")
    assert not bare


def test_every_link_in_the_reference_leads_to_a_heading() -> None:
    texts = pages()
    anchors = {name: {anchor(head) for head in re.findall(r"^#+ (.+)$", text, re.M)} for name, text in texts.items()}
    for name, text in texts.items():
        for target, place in re.findall(r"\]\(([\w.]*)#([\w-]+)\)", text):
            assert place in anchors[target or name], f"{name}: {target}#{place}"
        for target in re.findall(r"\]\(((?!https?:)[^)#]+)", text):
            assert (FOLDER / target).exists(), f"{name}: {target}"


def test_the_pages_are_those_of_the_packages() -> None:
    assert set(broadcaster.__all__) <= set(PAGES[0].objects)
    classes = {name: each for _, name, each in documented() if inspect.isclass(each)}
    for name, hidden in INTERNAL.items():
        for member in hidden:
            is_field = member in getattr(classes[name], "__annotations__", {})
            assert is_field or hasattr(classes[name], member) or f"self.{member}" in inspect.getsource(classes[name])


def test_a_docstring_becomes_markdown_with_links_and_its_errors_apart() -> None:
    text = "Stop ``x`` of ``Broadcaster.publish``.\n\n    a = 1\n\nIt ends. Raises StreamFull, TypeError."
    assert prose(text, page="errors") == (
        "Stop `x` of [`Broadcaster.publish`](broadcaster.md#broadcasterpublish).\n\n"
        "```python\na = 1\n```\n\n"
        "It ends.\n\n"
        "Raises [`StreamFull`](#streamfull), TypeError."
    )
