"""The command as it is installed."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
import typer
from typer.testing import CliRunner

from broadcaster import __version__
from broadcaster.cli.main import MODULES, SUMMARIES, create_app, create_app_for

app = create_app_for([])


def test_python_dash_m_is_the_command():
    answer = subprocess.run(
        [sys.executable, "-m", "broadcaster", "--version"], capture_output=True, text=True, timeout=30, check=True
    )
    assert answer.stdout == f"broadcaster {__version__}\n"


@pytest.mark.parametrize("encoding", ["utf-8", "iso-8859-1", "ascii"])
def test_json_for_programs_is_json_in_every_encoding_of_the_terminal(encoding: str) -> None:
    folder = "h\N{LATIN SMALL LETTER E WITH ACUTE}\N{GRINNING FACE}"
    answer = subprocess.run(
        [sys.executable, "-m", "broadcaster", "doctor", "--settings", "--json", "--data-dir", folder],
        env={**os.environ, "PYTHONIOENCODING": encoding, "PYTHONUTF8": "1"},
        capture_output=True, timeout=30, check=True,
    )  # fmt: skip
    assert folder in [row["value"] for row in json.loads(answer.stdout.decode(encoding))]


def names_of(application: typer.Typer) -> list[str]:
    """Its commands, in the order of ``--help``."""
    group = typer.main.get_group(application)
    return list(group.commands)


def test_every_command_is_in_the_table_of_modules():
    assert set(names_of(app)) == set(MODULES)


def test_the_list_of_commands_has_the_summary_that_each_command_has_itself() -> None:
    group = typer.main.get_group(create_app(MODULES))
    own = {name: command.help for name, command in group.commands.items()}
    first = {name: " ".join((text or "").split("\n\n")[0].split()) for name, text in own.items()}
    assert {name: first[name] for name in SUMMARIES} == SUMMARIES


@pytest.mark.parametrize("command", MODULES)
def test_a_command_needs_its_own_module_only(command):
    names = names_of(create_app_for(["--verbose", command, "up"]))
    assert command in names
    assert {MODULES[each] for each in names} == {MODULES[command]}


@pytest.mark.parametrize("arguments", [[], ["--help"], ["lss"], ["broadcaster.cli.up"]])
def test_a_command_line_that_names_no_command_gets_all_commands(arguments):
    assert names_of(create_app_for(arguments)) == names_of(app)


def test_a_command_that_calls_a_front_end_imports_no_front_end():
    code = (
        "import sys; from broadcaster.cli.main import create_app_for; create_app_for(['ls']); "
        "print([each for each in ('fastapi', 'uvicorn', 'redis', 'anthropic', 'openai') if each in sys.modules])"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=True)
    assert answer.stdout == "[]\n"


def test_the_parent_of_several_front_ends_imports_none() -> None:
    """Nor any code that calls Redis: it only keeps them."""
    code = (
        "import sys; from broadcaster.cli.main import create_app_for; create_app_for(['serve']); "
        "import broadcaster.cli.processes.serve, broadcaster.cli.option_settings; "
        "print([each for each in ('fastapi', 'uvicorn', 'redis', 'hiredis', 'broadcaster.hub') if each in sys.modules])"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=True)
    assert answer.stdout == "[]\n"


@pytest.mark.parametrize("command", ["demo", "up", "serve", "worker"])
def test_the_help_of_a_command_that_starts_processes_imports_nothing_that_they_need(command: str) -> None:
    code = (
        f"import sys; from broadcaster.cli.main import create_app_for; create_app_for(['{command}']); "
        "print([each for each in ('pydantic', 'structlog', 'uvloop', 'broadcaster.settings') if each in sys.modules])"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=True)
    assert answer.stdout == "[]\n"


def test_without_a_command_the_help_is_printed():
    result = CliRunner().invoke(app, [])
    assert "generate" in result.output
    assert result.exit_code == 2
