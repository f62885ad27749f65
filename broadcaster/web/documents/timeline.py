"""The timeline of a generation: what its log shows of its course, without any of its content.

Rules
1. A row has a time only where the log has one. The epoch of an attempt is the time of its grant; no other entry has a
   time. The times of creation, first start and end are those of the meta.
2. Consecutive entries of one kind of output are one row, which counts them. A page may end in the middle of such a row:
   the next page then begins with a row of the same kind.
3. A row holds names and numbers: of a tool its name, of an error its code. No text, no arguments and no results.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final

import msgspec

from broadcaster.core.cursor import START, Cursor
from broadcaster.core.entry import Entry
from broadcaster.web.documents.admin_schemas import TimelineRow

_OUTPUT: Final = {"text-delta": "text", "reasoning-delta": "reasoning", "tool-input-delta": "tool-input"}
# Each has a row of its own; everything else is counted as `other`, or belongs to a part that has a row.
_KINDS: Final = {
    "start": "accepted",
    "start-step": "step",
    "finish-step": "step-end",
    "tool-input-available": "tool-call",
    "tool-input-error": "tool-call-failed",
    "tool-output-available": "tool-result",
    "tool-output-error": "tool-failed",
    "usage": "usage",
    "attempt": "attempt",
    "finish": "end",
    "error": "end",
    "abort": "end",
}
_BORDERS: Final = frozenset({"text-start", "text-end", "reasoning-start", "reasoning-end", "tool-input-start"})


_NAME_CHARS: Final = 200


class _Outline(msgspec.Struct, rename="camel"):
    """The fields of an event that a row shows; all others are skipped."""

    type: str = ""
    tool_call_id: str | None = None
    tool_name: str | None = None
    finish_reason: str | None = None
    attempt: int | None = None
    reason: str | None = None
    code: str | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None


_decode: Final = msgspec.json.Decoder(_Outline).decode


def timeline_rows(entries: Iterable[Entry], *, after: Cursor = START) -> list[TimelineRow]:
    """The rows of one page of a log that begins behind ``after``."""
    rows: list[TimelineRow] = []
    for row in _each_row(entries, after=after):
        if row.events and rows and rows[-1].kind == row.kind:
            rows[-1].events += row.events
        else:
            rows.append(row)
    return rows


def _each_row(entries: Iterable[Entry], *, after: Cursor) -> Iterator[TimelineRow]:
    for entry in entries:
        outline = _outline(entry.event)
        if entry.seq == 1 and after == START and outline.type != "attempt":
            # The first grant writes no entry of its own.
            yield _row(entry, "attempt", at=entry.epoch / 1000, attempt=1)
        if outline.type in _BORDERS:
            continue
        if outline.type in _KINDS:
            yield _shown(entry, outline)
        else:
            yield _row(entry, _OUTPUT.get(outline.type, "other"), events=1)


def _shown(entry: Entry, outline: _Outline) -> TimelineRow:
    kind = _KINDS[outline.type]
    return _row(
        entry,
        kind,
        at=entry.epoch / 1000 if kind == "attempt" else None,
        attempt=outline.attempt,
        tool=_short(outline.tool_name),
        tool_call_id=_short(outline.tool_call_id),
        reason=_short(outline.code or outline.reason or outline.finish_reason),
        outcome=outline.type if kind == "end" else None,
        input_tokens=outline.input_tokens,
        output_tokens=outline.output_tokens,
    )


def _short(name: str | None) -> str | None:
    """Providers choose some of these names."""
    return None if name is None else name[:_NAME_CHARS]


def _row(entry: Entry, kind: str, **fields: Any) -> TimelineRow:
    return TimelineRow.model_validate({"id": str(entry.cursor), "kind": kind, **fields})


def _outline(event: bytes) -> _Outline:
    """An event of another version that cannot be read has no type."""
    try:
        return _decode(event)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return _Outline()
