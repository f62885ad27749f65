"""What the providers' HTTP clients have in common, and which server gets what from the environment.

An SDK's own variables (key, base URL, organisation, headers) are meant for the SDK's own server. A server with its own
base URL gets none of them: it has its own key, or no key.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import json
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any, Final, cast

import httpx2

from broadcaster.observability.limits import counting_refusals, limit_reached
from worker.providers.base import CONNECT_TIMEOUT_S, CallBounds
from worker.providers.connections import CallConnections, set_up_connections
from worker.providers.errors import ENCODED, NO_STREAM

NO_KEY: Final = "no-key"
"""Sent to a server that needs no key: the SDKs require one."""

_OWN_DOMAINS: Final = (".localhost", ".local", ".internal", ".svc", ".home.arpa")
"""Reserved for private use, and the services of a Kubernetes cluster."""

_AS_BYTES: Final = {"X-Stainless-Raw-Response": "stream"}
"""With this header the SDKs return the response unread; ``with_streaming_response`` sets it too."""


def create_http_client(kind: type[httpx2.AsyncClient], bounds: CallBounds, *, is_local: bool) -> httpx2.AsyncClient:
    """An HTTP client of this kind; see CallBounds. The number of connections must be set: aiohttp's default is 100."""

    async def request_plain_bytes(request: httpx2.Request) -> None:
        request.headers["accept-encoding"] = "identity"

    async def bound_error(response: httpx2.Response) -> None:
        """The SDKs read the whole body of an error and decompress it."""
        if not response.is_success:
            stream = cast(httpx2.AsyncByteStream, response.stream)
            is_plain = not is_encoded(response)
            response.headers.pop("content-encoding", None)
            response.stream = _ErrorBody(stream, bounds.error_bytes if is_plain else 0, bounds.error_timeout_s)

    client = kind(
        event_hooks={"request": [request_plain_bytes], "response": [bound_error]},
        limits=httpx2.Limits(max_connections=bounds.max_connections),
        timeout=httpx2.Timeout(bounds.read_timeout_s, connect=CONNECT_TIMEOUT_S, pool=CONNECT_TIMEOUT_S),
        trust_env=not is_local,
        # A redirect would carry the prompt, and headers of the SDK's environment, to a server that no setting names.
        follow_redirects=False,
    )
    set_up_connections(client)
    return client


@contextlib.asynccontextmanager
async def sent_as_bytes(
    post: Callable[..., Awaitable[Any]], path: str, body: Mapping[str, Any], *, headers: Mapping[str, Any]
) -> AsyncIterator[Any]:
    """The SDK's unread response to this body; closed on leaving, with what it has not sent of the body.

    The SDK gets the finished JSON, and adds its transport, credentials and errors. It would copy a body of values one
    by one, which blocks the event loop for seconds if the request has thousands of messages.
    """
    content = json.dumps(body, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()
    connections = CallConnections()
    try:
        with connections.noted():
            response = await post(path, cast_to=object, content=content, options={"headers": {**headers, **_AS_BYTES}})
        connections.read_directly(response.http_response)
        try:
            yield response
        finally:
            await response.close()
    finally:
        connections.abort()


def is_encoded(response: httpx2.Response) -> bool:
    """Whether the body has a content coding, which no request allows: a few bytes could become gigabytes."""
    return response.headers.get("content-encoding", "identity").strip().lower() not in ("", "identity")


async def bounded_body(response: Any, *, max_bytes: int) -> bytes:
    """The body of an SDK's response that is read whole. Raises ValueError if it is encoded or longer."""
    if is_encoded(response.http_response):
        raise ValueError("the body has a content coding")
    body = bytearray()
    async for chunk in response.iter_bytes():
        body += chunk
        if len(body) > max_bytes:
            raise ValueError("the body is too long")
    return bytes(body)


def check_stream(response: httpx2.Response) -> None:
    """Raises ProviderFailed (provider_bad_data) if no decoder can read the body."""
    if not response.headers.get("content-type", "").startswith("text/event-stream"):
        raise NO_STREAM.failure()
    if is_encoded(response):
        raise ENCODED.failure()


class _ErrorBody(httpx2.AsyncByteStream):
    """The first bytes of an error's body that arrive in time; empty with ``max_bytes`` 0."""

    def __init__(self, stream: httpx2.AsyncByteStream, max_bytes: int, timeout_s: float) -> None:
        self._stream = stream
        self._max_bytes = max_bytes
        self._timeout_s = timeout_s

    async def __aiter__(self) -> AsyncIterator[bytes]:
        read = bytearray()
        if self._max_bytes:
            # The bytes that came in time describe the error; a body that breaks off is not another failure.
            with contextlib.suppress(TimeoutError, httpx2.TransportError):
                with counting_refusals("PROVIDER_ERROR_TIMEOUT_S", TimeoutError):
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
                limit_reached("PROVIDER_ERROR_BYTES")
                return


def connection_headers(url: httpx2.URL) -> dict[str, str]:
    """A server without TLS is the operator's own. Some (llama.cpp) close a connection that they promised to keep, and
    the next request on it would fail. A new connection costs one round trip.
    """
    return {"Connection": "close"} if url.scheme == "http" else {}


def bearer(api_key: str | None) -> dict[str, str]:
    """The header with the key of a call, which takes precedence over the SDK's own; empty without a key.

    One client serves all keys: a client per key would need its own connections and TLS set-up.
    """
    return {} if api_key is None else {"Authorization": f"Bearer {api_key}"}


def header_names(variable: str) -> list[str]:
    """The headers that an SDK adds to every request because of this variable (``Name: value``, one per line)."""
    lines = os.environ.get(variable, "").split("\n")
    return [name.strip() for name, colon, _ in (line.partition(":") for line in lines) if colon]


def is_own_host(host: str) -> bool:
    """Whether a server is the operator's own, by its name: an address of this machine or of a private network, or a
    name outside the public domains.

    Only such a server receives a trace by default: a trace's ids and ``tracestate`` show a foreign one which requests
    belong together, and which systems they came through.
    """
    try:
        address = ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        name = host.lower().rstrip(".")
        return bool(name) and ("." not in name or name.endswith(_OWN_DOMAINS))
    return address.is_loopback or address.is_private
