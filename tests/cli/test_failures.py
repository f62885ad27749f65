"""Every failure becomes one line with a remedy, and an exit code."""

from __future__ import annotations

import pytest
import typer
from typer.testing import CliRunner

from broadcaster.cli.application import create_app
from broadcaster.cli.failures import CommandFailed, ExitCode, told
from broadcaster.client import BadAnswer, CannotConnect, ClientError, GaveUp, StreamClosed
from broadcaster.core.cursor import Cursor
from broadcaster.errors import BadCursor, LogUnavailable, SetupError

ADDRESS = "http://127.0.0.1:1"


def refused(code: str, *, retry: bool = False) -> ClientError:
    return ClientError(code, status=400, detail="because", retry=retry)


@pytest.mark.parametrize(
    ("error", "code", "remedy"),
    [
        (CannotConnect("refused"), ExitCode.CANNOT_CONNECT, "broadcaster up"),
        (GaveUp("no progress for 60 s", cursor=Cursor(7, 1)), ExitCode.CANNOT_CONNECT, "no progress for 60 s"),
        (BadAnswer("HTTP 200 of something else"), ExitCode.FAILED, "check --url"),
        (StreamClosed("deleted", cursor=None), ExitCode.FAILED, "deleted"),
        (refused("unknown_stream"), ExitCode.FAILED, "broadcaster ls"),
        (refused("queue_full", retry=True), ExitCode.FAILED, "try again"),
        (refused("of_a_newer_version"), ExitCode.FAILED, "of_a_newer_version: because"),
    ],
)
def test_a_failed_call_is_told_with_its_remedy(error, code, remedy):
    failure = told(error, address=ADDRESS)
    assert failure.code == code
    assert remedy in str(failure)


class Failing:
    """A module whose one command fails."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    def register(self, app: typer.Typer) -> None:
        @app.command()
        def fail() -> None:
            raise self._error


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (CommandFailed("x", ExitCode.CANNOT_CONNECT), 3),
        (SetupError("x"), 2),
        (LogUnavailable("x"), 1),
        (BadCursor("x"), 2),
        (KeyboardInterrupt(), 130),
    ],
)
def test_a_command_ends_with_the_code_of_its_failure(error, code):
    result = CliRunner().invoke(create_app([Failing(error)]), ["fail"])
    assert result.exit_code == code
    assert result.stderr == ("" if code == 130 else "error: x\n")


def test_a_failure_of_several_lines_is_told_in_one():
    result = CliRunner().invoke(create_app([Failing(SetupError("no Redis\n  at\tall"))]), ["fail"])
    assert result.stderr == "error: no Redis at all\n"


def test_a_mistake_of_ours_keeps_its_traceback():
    result = CliRunner().invoke(create_app([Failing(ZeroDivisionError("ours"))]), ["fail"])
    assert isinstance(result.exception, ZeroDivisionError)
