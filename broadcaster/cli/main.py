"""The ``broadcaster`` command."""

from __future__ import annotations

import io
import sys

from broadcaster.cli import dead, doctor, publish, serve, show, up, watch, worker
from broadcaster.cli.application import create_app

app = create_app((up, serve, worker, watch, show, publish, dead, doctor))


def main() -> None:
    """Run the command of this process's arguments; ends the process with an ``ExitCode``."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # An answer in another alphabet must not end the command on a terminal that knows only its own.
            stream.reconfigure(errors="backslashreplace")
    app(prog_name="broadcaster")
