"""The documents say what is true: every setting, make target and CLI command they name exists, and none is missing.

``python -m tests.guards.test_docs`` prints the settings table for docs/settings.md, ``… metrics`` the table of metrics
for docs/operations.md, ``… events`` the types of events for docs/events.md, ``… problems`` the codes for
docs/error-codes.md.
"""

from __future__ import annotations

import json
import re
import sys
from html import escape
from pathlib import Path

from fastapi.routing import APIRoute
from typer.main import get_command

from broadcaster.cli.main import create_app_for
from broadcaster.core.event_reference.schema import event_table
from broadcaster.core.requests.publishing import PUBLISHER_FAILED
from broadcaster.fixtures import plugin
from broadcaster.fixtures.session import REDIS_VARIABLE
from broadcaster.log.streams import terminals
from broadcaster.observability.metrics import METRICS, metrics_table
from broadcaster.settings import Settings
from broadcaster.web.app import create_app
from broadcaster.web.documents.problem_table import OF_DURABLE_STREAMS, PROBLEMS
from tests.guards.source import modules
from worker.observing import counts

ROOT = Path(__file__).parents[2]
CONTRIBUTING = ROOT / ".github" / "CONTRIBUTING.md"
PAGES = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("docs/guides/*.md"), CONTRIBUTING]
# Documents beside docs/guides whose blocks all have to be run.
GUIDES_BESIDE = ("tutorial", "testing", "how-it-works", "comparison", "faq")
# The fixtures for users' tests, of which some are named as metrics are.
FIXTURES = frozenset(name for name in vars(plugin) if name.startswith("broadcaster_"))


def settings_table() -> str:
    """The settings as a Markdown table, from their descriptions."""
    rows = ["| Variable | Default | Meaning |", "| --- | --- | --- |"]
    for name, field in Settings.model_fields.items():
        default = "–" if field.default is None else f"`{field.default}`"
        rows.append(f"| `BROADCASTER_{name.upper()}` | {default} | {field.description} |")
    return "\n".join(rows)


def problems_table() -> str:
    """The codes of problem documents as a Markdown table."""
    rows = ["| Code | Status | Meaning | For example | `retry` |", "| --- | --- | --- | --- | --- |"]
    for code, (status, title, example, retry) in sorted(PROBLEMS.items(), key=lambda row: (row[1].status, row[0])):
        where = " (`/ds/`)" if code in OF_DURABLE_STREAMS else ""
        shown = (f"`{code}`{where}", status, title, escape(example, quote=False), "yes" if retry else "")
        rows.append(f"| {' | '.join(map(str, shown))} |")
    return "\n".join(rows)


def test_docs_settings_md_lists_every_setting_as_it_is() -> None:
    assert settings_table() in (ROOT / "docs" / "settings.md").read_text("utf-8")


def test_docs_operations_md_lists_every_metric_as_it_is() -> None:
    assert metrics_table() in (ROOT / "docs" / "operations.md").read_text("utf-8")


def test_docs_events_md_lists_every_event_as_it_is() -> None:
    assert event_table() in (ROOT / "docs" / "events.md").read_text("utf-8")


def test_docs_error_codes_md_lists_every_problem_as_it_is() -> None:
    assert problems_table() in (ROOT / "docs" / "error-codes.md").read_text("utf-8")


def test_docs_error_codes_md_lists_every_code_with_which_a_stream_can_fail() -> None:
    section = (
        (ROOT / "docs" / "error-codes.md").read_text("utf-8").split("\n## Of a stream's end\n")[1].split("\n## ")[0]
    )
    listed = re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE)
    ends = [json.loads(end) for end in vars(terminals).values() if isinstance(end, bytes)]
    of_the_log = {end["code"] for end in ends if end["type"] == "error"}
    of_programs = {PUBLISHER_FAILED}
    assert len(listed) == len(set(listed))
    assert set(listed) == of_the_log | of_programs | counts.ERROR_CODES


def test_docs_http_md_names_every_route() -> None:
    text = (ROOT / "docs" / "http.md").read_text("utf-8")
    paths = {route.path for route in create_app(Settings()).routes if isinstance(route, APIRoute)}
    assert len(paths) > 30
    ends = {path: [part for part in path.split("/") if part and not part.startswith("{")][-1] for path in paths}
    assert [path for path, end in ends.items() if not re.search(rf"/{end}\b", text)] == []


def test_every_metric_named_in_a_document_exists() -> None:
    suffixes = ("", "_total", "_bucket", "_sum", "_count")
    known = {name + suffix for name in METRICS for suffix in suffixes}
    for document in PAGES:
        named = re.findall(r"\bbroadcaster_[a-z_]*[a-z]\b", document.read_text("utf-8"))
        assert set(named) <= known | FIXTURES, document.name


def test_every_metric_has_a_source_that_reads_it() -> None:
    sources = [each.text for each in modules("broadcaster", "worker") if not each.path.endswith("/metrics.py")]
    sources += [each.text for each in modules("broadcaster/web", "worker") if each.path.endswith("/metrics.py")]
    assert not [name for name in METRICS if not any(f'"{name}"' in text for text in sources)]


def test_the_readme_has_at_most_150_lines_beside_its_folded_table() -> None:
    text = re.sub(r"<details>.*?</details>\n", "", (ROOT / "README.md").read_text("utf-8"), flags=re.DOTALL)
    assert len(text.splitlines()) <= 150


def test_every_setting_named_in_a_document_exists() -> None:
    known = {f"BROADCASTER_{name.upper()}" for name in Settings.model_fields} | {REDIS_VARIABLE}
    for document in PAGES:
        assert set(re.findall(r"BROADCASTER_[A-Z_]*[A-Z]", document.read_text("utf-8"))) <= known, document.name


def test_every_make_target_in_a_document_exists() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    for document in PAGES:
        assert set(re.findall(r"`(?:[A-Z_]+=\S+ )?make ([a-z]+)\b", document.read_text("utf-8"))) <= targets, document


def test_docs_commands_md_lists_every_command_and_none_that_does_not_exist() -> None:
    commands = set(getattr(get_command(create_app_for([])), "commands"))  # noqa: B009 - typer's group, whatever its class
    for document in PAGES:
        named = set(re.findall(r"`broadcaster ([a-z]+)", document.read_text("utf-8")))
        assert named <= commands if document.name != "commands.md" else named == commands, document.name


def test_docs_index_md_lists_every_document() -> None:
    named = set(re.findall(r"\]\(([^)]+)\)", (ROOT / "docs" / "index.md").read_text("utf-8")))
    assert {path.name for path in ROOT.glob("docs/*.md")} - {"index.md"} <= named
    assert {f"guides/{path.name}" for path in ROOT.glob("docs/guides/*.md")} <= named
    assert {f"../{path.name}" for path in ROOT.glob("*.md")} <= named


def test_every_relative_link_in_a_document_leads_somewhere() -> None:
    for document in [*PAGES, ROOT / "tests" / "README.md"]:
        for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", document.read_text("utf-8")):
            assert (document.parent / target).exists(), f"{document.name}: {target}"


def test_every_block_of_a_guide_is_run_or_stands_in_a_file_that_is() -> None:
    fence = re.compile(r"(?:^<!-- (run|from): ([^\n]+) -->\n)?^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
    installs = re.compile(r"(pip install 'llm-broadcaster\[[a-z]+\]'[ a-z]*\n)+")
    for document in [*ROOT.glob("docs/guides/*.md"), *(ROOT / "docs" / f"{name}.md" for name in GUIDES_BESIDE)]:
        for mark, source, language, text in fence.findall(document.read_text("utf-8")):
            if mark == "from":
                assert text in (ROOT / source).read_text("utf-8"), f"{document.name}: {source} has no such lines"
            elif not mark:
                assert language == "text" or installs.fullmatch(text), f"{document.name} runs no test: {text}"


def test_every_test_file_named_in_a_document_exists() -> None:
    for document in [*PAGES, ROOT / "tests" / "README.md"]:
        for path in re.findall(r"`(tests/[\w/.]+)`", document.read_text("utf-8")):
            assert (ROOT / path).exists(), f"{document.name}: {path}"


def test_every_test_named_in_a_document_exists() -> None:
    named = 0
    for document in PAGES:
        for path, name in re.findall(r"`(tests/[\w/.]+)::(\w+)`", document.read_text("utf-8")):
            named += 1
            assert f"def {name}(" in (ROOT / path).read_text("utf-8"), f"{document.name}: {path}::{name}"
    assert named > 25


if __name__ == "__main__":
    tables = {"metrics": metrics_table, "events": event_table, "problems": problems_table}
    print(next((table() for name, table in tables.items() if name in sys.argv), settings_table()))
