"""No default model, and no model in the documents and examples, has an announced end."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from typing import Final, get_args

import pytest
from anthropic.resources.messages.messages import DEPRECATED_MODELS
from anthropic.types import model_param
from openai.types.shared import chat_model

from broadcaster.cli.processes.default_model import _HOSTED
from tests.support.documents import ROOT

COPIED_FROM: Final = (".env.example", "README.md", "broadcaster", "clients/js", "deploy", "docs", "examples")
READ: Final = frozenset({"", ".example", ".html", ".js", ".json", ".md", ".mjs", ".py", ".ts", ".tsx", ".yaml", ".yml"})
LEFT_OUT: Final = frozenset({"node_modules", ".next", "__pycache__"})
# OpenAI's SDK names them in the text behind its list.
_OF_OPENAI: Final = inspect.getsource(chat_model).partition("Deprecated values:")[2]
# `o1`, `o3`: docs/providers.md lists them as the beginnings of names that a route serves.
DEPRECATED: Final = sorted({*DEPRECATED_MODELS, *re.findall(r'"([\w.-]+)"', _OF_OPENAI)} - {"o1", "o3"})
_NAMED: Final = re.compile(rf"(?<![\w.*-])(?:{'|'.join(map(re.escape, DEPRECATED))})(?![\w*-]|\.\w)")


def texts() -> Iterator[tuple[str, str]]:
    """Each file of the repository that a user reads or runs, and its text."""
    for name in COPIED_FROM:
        for path in [ROOT / name] if (ROOT / name).is_file() else sorted((ROOT / name).rglob("*")):
            if path.is_file() and path.suffix in READ and LEFT_OUT.isdisjoint(path.parts):
                yield str(path.relative_to(ROOT)), path.read_text("utf-8")


def test_no_default_and_no_example_is_a_model_that_the_pinned_sdks_call_deprecated() -> None:
    assert {"claude-sonnet-4-5", "gpt-5-mini"} <= set(DEPRECATED)
    found = {f"{name}: {match}" for name, text in texts() for match in _NAMED.findall(text)}
    assert sorted(found) == []


def test_the_default_models_are_known_to_the_pinned_sdks() -> None:
    known = {*get_args(get_args(model_param.ModelParam)[0]), *get_args(chat_model.ChatModel)}
    assert {model for model, _ in _HOSTED.values()} <= known


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("model: gpt-5-mini", ["gpt-5-mini"]),
        ("use claude-sonnet-4-5.", ["claude-sonnet-4-5"]),
        ("anthropic/claude-sonnet-4-5", ["claude-sonnet-4-5"]),
        ("gpt-5.4-mini, gpt-5-*, my-gpt-5, claude-sonnet-5-5", []),
    ],
)
def test_a_deprecated_name_is_found_as_a_whole(text: str, found: list[str]) -> None:
    assert _NAMED.findall(text) == found
