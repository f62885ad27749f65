"""What a publisher may append to a feed: JSON values in, stored event bytes out. Pure.

Rules
1. Allowed are the part types of ``core/events.py`` and ``data-<name>``. An unknown type is refused: a typing error must
   not become an event that every viewer silently ignores.
2. A known type has its fields, of their types, and no others.
3. Never ``attempt`` (a feed has none), never ``hub.*`` (the hub's own notices), and a terminal event only as the
   feed's end (``encode_end``).
4. A value that cannot be encoded as JSON again is refused: NaN, Infinity, lone surrogates, deep nesting, a value that
   contains itself, a type of Python that JSON lacks. A text or number of a subclass is stored as a plain one.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any, Final

import msgspec

from broadcaster.core import events as ev
from broadcaster.core.requests.json_values import (
    MAX_LEVELS,
    circle_in,
    escaped_step,
    foreign_value,
    is_too_deep,
    not_json,
    plain_scalar,
)
from broadcaster.errors import InvalidEvent

MAX_EVENTS_PER_APPEND: Final = 1000
# The code of the ``error`` event of a publisher that has failed.
PUBLISHER_FAILED: Final = "publisher_failed"
DROPPED_TYPE: Final = "data-dropped"
# The end of a feed of which Redis has lost a part.
TORN: Final = ev.Error(error_text="Redis lost a part of this stream", code="log_lost")

UNWRITABLE: Final = f"NaN, Infinity, lone surrogates and more than {MAX_LEVELS} levels of nesting cannot be kept"

# Names that need no escaping in any dialect, header or log line.
_DATA_TYPE: Final = re.compile(r"data-[A-Za-z0-9_.:-]{1,64}", re.ASCII)
_HUB_PREFIX: Final = "hub."
# Longer texts resemble no known type, and a comparison takes their length squared.
_LONGEST_TYPE: Final = 64
_DATA_FIELDS: Final = frozenset(field.encode_name for field in msgspec.structs.fields(ev.DataEvent)) | {"type"}
_FIELDS: Final = {
    str(struct.__struct_config__.tag): frozenset(field.encode_name for field in msgspec.structs.fields(struct))
    | {"type"}
    for struct in ev.KnownEvent.__args__
}
_BYTES: Final = (bytes, bytearray, memoryview)
_encoder: Final = msgspec.json.Encoder(enc_hook=plain_scalar)
# "Expected `str`, got `int` - at `$.id`": the place comes last, and only invalid enum values are echoed.
_MESSAGE: Final = re.compile(r"(?P<what>.*?)(?: - at `\$\.?(?P<path>.*)`)?", re.DOTALL)
_ECHO: Final = re.compile(r"^Invalid enum value .*", re.DOTALL)
_STEP: Final = re.compile(r"[.\[\]]+")


class _NotWritable(ValueError):
    """Rule 4; ``pointer`` leads to the fault, as in InvalidEvent."""

    def __init__(self, detail: str, *, pointer: str = "") -> None:
        super().__init__(detail)
        self.pointer = pointer


def encode_dropped(events: int) -> bytes:
    """The event that reports so many events that are not in the log."""
    return ev.encode_event(ev.DataEvent(type=DROPPED_TYPE, data={"events": events}))


def plain_copy(value: object) -> Any:
    """A copy of a value that is encoded later. Raises ValueError when it cannot be stored as JSON (rule 4)."""
    encode_writable(value)
    return msgspec.to_builtins(value, enc_hook=plain_scalar)


def encode_writable(value: object) -> bytes:
    """The value as the log stores it. Raises ValueError when it cannot be stored as JSON (rule 4)."""
    try:
        # json refuses NaN, bytes and, before it has written much, a value that contains itself. The log's encoder would
        # write NaN as null and bytes as base64, unmarked; it refuses lone surrogates.
        json.dumps(value, allow_nan=False)
        encoded = _encoder.encode(value)
    except (ValueError, TypeError, RecursionError) as error:
        found = foreign_value(value) if isinstance(error, TypeError) else _contained(value)
        detail, pointer = found or (UNWRITABLE, "")
        raise _NotWritable(detail, pointer=pointer) from error
    if is_too_deep(value):
        raise _NotWritable(UNWRITABLE)
    return encoded


def _contained(value: object) -> tuple[str, str] | None:
    """What is wrong with a value that contains itself, and the pointer to that place; None: it does not."""
    pointer = circle_in(value)
    return None if pointer is None else (f"the value at {pointer} contains itself, which JSON cannot hold", pointer)


def as_mapping(event: Mapping[str, Any] | ev.Event) -> Any:
    """The event as a JSON object. Raises InvalidEvent."""
    if not isinstance(event, msgspec.Struct):
        return event
    try:
        return msgspec.to_builtins(event, builtin_types=_BYTES, enc_hook=plain_scalar)
    except TypeError as error:
        raise InvalidEvent(str(error)) from error
    except RecursionError as error:
        fields = {field.encode_name: getattr(event, field.name) for field in msgspec.structs.fields(event)}
        detail, pointer = _contained(fields) or (UNWRITABLE, "")
        raise InvalidEvent(detail, pointer=pointer) from error


def encode_published(value: object, *, is_writable: bool = False) -> bytes:
    """The bytes of one event to append; ``is_writable``: rule 4 is known to hold. Raises InvalidEvent."""
    kind, fields = _typed(value)
    if kind in ev.TERMINAL_TYPES:
        raise InvalidEvent(f"{kind} ends a feed: close it instead", pointer="/type")
    if kind.startswith(_HUB_PREFIX):
        raise InvalidEvent("types beginning hub. are the hub's own", pointer="/type")
    if kind == "attempt" or (kind not in ev.KNOWN_TYPES and not kind.startswith("data-")):
        raise InvalidEvent(
            f"not a type that may be published: a known part type or data-<name>{_nearest(kind)}", pointer="/type"
        )
    if kind not in ev.KNOWN_TYPES and _DATA_TYPE.fullmatch(kind) is None:
        raise InvalidEvent("the name after data- has 1 to 64 of A-Z a-z 0-9 _ . : -", pointer="/type")
    return _encode(kind, fields, is_writable=is_writable)


def _nearest(kind: str) -> str:
    """The known type that a mistyped one resembles, as the rest of a sentence; empty: there is none."""
    published = sorted(ev.KNOWN_TYPES - ev.TERMINAL_TYPES - {"attempt"})
    near = get_close_matches(kind[:_LONGEST_TYPE], published, n=1)
    return f"; the nearest is {near[0]}" if near else ""


def encode_end(value: object, *, is_writable: bool = False) -> bytes:
    """The bytes of the terminal event that closes a feed, as `encode_published`; an empty object is ``finish``."""
    kind, fields = _typed({"type": "finish"} if value == {} else value)
    if kind not in ev.TERMINAL_TYPES:
        raise InvalidEvent("a feed ends with finish, error or abort", pointer="/type")
    return _encode(kind, fields, is_writable=is_writable)


def _typed(value: object) -> tuple[str, Mapping[str, object]]:
    if not isinstance(value, Mapping):
        is_bytes = isinstance(value, _BYTES)
        raise InvalidEvent(not_json(value, "") if is_bytes else "an event is a JSON object with a type")
    kind = value.get("type")
    if not isinstance(kind, str):
        raise InvalidEvent("an event has a type, a text", pointer="/type")
    return kind, value


def _encode(kind: str, fields: Mapping[str, object], *, is_writable: bool) -> bytes:
    for name in fields:
        if name not in _FIELDS.get(kind, _DATA_FIELDS):
            raise InvalidEvent("this type has no such field", pointer=f"/{escaped_step(name)}")
    try:
        encoded = _encoder.encode(fields) if is_writable else encode_writable(fields)
    except _NotWritable as error:
        raise InvalidEvent(str(error), pointer=error.pointer) from error
    try:
        return ev.encode_event(ev.decode_event(encoded))
    except msgspec.DecodeError as error:
        raise _refused(error) from error


def _refused(error: msgspec.DecodeError) -> InvalidEvent:
    """msgspec's message and path, without the value."""
    match = _MESSAGE.fullmatch(str(error))
    what, path = (match["what"], match["path"] or "") if match is not None else ("not valid", "")
    pointer = "".join(f"/{step}" for step in _STEP.split(path) if step and step != "...")
    return InvalidEvent(_ECHO.sub("not one of the values it may have", what), pointer=pointer)
