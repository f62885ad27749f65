"""What the providers' HTTP clients have in common, and what of the environment goes to which server.

An SDK's own variables (key, base URL, organisation, headers) are meant for the SDK's own server. A server that is told
by its base URL gets nothing of them: it has a key of its own, or none.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any, Final, TypedDict, cast

import httpx2

from worker.providers.bounds import CONNECT_TIMEOUT_S, CallBounds
from worker.providers.errors import ENCODED, NO_STREAM

NO_KEY: Final = "no-key"
"""Sent to a server that needs no key: the SDKs refuse to send none."""


class ClientOptions(TypedDict):
    """Arguments of the HTTP client below an SDK."""

    event_hooks: Mapping[str, list[Callable[[Any], Awaitable[None]]]]
    limits: httpx2.Limits
    timeout: httpx2.Timeout
    trust_env: bool
    follow_redirects: bool


def client_options(bounds: CallBounds, *, is_local: bool) -> ClientOptions:
    """See CallBounds. The number of connections must be named: aiohttp's default is 100."""

    async def ask_for_plain_bytes(request: httpx2.Request) -> None:
        request.headers["accept-encoding"] = "identity"

    async def bound_error(response: httpx2.Response) -> None:
        """The SDKs read the body of an error whole, and unpack it."""
        if not response.is_success:
            stream = cast(httpx2.AsyncByteStream, response.stream)
            is_plain = not is_encoded(response)
            response.headers.pop("content-encoding", None)
            response.stream = _ErrorBody(stream, bounds.error_bytes if is_plain else 0, bounds.error_timeout_s)

    return {
        "event_hooks": {"request": [ask_for_plain_bytes], "response": [bound_error]},
        "limits": httpx2.Limits(max_connections=bounds.max_connections),
        "timeout": httpx2.Timeout(bounds.read_timeout_s, connect=CONNECT_TIMEOUT_S, pool=CONNECT_TIMEOUT_S),
        "trust_env": not is_local,
        # A redirect would carry the prompt, and headers of the SDK's environment, to a server that nobody named.
        "follow_redirects": False,
    }


def is_encoded(response: httpx2.Response) -> bool:
    """Whether the body has a content coding although the request allows none: a few bytes could become gigabytes."""
    return response.headers.get("content-encoding", "identity").strip().lower() not in ("", "identity")


def check_stream(response: httpx2.Response) -> None:
    """Raises ProviderFailed (provider_bad_data) when the body is not one that a decoder can read."""
    if not response.headers.get("content-type", "").startswith("text/event-stream"):
        raise NO_STREAM.failure()
    if is_encoded(response):
        raise ENCODED.failure()


class _ErrorBody(httpx2.AsyncByteStream):
    """The first bytes of the body of an error, as far as they come in time; none with ``max_bytes`` 0."""

    def __init__(self, stream: httpx2.AsyncByteStream, max_bytes: int, timeout_s: float) -> None:
        self._stream = stream
        self._max_bytes = max_bytes
        self._timeout_s = timeout_s

    async def __aiter__(self) -> AsyncIterator[bytes]:
        read = bytearray()
        if self._max_bytes:
            # What came before the time was up says what the error is; a body that breaks off is no other failure.
            with contextlib.suppress(TimeoutError, httpx2.TransportError):
                async with asyncio.timeout(self._timeout_s):
                    await self._read_into(read)
        yield bytes(read[: self._max_bytes])

    async def aclose(self) -> None:
        """Close the connection, unless all of the body has been read."""
        await self._stream.aclose()

    async def _read_into(self, read: bytearray) -> None:
        async for chunk in self._stream:
            read += chunk
            if len(read) >= self._max_bytes:
                return


def connection_headers(url: httpx2.URL) -> dict[str, str]:
    """A server without TLS is one of the operator's, and among those are some (llama.cpp) that promise to keep the
    connection and close it all the same: the next request would run into that. A new one costs them a round trip.
    """
    return {"Connection": "close"} if url.scheme == "http" else {}


def bearer(api_key: str | None) -> dict[str, str]:
    """The header by which a call brings this key, which wins over the SDK's own; nothing without a key.

    One client serves all keys: a client for each would cost a pool of connections and a TLS set-up for each.
    """
    return {} if api_key is None else {"Authorization": f"Bearer {api_key}"}


def header_names(variable: str) -> list[str]:
    """The headers that an SDK would add to every request because of this variable (``Name: value``, one a line)."""
    lines = os.environ.get(variable, "").split("\n")
    return [name.strip() for name, colon, _ in (line.partition(":") for line in lines) if colon]
