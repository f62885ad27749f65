"""Where warnings go: into structlog where it is set up (our own processes, see telemetry.py), else into ``logging``.

structlog prints to stdout unless it is set up, and a program that uses the library may need its stdout for itself.
It is imported with the first message: a job that logs nothing does not wait for it.
"""

from __future__ import annotations

import logging
from functools import cached_property
from importlib import import_module
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    import structlog


class _Logger:
    """Decides at each message: modules create their loggers before logging is set up."""

    def __init__(self, name: str) -> None:
        self._name = name

    @cached_property
    def _plain(self) -> Any:
        structlog = import_module("structlog")
        return structlog.wrap_logger(
            logging.getLogger(self._name),
            processors=[
                structlog.stdlib.filter_by_level,
                structlog.processors.format_exc_info,
                structlog.processors.KeyValueRenderer(key_order=["event"]),
            ],
            wrapper_class=structlog.stdlib.BoundLogger,
            cache_logger_on_first_use=True,
        )

    def __getattr__(self, method: str) -> Any:
        structlog = import_module("structlog")
        return getattr(structlog.get_logger(self._name) if structlog.is_configured() else self._plain, method)


def get_logger(name: str) -> structlog.stdlib.BoundLogger:
    """A logger with structlog's methods; in ``logging`` its lines are ``event='…' stream='…'``, under this name."""
    return cast("structlog.stdlib.BoundLogger", _Logger(name))
