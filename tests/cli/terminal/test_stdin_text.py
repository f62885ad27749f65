"""stdin that is closed or holds no text ends a command with one line."""

from __future__ import annotations

import io
import sys

import pytest

from broadcaster.cli.terminal.exit_codes import CommandFailed, ExitCode
from broadcaster.cli.terminal.stdin_text import reading_stdin


def test_a_closed_stdin_ends_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(CommandFailed, match="stdin is closed") as failed, reading_stdin():
        pass
    assert failed.value.code == ExitCode.USAGE


def test_bytes_that_are_no_text_end_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"a\xff"), "utf-8"))
    with pytest.raises(CommandFailed, match="invalid start byte") as failed, reading_stdin() as stdin:
        stdin.read()
    assert failed.value.code == ExitCode.USAGE
    assert isinstance(failed.value.__cause__, UnicodeDecodeError)
