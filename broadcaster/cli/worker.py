"""``broadcaster worker``: a worker in this terminal. The worker is a separate program, started here."""

from __future__ import annotations

import os
import sys


def worker() -> None:
    """Run a worker (the same as `python -m worker`); BROADCASTER_REDIS_URL names its Redis."""
    # -P: a worker.py of the current folder is another program.
    os.execv(sys.executable, [sys.executable, "-P", "-m", "worker"])
