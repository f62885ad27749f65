"""How a command fails: one line on stderr with a remedy, and an exit code that scripts can branch on."""

from __future__ import annotations

from enum import IntEnum
from typing import Any, Final

import typer
from pydantic import ValidationError
from pydantic_settings import SettingsError
from typer.core import TyperGroup

from broadcaster.cli.screen import Screen
from broadcaster.client import BadAnswer, CannotConnect, ClientError, GaveUp, StreamClosed
from broadcaster.errors import BroadcasterError, InvalidInput, SetupError
from broadcaster.settings import told as told_settings


class ExitCode(IntEnum):
    """What the shell is told."""

    OK = 0
    FAILED = 1  # the generation failed or was stopped, or the front-end refused
    USAGE = 2  # the command, its arguments or the settings are wrong
    CANNOT_CONNECT = 3  # no front-end answers, or not any more
    INTERRUPTED = 130  # Ctrl-C: 128 + SIGINT, as shells count


class CommandFailed(Exception):
    """A failure that has found its words and its exit code."""

    def __init__(self, text: str, code: ExitCode) -> None:
        super().__init__(text)
        self.code = code


_REMEDIES: Final = {
    "unknown_stream": "see what there is with: broadcaster ls",
    "unknown_model": "choose another --model, or add a route with BROADCASTER_ROUTES",
    "idempotency_mismatch": "use another key for another request",
    "forbidden_host": "without keys a front-end serves only its own machine: use http://127.0.0.1 and its port",
    "unauthorized": "set BROADCASTER_API_KEY to a key of this front-end",
    "forbidden": "set BROADCASTER_API_KEY to a key that may do this",
}


def told(error: ClientError, *, address: str) -> CommandFailed:
    """The words and the exit code of a failed call to the front-end at ``address``."""
    if isinstance(error, CannotConnect):
        text = f"cannot connect to {address} ({error.detail}); start one with: broadcaster up, or set --url"
        return CommandFailed(text, ExitCode.CANNOT_CONNECT)
    if isinstance(error, GaveUp):
        return CommandFailed(f"lost {address}: {error.detail}", ExitCode.CANNOT_CONNECT)
    if isinstance(error, BadAnswer):
        return CommandFailed(f"{address}: {error.detail}; check --url and BROADCASTER_URL", ExitCode.FAILED)
    if isinstance(error, StreamClosed):
        return CommandFailed(error.detail, ExitCode.FAILED)
    remedy = _REMEDIES.get(error.code, "try again in a moment" if error.retry else None)
    return CommandFailed(f"{error.code}: {error.detail}" + (f"; {remedy}" if remedy else ""), ExitCode.FAILED)


class TellingGroup(TyperGroup):
    """The command group: every failure that is somebody's to remedy becomes one line; the rest keeps its traceback."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except CommandFailed as error:
            _exit(str(error), error.code)
        except (ValidationError, SettingsError) as error:
            text = f"the settings are not valid: {told_settings(error)}; change these environment variables"
            _exit(text, ExitCode.USAGE)
        except BroadcasterError as error:
            is_usage = isinstance(error, InvalidInput | SetupError)
            _exit(error.detail, ExitCode.USAGE if is_usage else ExitCode.FAILED)


def _exit(text: str, code: ExitCode) -> None:
    Screen().fail(text)
    raise typer.Exit(code)
