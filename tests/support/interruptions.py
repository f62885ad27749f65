"""A signal handler at each point of a call at which Python may run one.

CPython runs the handler of a signal where a Python function begins and where a call of C returns (and where a loop goes
back to its beginning). A profile function runs at the first two, so a test comes to each of them in turn. Where nothing
is called, no handler runs.
"""

from __future__ import annotations

import gc
import sys
import threading
from collections.abc import Callable
from itertools import count
from types import FrameType
from typing import Any, Final

DEADLINE_S: Final = 30.0
_POINTS: Final = frozenset({"call", "c_return"})
# What is raised in them is lost.
_FINALIZERS: Final = frozenset({"__del__", "_remove"})


class TimeIsUp(Exception):
    """What a handler raises: a time limit of the job."""


def raise_time_is_up() -> None:
    """A handler that raises."""
    raise TimeIsUp


def interrupted(call: Callable[[], object], handler: Callable[[], object], *, at: int) -> bool:
    """Make the call, and run the handler at its point ``at`` (from 1); whether the call has so many points.

    Raises what the call raises, but not TimeIsUp.
    """
    points = 0

    def profile(frame: FrameType, event: str, _argument: Any) -> None:
        nonlocal points
        if event not in _POINTS or frame.f_code.co_name in _FINALIZERS:
            return
        points += 1
        if points == at:
            sys.setprofile(None)
            handler()

    gc.disable()
    sys.setprofile(profile)
    try:
        call()
    except TimeIsUp:
        pass
    finally:
        sys.setprofile(None)
        gc.enable()
    return points >= at


def at_each_point(call_at: Callable[[int], bool], *, step: int = 1) -> None:
    """``call_at(1)``, ``call_at(1 + step)`` and so on, until one returns False, on a thread with a deadline."""
    failures: list[BaseException] = []
    reached = [0]

    def run() -> None:
        try:
            reached[0] = next(at for at in count(1, step) if not call_at(at))
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(DEADLINE_S)
    assert not thread.is_alive(), "a call has not returned"
    if failures:
        raise failures[0]
    assert reached[0] > step, "the call has no point"
