"""What a failed command prints: one line with a remedy. Its exit code: exit_codes.py."""

from __future__ import annotations

import errno

from pydantic import ValidationError
from pydantic_settings import SettingsError

from broadcaster.cli.terminal.exit_codes import CommandFailed, ExitCode
from broadcaster.errors import BroadcasterError, InvalidInput, SetupError
from broadcaster.settings import describe_error


def failure_of(error: Exception) -> CommandFailed | None:
    """The text and the exit code of an error that the user can remedy; None: it keeps its traceback."""
    match error:
        case CommandFailed():
            return error
        case ValidationError() | SettingsError():
            text = f"the settings are not valid: {describe_error(error)}; change these environment variables"
            return CommandFailed(text, ExitCode.USAGE)
        case UnicodeEncodeError():  # Python keeps such bytes as lone surrogates
            text = f"an argument, or stdin, is not UTF-8 text ({error.reason}); convert it, e.g. with iconv"
            return CommandFailed(text, ExitCode.USAGE)
        case OSError() if error.errno != errno.EPIPE:  # typer ends a command whose reader has gone
            return CommandFailed(_of_system(error), ExitCode.FAILED)
        case InvalidInput() | SetupError():
            return CommandFailed(error.detail, ExitCode.USAGE)
        case BroadcasterError():
            return CommandFailed(error.detail, ExitCode.FAILED)
    return None


def _of_system(error: OSError) -> str:
    reason = error.strerror or str(error) or type(error).__name__
    if error.filename is None:
        return f"the system refused: {reason}"
    return f"{error.filename} cannot be used: {reason}"
