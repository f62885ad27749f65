"""Where the library's own warnings go: into the program's ``logging``, which knows where its lines belong.

structlog unconfigured prints to stdout, and a program of somebody else's may have a meaning for its stdout.
"""

from __future__ import annotations

import logging

import structlog


def get_logger(name: str) -> structlog.stdlib.BoundLogger:
    """A logger whose lines are ``event='…' stream='…'``, under the logging logger of this name."""
    logger: structlog.stdlib.BoundLogger = structlog.wrap_logger(
        logging.getLogger(name),
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.processors.format_exc_info,
            structlog.processors.KeyValueRenderer(key_order=["event"]),
        ],
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    return logger
