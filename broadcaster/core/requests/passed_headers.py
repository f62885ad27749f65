"""The two headers of a Messages request that a provider of this wire receives: which version, and which betas. Pure.

Rules
1. They are stored with the request under ``surface``, which a worker of an older version leaves out.
2. They are not part of the body that identifies the request of an Idempotency-Key: front-ends of an older version do
   not store them. For the same reason, the message that an answer of ``/api/chat`` continues is no part of it.
3. No other header is stored, and none is read out of a stored request.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from broadcaster.errors import InvalidInput

SURFACE: Final = "surface"
"""The field of a stored request that holds what a surface does not put into the provider's body."""

CONTINUED: Final = "ai-sdk"
"""Its ``name`` where it holds the message that the answer continues (dialects/ai_sdk/continued.py)."""

_NAME: Final = "messages"
_MAX_CHARS: Final[Mapping[str, int]] = {"anthropic-version": 64, "anthropic-beta": 4096}
PASSED_HEADERS: Final = tuple(_MAX_CHARS)
_HARMLESS: Final = re.compile(r"[A-Za-z0-9_.:, -]*")


def with_headers(request: Mapping[str, Any], headers: Mapping[str, str]) -> dict[str, Any]:
    """The request as it is stored. Raises InvalidInput where a header is too long, or no list of names."""
    passed = {name: headers[name] for name in _MAX_CHARS if headers.get(name)}
    for name, value in passed.items():
        if len(value) > _MAX_CHARS[name] or _HARMLESS.fullmatch(value) is None:
            raise InvalidInput(f"{name}: Input should be at most {_MAX_CHARS[name]} letters, digits and any of _.:,-")
    return {**request, SURFACE: {"name": _NAME, "headers": passed}} if passed else dict(request)


def without_headers(request: Mapping[str, Any]) -> dict[str, Any]:
    """The request as front-ends of an older version store it (rule 2)."""
    surface = request.get(SURFACE)
    is_newer = bool(headers_of(request)) or (isinstance(surface, Mapping) and surface.get("name") == CONTINUED)
    return {name: value for name, value in request.items() if name != SURFACE or not is_newer}


def headers_of(request: Mapping[str, Any]) -> dict[str, str]:
    """The headers that are stored with a request."""
    match request.get(SURFACE):
        case {"name": str(surface), "headers": {**passed}} if surface == _NAME:
            return {name: value for name in _MAX_CHARS if isinstance(value := passed.get(name), str)}
    return {}
