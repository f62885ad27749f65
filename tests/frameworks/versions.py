"""Which releases were run, read from the files that pin them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from tests.compat.node_clients import pinned_modules
from tests.frameworks.drivers import FOLDER

ROOT: Final = Path(__file__).resolve().parents[2]
PYTHON_FILES: Final = ("frameworks", "frameworks-openai2", "frameworks-aider")


def python_versions() -> Iterator[str]:
    """The frameworks of Python: what the ``.in`` files name, with the version of the ``.txt`` beside them."""
    for name in PYTHON_FILES:
        required, locked = ((ROOT / "requirements" / f"{name}.{each}").read_text("utf-8") for each in ("in", "txt"))
        pinned = dict(re.findall(r"^([\w.-]+)(?:\[.*\])?==([\w.]+)", locked, re.M))
        for package in re.findall(r"^[a-z][\w-]+", required, re.M):
            yield f"{package} {pinned[package]}"


def node_versions() -> Iterator[str]:
    """The frameworks of node."""
    return pinned_modules(FOLDER / "node")


def copilotkit_versions() -> Iterator[str]:
    """CopilotKit, and the client of AG-UI that its runtime uses."""
    return pinned_modules(FOLDER / "copilotkit")


def agent_versions() -> Iterator[str]:
    """The coding agents that come as modules of node."""
    return pinned_modules(FOLDER / "agents")


# Each environment adds its own here.
SOURCES: Final[tuple[tuple[str, Callable[[], Iterator[str]]], ...]] = (
    ("Python", python_versions),
    ("Node", node_versions),
    ("CopilotKit", copilotkit_versions),
    ("agents", agent_versions),
)


def versions() -> str:
    """All of them, as the document names them."""
    return "; ".join(f"{language} {', '.join(sorted(read()))}" for language, read in SOURCES)
