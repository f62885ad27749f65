"""A log line that cannot be written costs a line, and not the work of the code that wrote it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

import pytest
import structlog

from broadcaster.observability.logs import get_logger
from broadcaster.observability.telemetry import set_up_logging


class FillingDisk:
    """A stderr whose disk is full while ``is_full``."""

    def __init__(self, file: TextIO) -> None:
        self._file = file
        self.is_full = False

    def write(self, text: str) -> int:
        if self.is_full:
            raise OSError(28, "No space left on device")
        return self._file.write(text)

    def flush(self) -> None:
        self._file.flush()

    def isatty(self) -> bool:
        return False


@pytest.fixture
def stderr(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[FillingDisk, Path]]:
    was = structlog.get_config() if structlog.is_configured() else None
    path = tmp_path / "stderr"
    with path.open("w") as file:
        disk = FillingDisk(file)
        monkeypatch.setattr(sys, "stderr", disk)
        set_up_logging("info", format="json")
        yield disk, path
    structlog.reset_defaults()
    if was is not None:
        structlog.configure(**was)


def test_lines_are_dropped_while_the_disk_is_full_and_written_afterwards(stderr: tuple[FillingDisk, Path]) -> None:
    disk, path = stderr
    log = get_logger("broadcaster.test")
    log.warning("before")
    disk.is_full = True
    for level in ("info", "warning", "error", "exception", "critical"):
        getattr(log, level)("meanwhile")
    disk.is_full = False
    log.warning("afterwards")
    lines = path.read_text()
    assert ('"before"' in lines, '"meanwhile"' in lines, '"afterwards"' in lines) == (True, False, True)
