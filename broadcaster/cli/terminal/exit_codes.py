"""How a command fails: one line on stderr, and an exit code that scripts can branch on."""

from __future__ import annotations

from enum import IntEnum
from typing import Final


class ExitCode(IntEnum):
    """The exit codes of all commands."""

    OK = 0
    FAILED = 1
    USAGE = 2
    CANNOT_CONNECT = 3
    INCOMPLETE = 4
    INTERRUPTED = 130  # 128 + SIGINT, as shells count


_MEANINGS: Final = {
    ExitCode.OK: "done",
    ExitCode.FAILED: "the generation failed or was stopped, the front-end refused, or a check failed",
    ExitCode.USAGE: "the command, its arguments or the settings are wrong",
    ExitCode.CANNOT_CONNECT: "no front-end (or Redis) answers, or not any more",
    ExitCode.INCOMPLETE: "what was printed lacks a part, which has expired or was trimmed",
    ExitCode.INTERRUPTED: "Ctrl-C",
}


def describe_exit_codes() -> str:
    """All of them in one sentence, for ``--help``."""
    return "; ".join(f"{code.value} {meaning}" for code, meaning in _MEANINGS.items())


class CommandFailed(Exception):
    """A failure with its text and its exit code."""

    def __init__(self, text: str, code: ExitCode) -> None:
        super().__init__(text)
        self.code = code
