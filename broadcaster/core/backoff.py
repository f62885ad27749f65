"""The pause before a retry: it grows with every failure in a row, is capped, and is jittered. Pure.

Jitter keeps clients, workers and front-ends that failed together from retrying together.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

_MAX_EXPONENT: Final = 64
"""A float overflows at 2**1024; every cap is reached long before this."""


@dataclass(frozen=True, slots=True)
class BackOff:
    """``first_s`` after the first failure, ``factor`` times more after each further one, ``cap_s`` at most.

    What comes of it is multiplied by a number drawn from ``least`` to ``most``.
    """

    first_s: float
    cap_s: float
    factor: float = 2.0
    least: float = 0.5
    most: float = 1.0

    def pause_s(self, failures: int, *, luck: float) -> float:
        """The pause after the n-th failure in a row (from 1); ``luck`` is drawn from 0 to 1."""
        full_s = min(self.cap_s, self.first_s * self.factor ** min(failures - 1, _MAX_EXPONENT))
        return full_s * (self.least + (self.most - self.least) * luck)
