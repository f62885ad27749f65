"""Every failure becomes one line with a remedy, and an exit code."""

from __future__ import annotations

import pytest
import typer
from typer.testing import CliRunner

from broadcaster.cli.main import create_app
from broadcaster.cli.terminal.client_failures import NEEDS_NO_REMEDY, REMEDIES, client_failure
from broadcaster.cli.terminal.exit_codes import CommandFailed, ExitCode, describe_exit_codes
from broadcaster.client import BadAnswer, CannotConnect, ClientError, GaveUp, StreamClosed
from broadcaster.core.cursor import Cursor
from broadcaster.errors import BadCursor, LogUnavailable, SetupError
from broadcaster.web.documents.problem_table import PROBLEMS

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
        (refused("queue_full", retry=True), ExitCode.FAILED, "retry"),
        (refused("of_a_newer_version"), ExitCode.FAILED, "of_a_newer_version: because"),
    ],
)
def test_a_failed_call_is_reported_with_its_remedy(error, code, remedy):
    failure = client_failure(error, address=ADDRESS)
    assert failure.code == code
    assert remedy in str(failure)


def test_a_stream_that_is_unknown_is_named() -> None:
    failure = client_failure(refused("unknown_stream"), address=ADDRESS, stream="job 1")
    assert str(failure).startswith("unknown_stream: 'job 1': because; ")


def test_a_refused_field_is_named_as_it_was_given_on_the_command_line() -> None:
    error = ClientError(
        "invalid_request",
        status=422,
        detail="body #/max_tokens: too many; body #/metadata/a: no; body #/x: y",
        retry=False,
    )
    given = {"max_tokens": "--max-tokens 9", "metadata": "--metadata"}
    failure = client_failure(error, address=ADDRESS, given=given)
    assert str(failure) == "invalid_request: --max-tokens 9: too many; --metadata at /a: no; body #/x: y"


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (FileNotFoundError(2, "No such file or directory", "a.pem"), "error: a.pem cannot be used: No such file"),
        (PermissionError(13, "Permission denied"), "error: the system refused: Permission denied"),
        (TimeoutError(), "error: the system refused: TimeoutError"),
    ],
)
def test_what_the_system_refuses_is_named(error: OSError, text: str) -> None:
    result = CliRunner().invoke(failing(error), ["fail"])
    assert (result.exit_code, result.stdout) == (ExitCode.FAILED, "")
    assert result.stderr.startswith(text)


def test_every_problem_of_the_front_end_has_a_remedy_or_is_listed_as_needing_none():
    without = {code for code in PROBLEMS if code not in REMEDIES}
    assert without <= NEEDS_NO_REMEDY
    assert not [code for code in NEEDS_NO_REMEDY if code in REMEDIES]


def test_the_help_explains_every_exit_code():
    printed = " ".join(CliRunner().invoke(create_app(["worker"]), ["--help"]).stdout.split())
    assert describe_exit_codes() in printed
    assert all(f"{code.value} " in describe_exit_codes() for code in ExitCode)


def failing(error: Exception) -> typer.Typer:
    """An application whose one command fails."""
    app = create_app([])

    @app.command()
    def fail() -> None:
        raise error

    return app


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
    result = CliRunner().invoke(failing(error), ["fail"])
    assert result.exit_code == code
    assert result.stderr == ("" if code == 130 else "error: x\n")


def test_an_argument_that_is_no_text_is_named():
    result = CliRunner().invoke(
        failing(UnicodeEncodeError("utf-8", "\udcff", 0, 1, "surrogates not allowed")), ["fail"]
    )
    assert result.exit_code == ExitCode.USAGE
    assert "not UTF-8 text" in result.stderr


def test_a_failure_of_several_lines_is_printed_in_one():
    result = CliRunner().invoke(failing(SetupError("no Redis\n  at\tall")), ["fail"])
    assert result.stderr == "error: no Redis at all\n"


def test_a_mistake_of_ours_keeps_its_traceback():
    result = CliRunner().invoke(failing(ZeroDivisionError("ours")), ["fail"])
    assert isinstance(result.exception, ZeroDivisionError)
