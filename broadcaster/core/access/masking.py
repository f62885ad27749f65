"""URLs as texts may show them."""

from __future__ import annotations

import re
from typing import Final

_USER_INFO: Final = re.compile(r"(?<=://)[^\s/]*:\S*@")
_PASSWORD: Final = re.compile(r"(?<=password=)[^&\s]+")


def masked(url: str) -> str:
    """The URL without its secrets."""
    return _PASSWORD.sub("***", _USER_INFO.sub("***@", url))
