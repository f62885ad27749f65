"""How an error names a value that is not among the allowed ones. Pure.

Such a field holds one word of a short list, so its value is no secret. Errors repeat the value of no other field.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

_MAX_CHARS: Final = 80


def excerpt_of(value: object) -> str:
    """A text in quotes, cut after some characters; of any other value only its type.

    >>> excerpt_of("robot"), excerpt_of(7), excerpt_of(None)
    ("'robot'", 'a number', 'null')
    """
    match value:
        case str():
            return repr(value if len(value) <= _MAX_CHARS else f"{value[:_MAX_CHARS]}…")
        case None:
            return "null"
        case bool():
            return "a boolean"
        case int() | float():
            return "a number"
        case Mapping():
            return "an object"
        case _:
            return "a list"
