"""A request as it is stored: its JSON, up to a bound. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from broadcaster.errors import BodyTooLarge

_GROWTH: Final = 8
"""A stored request is larger than the body: each surface translates it into the Messages API, and the Responses surface
also stores what its Response repeats. Texts grow up to threefold (the description of a custom
tool). The most is 7.3, for functions without parameters in a namespace with a long name. So no body reaches the bound
by itself; a conversation behind ``previous_response_id``, or a translation that multiplies, does."""
_HEADERS_BYTES: Final = 64 * 2**10
"""For the headers that are stored with the body and passed to the provider."""


def most_stored_bytes(max_body_bytes: int) -> int:
    """The largest request that is stored where a body has at most ``max_body_bytes``."""
    return _GROWTH * max_body_bytes + _HEADERS_BYTES


MAX_STORED_BYTES: Final = most_stored_bytes(4 * 2**20)
"""The default of the setting."""


def encode_request(request: Mapping[str, Any], *, max_bytes: int) -> bytes:
    """The request's JSON. Raises BodyTooLarge when it has more bytes."""
    encoded = msgspec.json.encode(dict(request))
    if len(encoded) > max_bytes:
        raise BodyTooLarge(
            f"the request and the conversation before it have {len(encoded)} bytes as they are stored;"
            f" this server stores at most {max_bytes} ({_GROWTH} times MAX_BODY_BYTES and 64 KiB)"
        )
    return encoded
