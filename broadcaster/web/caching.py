"""What caches between a front-end and its clients may store: only files of the page, which carry their own header.

RFC 9111 keeps a shared cache from storing the response to a request with ``Authorization``. It does not mention
``x-api-key``: a cache with a default lifetime would give one tenant's list to another.
"""

from __future__ import annotations

from typing import Final

from starlette.datastructures import MutableHeaders
from starlette.types import Message, Send

_CREDENTIALS: Final = "authorization, x-api-key"


def keep_from_caches(headers: MutableHeaders) -> None:
    """Add ``cache-control: no-store`` unless the response has its own, and to JSON what it depends on (``vary``)."""
    headers.setdefault("cache-control", "no-store")
    if headers.get("content-type", "").partition(";")[0].endswith("json"):
        headers.add_vary_header(_CREDENTIALS)


def uncached(send: Send) -> Send:
    """``send`` for an app that is not ours: it marks each response as not to be cached."""

    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            keep_from_caches(MutableHeaders(scope=message))
        await send(message)

    return sending
