"""The real worker, with a journal of every append that the log acknowledged.

    python -m tests.faults.workers.recorded_worker

Before the worker does anything else with an answer, the events it confirms go as one line to the file that
``FAULTS_JOURNAL`` names, by one ``write`` of a descriptor opened to append: several workers share it, and SIGKILL loses
nothing that was acted upon.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, Final, Protocol

from broadcaster.core.batching import AppendReply, Batch, Code
from broadcaster.log.streams.writer import StreamWriter
from tests.faults.history import Acked
from worker import main, runner

JOURNAL_VARIABLE: Final = "FAULTS_JOURNAL"


class Noter(Protocol):
    """Receives acknowledged appends."""

    def note(self, acked: Acked) -> None:
        """Take it, before anything else happens."""


class RecordedWriter(StreamWriter):
    """A writer that reports to its ``journal`` what the log acknowledged; the test sets that."""

    journal: Noter

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._taken: Batch | None = None

    def take(self) -> Batch | None:
        batch = super().take()
        if batch is not None:
            self._taken = batch
        return batch

    def replied(self, answer: AppendReply) -> None:
        if self._taken is not None and self._taken.events and answer.code in (Code.APPENDED, Code.DUPLICATE):
            self.journal.note(Acked(self.stream_id, self.epoch, self._taken.first_seq, tuple(self._taken.events)))
        super().replied(answer)


class Journal:
    """Acknowledged appends in a file, a line each."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def note(self, acked: Acked) -> None:
        """Write it down, now."""
        events = [event.decode() for event in acked.events]
        line = json.dumps([acked.stream, acked.epoch, acked.first_seq, events], ensure_ascii=True)
        os.write(self._file, f"{line}\n".encode())


def read_journal(path: Path) -> list[Acked]:
    """What was written down so far; a last line that is not whole yet is left."""
    lines = path.read_bytes().split(b"\n")[:-1] if path.exists() else []
    rows = (json.loads(line) for line in lines)
    return [Acked(stream, epoch, first, tuple(map(str.encode, events))) for stream, epoch, first, events in rows]


def run() -> None:
    """Run the worker with recording writers. Its composition root knows writers by the runner's name for them."""
    RecordedWriter.journal = Journal(Path(os.environ[JOURNAL_VARIABLE]))
    vars(runner)["StreamWriter"] = RecordedWriter
    main.main()


if __name__ == "__main__":
    run()
