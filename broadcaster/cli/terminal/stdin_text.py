"""stdin as text, for commands that read it while nothing else runs; one that has other work reads ``stdin_lines``."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

from broadcaster.cli.terminal.exit_codes import CommandFailed, ExitCode


@contextmanager
def reading_stdin() -> Iterator[TextIO]:
    """stdin, to be read in the block. Raises CommandFailed when it is closed or holds what is no text."""
    stdin: TextIO | None = getattr(sys, "stdin", None)
    if stdin is None:
        raise CommandFailed("stdin is closed: there is nothing to read from it", ExitCode.USAGE)
    try:
        yield stdin
    except UnicodeDecodeError as error:
        raise CommandFailed(f"stdin cannot be read: {error}; convert it, e.g. with iconv", ExitCode.USAGE) from error
