"""What a JSON text holds, by its outline: how many values, and how deeply they stand in one another. Pure.

The outline is the text without its texts and spaces. It is made and read at the speed of C, and no value is built: 4 MB
that would become a million objects are refused after some milliseconds, before any of the objects exists.
"""

from __future__ import annotations

import re
from typing import Final

# Without escapes a quote begins or ends a text. Possessive, with an end that may be missing: one pass over any input.
_TEXT: Final = re.compile(rb'"[^"]*+"?')
_SPACES: Final = b" \t\r\n"
_STRUCTURE: Final = (b",", b":", b"[", b"{")
_ONE_BRACKET: Final = bytes.maketrans(b"{}", b"[]")
_NO_BRACKETS: Final = bytes(byte for byte in range(256) if byte not in b"[]{}")


def count_values(text: bytes, *, most: int) -> int:
    """How many objects, arrays, members, texts, numbers and literals a JSON text holds.

    Exact near ``most``; far below it and far above it, it may be a bound that costs less. A text that is not JSON gets
    a count too, of its commas, colons and brackets.
    """
    at_most = _structure(text) + 1  # also what looks like structure and stands inside a text
    if at_most <= most:
        return at_most
    texts = _unescaped(text).count(b'"') // 2
    if texts > most:
        return texts
    shape = _outline(text)
    # A value stands behind each comma, each colon and each bracket but those that close at once, and one at the start.
    return _structure(shape) - shape.count(b"[]") - shape.count(b"{}") + 1


def is_deeper(text: bytes, levels: int) -> bool:
    """Whether the objects and arrays of a JSON text stand in one another more than ``levels`` deep."""
    if text.count(b"[") + text.count(b"{") <= levels:
        return False
    brackets = _outline(text).translate(_ONE_BRACKET, _NO_BRACKETS)
    for _ in range(levels):
        brackets = brackets.replace(b"[]", b"")  # the innermost of each
    return bool(brackets)


def _structure(text: bytes) -> int:
    return sum(map(text.count, _STRUCTURE))


def _unescaped(text: bytes) -> bytes:
    return text.replace(b"\\\\", b"").replace(b'\\"', b"") if b"\\" in text else text


def _outline(text: bytes) -> bytes:
    """Each text is a 0 here."""
    return _TEXT.sub(b"0", _unescaped(text)).translate(None, _SPACES)
