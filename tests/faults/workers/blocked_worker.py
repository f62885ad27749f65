"""The recorded worker, whose event loop SIGUSR1 blocks for the seconds in ``FAULTS_BLOCK_S``."""

from __future__ import annotations

import os
import signal
import time
from types import FrameType
from typing import Final

from tests.faults.workers import recorded_worker

BLOCK_VARIABLE: Final = "FAULTS_BLOCK_S"


def hold_the_loop(number: int, frame: FrameType | None) -> None:
    """Python runs this in the loop's own thread: nothing else moves there meanwhile."""
    time.sleep(float(os.environ[BLOCK_VARIABLE]))


if __name__ == "__main__":
    signal.signal(signal.SIGUSR1, hold_the_loop)
    recorded_worker.run()
