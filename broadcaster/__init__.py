"""broadcaster keeps an LLM answer alive: workers append numbered events to a log, front-ends replay and fan out."""

from broadcaster.core.cursor import Cursor

__all__ = ["Cursor"]
__version__ = "0.1.0"
