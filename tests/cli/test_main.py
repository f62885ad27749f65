"""The command as it is installed."""

from __future__ import annotations

import subprocess
import sys

from typer.testing import CliRunner

from broadcaster import __version__
from broadcaster.cli.main import app


def test_python_dash_m_is_the_command():
    answer = subprocess.run(
        [sys.executable, "-m", "broadcaster", "--version"], capture_output=True, text=True, timeout=30, check=True
    )
    assert answer.stdout == f"broadcaster {__version__}\n"


def test_every_module_brings_its_commands():
    names = {command.callback.__name__ for command in app.registered_commands if command.callback is not None}
    assert {"generate", "tail", "stop", "ls"} <= names
    assert len(app.registered_commands) + len(app.registered_groups) >= 7


def test_without_a_command_the_help_is_shown():
    result = CliRunner().invoke(app, [])
    assert "generate" in result.output
    assert result.exit_code == 2
