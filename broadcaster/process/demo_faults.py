"""The faults of `broadcaster demo`: their names in its routes and between its processes, and their bounds."""

from __future__ import annotations

from typing import Final, Literal

DemoFault = Literal["kill-worker", "restart-front-end", "cut-redis"]

KILL_WORKER: Final = "kill-worker"
RESTART_FRONT_END: Final = "restart-front-end"
CUT_REDIS: Final = "cut-redis"

CUT_S: Final = 3.0
"""How long Redis is cut off: shorter than a lease, so that no generation changes its worker."""
