"""``broadcaster worker``: a worker in this terminal. The worker is a separate program, started here."""

from __future__ import annotations

import os
import sys


def worker() -> None:
    """Run a worker (the same as `python -m worker`); BROADCASTER_REDIS_URL names its Redis."""
    os.execv(sys.executable, [sys.executable, "-m", "worker"])
