"""A child process that must not outlive its parent, however the parent ends (kill -9 included).

Linux sends the signal itself (PR_SET_PDEATHSIG, prctl(2)); elsewhere only the parent's orderly shutdown ends children.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from typing import Final

_PR_SET_PDEATHSIG: Final = 1
PARENT_VARIABLE: Final = "BROADCASTER_PARENT_PID"

_libc: Final = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


def die_with_parent() -> None:
    """Request SIGTERM when the parent dies. Safe between fork and exec; it stays in force after exec."""
    if _libc is not None:
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)


def follow_parent() -> None:
    """In a child started with ``PARENT_VARIABLE`` set: die with that parent; at once if it is gone already."""
    parent = os.environ.get(PARENT_VARIABLE)
    if parent is None:
        return
    die_with_parent()
    if os.getppid() != int(parent):
        os.kill(os.getpid(), signal.SIGTERM)
