"""Ages: how long generations have waited or run, measured by this process.

The log has the times of Redis's clock, and that clock may step. So an age is computed by Redis's clock only once, when
this process first sees the time; from then on it grows with the monotonic clock of this process. A step that this
process saw before is taken off (``leapt_ms``). An age may therefore be too small, but never too large.
"""

from __future__ import annotations

import asyncio
from typing import TypeAlias

_Key: TypeAlias = tuple[str, int]


class Ages:
    """Remembers the ages of this round and the one before; ``begin_round`` forgets older ones."""

    def __init__(self) -> None:
        self._births: dict[_Key, float] = {}
        self._births_before: dict[_Key, float] = {}

    def age_ms(self, generation_id: str, since_ms: int, *, now_ms: int, leapt_ms: int) -> float:
        """How long ago ``since_ms`` was; both times are of Redis's clock."""
        now = asyncio.get_running_loop().time() * 1000
        key = (generation_id, since_ms)
        birth = self._births.get(key, self._births_before.get(key))
        if birth is None:
            birth = now - max(0, now_ms - since_ms - leapt_ms)
        self._births[key] = birth
        return now - birth

    def begin_round(self) -> None:
        """A round over all open generations begins."""
        self._births_before, self._births = self._births, {}
