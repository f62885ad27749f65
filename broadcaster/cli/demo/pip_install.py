"""``pip install`` with the megabytes and seconds it takes: what `broadcaster demo` installs its model with.

Rules
1. On a terminal one line is redrawn; elsewhere there is one line at the begin and one at the end.
2. pip's errors go to stderr as they are.
"""

from __future__ import annotations

import os
import re
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from importlib.util import find_spec
from typing import IO, Final

_REDRAW_S: Final = 0.5
_FILE: Final = re.compile(r"\s*(Downloading|Using cached) (\S+) \(([0-9.]+) (bytes|kB|MB|GB)\)")
_UNITS: Final[Mapping[str, float]] = {"bytes": 1e-6, "kB": 1e-3, "MB": 1, "GB": 1e3}
_QUIET: Final = ("--disable-pip-version-check", "--no-input", "--progress-bar", "off")


def installer() -> tuple[str, ...] | None:
    """The command that installs into this interpreter's environment, without what to install; None: there is none."""
    if find_spec("pip") is not None:
        return (sys.executable, "-P", "-m", "pip", "install", *_QUIET)
    if (uv := shutil.which("uv")) is not None:
        return (uv, "pip", "install", "--python", sys.executable)
    return None


class Installation:
    """What pip has reported so far."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._began = time.monotonic()
        self._files = 0
        self._megabytes = 0.0
        self._doing = "starting"

    def read(self, line: str) -> None:
        """Take one line of pip's output; most lines change nothing."""
        if (found := _FILE.match(line)) is not None:
            kind, file, size, unit = found.groups()
            if file.endswith(".metadata"):
                return
            self._files += 1
            self._megabytes += float(size) * _UNITS[unit]
            verb = "downloading" if kind == "Downloading" else "from the cache:"
            self._doing = f"{verb} {os.path.basename(file)} ({size} {unit})"
        elif line.startswith("Installing collected packages"):
            self._doing = "unpacking"

    @property
    def state(self) -> str:
        """The line of a terminal while it runs."""
        return f"{self.total} · {self._doing}"

    @property
    def total(self) -> str:
        """What it has taken so far."""
        files = "1 file" if self._files == 1 else f"{self._files} files"
        amount = f"{files}, {self._megabytes:.1f} MB, " if self._files else ""
        return f"{self._name}: {amount}{time.monotonic() - self._began:.0f} s"


def install(name: str, command: Sequence[str]) -> int:
    """Run this command, and print what it takes; its exit code."""
    installation = Installation(name)
    is_terminal = sys.stdout.isatty()
    if not is_terminal:
        print(f"{name}: installing", flush=True)
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) as process:
        assert process.stdout is not None
        try:
            for line in _lines(process.stdout):
                installation.read(line)
                if is_terminal:
                    _redraw(installation.state)
        except BaseException:
            process.terminate()
            raise
    if is_terminal:
        _redraw("")
    if process.returncode == 0:
        print(installation.total, flush=True)
    return process.returncode


def _lines(output: IO[bytes]) -> Iterator[str]:
    """Its lines as they come, and an empty one whenever none has come for a while."""
    unread = b""
    while True:
        if not select.select([output], [], [], _REDRAW_S)[0]:
            yield ""
            continue
        if not (part := os.read(output.fileno(), 65536)):
            return
        *lines, unread = (unread + part).split(b"\n")
        yield from (line.decode("utf-8", "replace") for line in lines)


def _redraw(text: str) -> None:
    width = shutil.get_terminal_size().columns - 1
    print(f"\r{text[:width].ljust(width)}\r", end="", flush=True)
    if text:
        print(text[:width], end="", flush=True)
