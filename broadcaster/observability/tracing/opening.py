"""Set-up of traces for every process: off, or to an OTLP receiver, which needs the extra ``otel``."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Final, Literal

from broadcaster.errors import SetupError
from broadcaster.observability.tracing.spans import UNTRACED, Tracing

TracesMode = Literal["off", "otlp"]

_NO_EXTRA: Final = (
    "BROADCASTER_TRACES=otlp needs the extra `otel`: pip install 'llm-broadcaster[otel]', or set BROADCASTER_TRACES=off"
)


def open_tracing(mode: TracesMode, *, service: str) -> Tracing:
    """The tracing of this process, closed by the caller. Raises SetupError if the extra is missing."""
    if mode == "off":
        return UNTRACED
    if find_spec("opentelemetry") is None or find_spec("opentelemetry.sdk") is None:
        raise SetupError(_NO_EXTRA)
    try:
        from broadcaster.observability.tracing.otel import open_exporting  # noqa: PLC0415 - an optional extra
    except ImportError:
        raise SetupError(_NO_EXTRA) from None
    return open_exporting(service)
