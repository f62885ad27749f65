"""Where a stream comes from: the request that created it, and the trace which that request belongs to.

Trace context is W3C's (https://www.w3.org/TR/trace-context/): ``traceparent`` is ``00-<trace>-<span>-<flags>``.

Rules
1. A ``traceparent`` that is malformed, sent twice, or of version ``ff`` is ignored, with its ``tracestate`` (3.2.2.3).
   One of a later version is read as far as it begins like version 00 (3.2.4).
2. A ``tracestate`` that is too long or has other than printable characters is dropped; the trace continues without it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

MAX_STATE_CHARS: Final = 512
"""What 3.3.1.5 requires every participant to pass on."""

_PARENT: Final = re.compile(
    r"(?P<version>[0-9a-f]{2})-(?P<trace>[0-9a-f]{32})-(?P<span>[0-9a-f]{16})-(?P<flags>[0-9a-f]{2})(?P<rest>-.*)?",
    re.ASCII,
)
_STATE: Final = re.compile(rf"[\x20-\x7e]{{1,{MAX_STATE_CHARS}}}")
_INVALID_VERSION: Final = "ff"
_FIRST_VERSION: Final = "00"


class TraceContext(NamedTuple):
    """A place in a trace: what a child of it needs. Ids are lower-case hexadecimal."""

    trace_id: str
    span_id: str
    flags: str = "00"
    state: str = ""

    @classmethod
    def parse(cls, parents: Sequence[str], states: Sequence[str] = ()) -> TraceContext | None:
        """The context of these header values; None: there is none that may be used (rule 1)."""
        found = _PARENT.fullmatch(parents[0].strip(" \t")) if len(parents) == 1 else None
        if found is None or found["version"] == _INVALID_VERSION:
            return None
        if found["rest"] is not None and found["version"] == _FIRST_VERSION:
            return None
        if not found["trace"].strip("0") or not found["span"].strip("0"):
            return None
        state = ",".join(each.strip(" \t") for each in states if each.strip(" \t"))
        return cls(found["trace"], found["span"], found["flags"], state if _STATE.fullmatch(state) else "")

    @property
    def parent(self) -> str:
        """The value of ``traceparent`` for a child."""
        return f"{_FIRST_VERSION}-{self.trace_id}-{self.span_id}-{self.flags}"

    def headers(self) -> dict[str, str]:
        """The headers for a child."""
        state = {"tracestate": self.state} if self.state else {}
        return {"traceparent": self.parent, **state}


class Origin(NamedTuple):
    """The request that created a stream; stored in the stream's meta."""

    request_id: str | None = None
    surface: str | None = None
    trace: TraceContext | None = None

    @classmethod
    def from_hash(cls, fields: Mapping[bytes, bytes]) -> Origin:
        """Read the fields of a stream's meta."""

        def text(name: bytes) -> str:
            return fields.get(name, b"").decode()

        trace = TraceContext.parse([text(b"traceparent")], [text(b"tracestate")])
        return cls(text(b"request_id") or None, text(b"surface") or None, trace)

    def fields(self) -> dict[str, str]:
        """The fields of a stream's meta."""
        named = {"request_id": self.request_id, "surface": self.surface}
        trace = {} if self.trace is None else self.trace.headers()
        return {name: value for name, value in {**named, **trace}.items() if value}


NO_ORIGIN: Final = Origin()
ORIGIN_FIELDS: Final = ("request_id", "surface", "traceparent", "tracestate")
