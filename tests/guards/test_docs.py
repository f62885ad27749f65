"""The documents say what is true: every setting, make target and CLI command they name exists, and none is missing.

``python -m tests.guards.test_docs`` prints the settings table for docs/settings.md.
"""

from __future__ import annotations

import re
from pathlib import Path

from typer.main import get_command

from broadcaster.cli.main import create_app_for
from broadcaster.settings import Settings

ROOT = Path(__file__).parents[2]


def settings_table() -> str:
    """The settings as a Markdown table, from their descriptions."""
    rows = ["| Variable | Default | Meaning |", "| --- | --- | --- |"]
    for name, field in Settings.model_fields.items():
        default = "–" if field.default is None else f"`{field.default}`"
        rows.append(f"| `BROADCASTER_{name.upper()}` | {default} | {field.description} |")
    return "\n".join(rows)


def test_docs_settings_md_lists_every_setting_as_it_is() -> None:
    assert settings_table() in (ROOT / "docs" / "settings.md").read_text("utf-8")


def test_every_setting_named_in_a_document_exists() -> None:
    known = {f"BROADCASTER_{name.upper()}" for name in Settings.model_fields}
    for document in [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")]:
        assert set(re.findall(r"BROADCASTER_[A-Z_]*[A-Z]", document.read_text("utf-8"))) <= known, document.name


def test_every_make_target_in_the_readme_exists() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    assert set(re.findall(r"\bmake ([a-z]+)\b", (ROOT / "README.md").read_text("utf-8"))) <= targets


def test_every_command_is_in_the_readme_and_none_that_does_not_exist() -> None:
    commands = set(getattr(get_command(create_app_for([])), "commands"))  # noqa: B009 - typer's group, whatever its class
    named = set(re.findall(r"`broadcaster ([a-z]+)", (ROOT / "README.md").read_text("utf-8")))
    assert named == commands


def test_every_relative_link_in_a_document_leads_somewhere() -> None:
    for document in [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")]:
        for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", document.read_text("utf-8")):
            assert (document.parent / target).exists(), f"{document.name}: {target}"


def test_every_test_file_named_in_a_document_exists() -> None:
    for document in ROOT.glob("*.md"):
        for path in re.findall(r"`(tests/[\w/.]+)`", document.read_text("utf-8")):
            assert (ROOT / path).exists(), f"{document.name}: {path}"


if __name__ == "__main__":
    print(settings_table())
