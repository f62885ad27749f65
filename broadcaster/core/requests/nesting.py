"""How deeply JSON may be nested. Pure.

pydantic writes no more than 255 levels (``Maximum serialization depth exceeded``), and a response nests the stored
value some levels deep. So nesting is bounded on input: a value that no response could contain is never stored.
"""

from __future__ import annotations

from typing import Final

MAX_LEVELS: Final = 128


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
