"""broadcaster keeps an LLM answer alive: workers append numbered events to a log, front-ends replay and fan out.

    from broadcaster import Broadcaster, Cursor
    from broadcaster import sync

Both names are imported on first use: ``broadcaster.sync`` must not import a web framework into a job.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from broadcaster.core.cursor import Cursor
    from broadcaster.library.broadcaster import Broadcaster

__all__ = ["Broadcaster", "Cursor"]
__version__ = "0.1.0"

_HOMES: Final = {"Broadcaster": "broadcaster.library.broadcaster", "Cursor": "broadcaster.core.cursor"}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(_HOMES[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
