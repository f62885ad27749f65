"""How deeply JSON may be nested. Pure.

pydantic writes no more than 255 levels (``Maximum serialization depth exceeded``), and what is shown stands some levels
deep itself. So what is kept is bounded where it comes in: a value that cannot be shown again is never taken.
"""

from __future__ import annotations

from typing import Final

MAX_LEVELS: Final = 128


def is_too_deep(value: object) -> bool:
    """Whether objects and lists stand in one another more than ``MAX_LEVELS`` deep. Costs no stack."""
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
