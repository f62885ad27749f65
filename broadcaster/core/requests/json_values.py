"""How many values JSON holds, and how deeply they are nested: of a text without parsing it, and of a value. Pure.

Also where a value has something that JSON lacks, and what a caller sends in its place.

The outline is the JSON text without its strings and spaces. C code makes and scans it, and no value is built: 4 MB that
would become a million objects are refused after some milliseconds, before any of the objects exists.

pydantic writes no more than 255 levels (``Maximum serialization depth exceeded``), and a response nests the stored
value some levels deep. So nesting is bounded on input: a value that no response could contain is never stored.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterator, Mapping, Set
from datetime import date, time
from enum import Enum
from typing import Any, Final

import msgspec

MAX_LEVELS: Final = 128

# Without escapes, a quote begins or ends a string. Possessive, and the end may be missing: one pass over any input.
_TEXT: Final = re.compile(rb'"[^"]*+"?')
_SPACES: Final = b" \t\r\n"
_STRUCTURE: Final = (b",", b":", b"[", b"{")
_ONE_BRACKET: Final = bytes.maketrans(b"{}", b"[]")
_NO_BRACKETS: Final = bytes(byte for byte in range(256) if byte not in b"[]{}")

_JSON_TYPES: Final = (str, int, float, dict, list, tuple, type(None))
_KEY_TYPES: Final = (str, int, float)
_LEFT: Final = object()
# The first that fits is what to send; each is an expression of Python.
_INSTEAD: Final[tuple[tuple[Callable[[Any], bool], str], ...]] = (
    (lambda value: isinstance(value, bytes | bytearray), "value.decode() or base64.b64encode(value).decode()"),
    (lambda value: isinstance(value, memoryview), "base64.b64encode(value).decode()"),
    (lambda value: isinstance(value, date | time), "value.isoformat() or str(value)"),
    (lambda value: isinstance(value, Enum), "value.value"),
    (lambda value: isinstance(value, Set), "list(value)"),
    (lambda value: isinstance(value, Mapping), "dict(value)"),
    (lambda value: isinstance(value, msgspec.Struct), "msgspec.to_builtins(value)"),
    (lambda value: hasattr(value, "model_dump"), 'value.model_dump(mode="json")'),  # of pydantic
    (dataclasses.is_dataclass, "dataclasses.asdict(value)"),
    (lambda value: hasattr(value, "tolist"), "value.tolist()"),  # of numpy, torch and pandas
)


def count_values(text: bytes, *, most: int) -> int:
    """How many objects, arrays, members, texts, numbers and literals a JSON text holds.

    Exact near ``most``; far below it and far above it, it may be a bound that costs less. A text that is not JSON gets
    a count too, of its commas, colons and brackets.
    """
    at_most = _structure(text) + 1  # counts also the structural characters inside strings
    return at_most if at_most <= most else exact_count(text, most=most)


def exact_count(text: bytes, *, most: int) -> int:
    """As ``count_values``, and exact at and below ``most``."""
    texts = _unescaped(text).count(b'"') // 2
    if texts > most:
        return texts
    shape = _outline(text)
    # One value follows each comma, each colon and each bracket that does not close at once, and one is at the start.
    return _structure(shape) - shape.count(b"[]") - shape.count(b"{}") + 1


def is_deeper(text: bytes, levels: int) -> bool:
    """Whether the objects and arrays of a JSON text are nested more than ``levels`` deep."""
    if text.count(b"[") + text.count(b"{") <= levels:
        return False
    brackets = _outline(text).translate(_ONE_BRACKET, _NO_BRACKETS)
    for _ in range(levels):
        brackets = brackets.replace(b"[]", b"")  # the innermost of each
    return bool(brackets)


def is_too_deep(value: object) -> bool:
    """Whether objects and lists are nested more than ``MAX_LEVELS`` deep. Uses no recursion."""
    layer = [value]
    for _ in range(MAX_LEVELS):
        layer = [
            child
            for each in layer
            if isinstance(each, dict | list | tuple)
            for child in (each.values() if isinstance(each, dict) else each)
            if isinstance(child, dict | list | tuple)
        ]
        if not layer:
            return False
    return True


def foreign_value(value: object) -> tuple[str, str] | None:
    """What is wrong with the first value, or key, that JSON lacks, and the pointer to it; None: there is none."""
    for pointer, each in places_in(value):
        if not isinstance(each, _JSON_TYPES):
            return not_json(each, pointer), pointer
        for key in each if isinstance(each, dict) else ():
            if not isinstance(key, _KEY_TYPES) or isinstance(key, bool):
                return f"a key of type {type(key).__name__}{_at(pointer)} is not JSON: send str(key)", pointer
    return None


def places_in(value: object) -> Iterator[tuple[str, object]]:
    """A value and all in its objects and lists, each with its pointer. Without recursion, to ``MAX_LEVELS``.

    The items of an object or list come once, at the first of its places: a circular value ends.
    """
    layer = [("", value)]
    entered: set[int] = set()
    for _ in range(MAX_LEVELS + 1):
        yield from layer
        found, layer = layer, []
        for pointer, each in found:
            if id(each) not in entered:
                layer += [(pointer + step, child) for step, child in _items(each)]
                entered.add(id(each))


def circle_in(value: object) -> str | None:
    """The pointer to a place where an object or list has itself around it; None: there is none, or it is too deep."""
    entered: set[int] = set()
    around: dict[int, str] = {}  # the step to each that the walk is inside of, from the outside in
    waiting: list[tuple[str, object]] = [("", value)]
    while waiting:
        step, each = waiting.pop()
        if each is _LEFT:
            around.popitem()
        elif id(each) in around:
            return "".join(around.values()) + step if len(around) <= MAX_LEVELS else None
        elif id(each) not in entered and (items := _items(each)):
            entered.add(id(each))
            around[id(each)] = step
            waiting += [("", _LEFT), *items]
    return None


def _items(value: object) -> list[tuple[str, object]]:
    """The items of an object or list, each with its step of a pointer."""
    if isinstance(value, dict):
        return [(f"/{escaped_step(str(name))}", child) for name, child in value.items()]
    return [(f"/{at}", child) for at, child in enumerate(value)] if isinstance(value, list | tuple) else []


def plain_scalar(value: object) -> str | float | int:
    """The text or number of a subclass (numpy.float64, markupsafe.Markup) as a plain one. Raises TypeError for another.

    An ``enc_hook``: msgspec calls it for a subclass, and for True as a key, which is no number in JSON.
    """
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, float):
        return float.__float__(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return int.__int__(value)
    raise TypeError(not_json(value, ""))


def not_json(value: object, pointer: str) -> str:
    """What is wrong with a value that JSON lacks, and its remedy."""
    instead = next((instead for fits, instead in _INSTEAD if fits(value)), "str(value)")
    return f"a value of type {type(value).__name__}{_at(pointer)} is not JSON: send {instead}"


def escaped_step(name: str) -> str:
    """RFC 6901 section 3; the caller chooses the name, which may be any text."""
    return name.replace("~", "~0").replace("/", "~1")


def _at(pointer: str) -> str:
    return f" at {pointer}" if pointer else ""


def _structure(text: bytes) -> int:
    return sum(map(text.count, _STRUCTURE))


def _unescaped(text: bytes) -> bytes:
    return text.replace(b"\\\\", b"").replace(b'\\"', b"") if b"\\" in text else text


def _outline(text: bytes) -> bytes:
    """The JSON text with a 0 in place of each string."""
    return _TEXT.sub(b"0", _unescaped(text)).translate(None, _SPACES)
