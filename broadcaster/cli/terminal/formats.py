"""Values as text: ages, times and sizes for people, JSON for programs. Pure except for the machine's time zone."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final

import msgspec

_AGES: Final = ((86_400, "d"), (3_600, "h"), (60, "m"))
_SIZES: Final = ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB"))
_BRIEF_S: Final = 10.0


def age(seconds: float) -> str:
    """The largest whole unit; never negative, although clocks differ."""
    for size, unit in _AGES:
        if seconds >= size:
            return f"{int(seconds // size)}{unit}"
    return f"{max(0, int(seconds))}s"


def span(seconds: float) -> str:
    """A duration: short ones to the tenth of a second, longer ones as an age."""
    return f"{max(0.0, seconds):.1f}s" if seconds < _BRIEF_S else age(seconds)


def moment(unix_s: float, *, now_s: float) -> str:
    """A time on this machine's clock, and how long ago it was."""
    local = datetime.fromtimestamp(unix_s, tz=UTC).astimezone()
    return f"{local:%Y-%m-%d %H:%M:%S} ({age(now_s - unix_s)} ago)"


def size(count: int) -> str:
    """A number of bytes in its largest unit."""
    for unit_bytes, unit in _SIZES:
        if count >= unit_bytes:
            return f"{count / unit_bytes:.3g} {unit}"
    return f"{count} B"


def number(count: int, noun: str) -> str:
    """``1 stream``, ``2 streams``."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def as_json(value: Any) -> str:
    """One line of JSON."""
    return msgspec.json.encode(value).decode()
