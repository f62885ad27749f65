"""Log set-up for every process: one JSON object a line to stderr, or text for people.

What is logged are names, ids, counts and durations; never payloads, prompts or keys. The lines about requests, viewers
and attempts have documented fields (lines.py). Lines of libraries get the same form.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Literal

from broadcaster.process.absence import absent

with absent("rich"):  # structlog imports it for tracebacks with local variables, which are turned off below
    import structlog

LogLevel = Literal["debug", "info", "warning", "error"]
LogFormat = Literal["json", "console"]


def set_up_logging(
    level: LogLevel,
    *,
    format: LogFormat | None = None,
) -> None:
    """Set structlog (ours) and logging (libraries') to write to stderr from ``level`` on.

    ``format`` None: console on a terminal, json elsewhere.
    """
    number = logging.getLevelNamesMapping()[level.upper()]
    is_json = not sys.stderr.isatty() if format is None else format == "json"
    renderer: structlog.typing.Processor = (
        structlog.processors.JSONRenderer()
        if is_json
        # Its default tracebacks contain local variables: prompts, URLs and keys.
        else structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
        )
    )
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    if is_json:
        shared.append(structlog.processors.format_exc_info)
    stderr = sys.stderr
    structlog.configure(
        processors=[*shared, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        # One write per line: several processes may share this stderr.
        logger_factory=lambda *_: _LineLogger(stderr),
        cache_logger_on_first_use=True,
    )
    logging.basicConfig(level=max(number, logging.WARNING), handlers=[_library_handler(shared, renderer)])


class _LineLogger(structlog.WriteLogger):
    """Writes lines, and drops a line if stderr refuses it: the disk may be full, or the pipe closed.

    The code that logs continues. Python's ``logging`` also drops such lines.
    """

    def msg(self, message: str) -> None:
        with suppress(OSError):
            super().msg(message)

    log = debug = info = warn = warning = msg
    fatal = failure = err = error = critical = exception = msg


def _library_handler(shared: list[structlog.typing.Processor], renderer: structlog.typing.Processor) -> logging.Handler:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.stdlib.add_logger_name],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    return handler


def add_to_lines(**fields: str | int) -> None:
    """Add these fields to every line that this task writes, and every task that it starts from now on."""
    structlog.contextvars.bind_contextvars(**fields)


def name_traces(trace_of: Callable[[str], str | None]) -> None:
    """Add its trace id to every line that names a stream.

    Call it once, after ``set_up_logging``, without which it does nothing.
    """

    def name_trace(_logger: Any, _method: str, line: structlog.typing.EventDict) -> structlog.typing.EventDict:
        stream = line.get("stream")
        if "trace_id" not in line and stream is not None and (trace_id := trace_of(stream)) is not None:
            line["trace_id"] = trace_id
        return line

    if structlog.is_configured():
        structlog.configure(processors=[name_trace, *structlog.get_config()["processors"]])
