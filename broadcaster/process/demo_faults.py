"""The faults of `broadcaster demo`: their names in its routes and between its processes, and their bounds."""

from __future__ import annotations

from typing import Final, Literal

DemoFault = Literal["kill-worker", "restart-front-end", "cut-redis"]

KILL_WORKER: Final = "kill-worker"
RESTART_FRONT_END: Final = "restart-front-end"
CUT_REDIS: Final = "cut-redis"

CUT_S: Final = 7.0
"""How long Redis is cut off: the page shows for some seconds that it does not respond. No generation changes its
worker: none counts as lost before Redis has answered for one lease."""
PRESENCE_TTL_S: Final = 6.0
"""How long the viewers of a killed front-end of the demo count: a multiple of the interval of its reports."""
