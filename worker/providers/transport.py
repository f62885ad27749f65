"""What the providers' HTTP clients have in common, and what of the environment goes to which server.

An SDK's own variables (key, base URL, organisation, headers) are meant for the SDK's own server. A server that is told
by its base URL gets nothing of them: it has a key of its own, or none.
"""

from __future__ import annotations

import os
from typing import Final, TypedDict

import httpx2

CONNECT_TIMEOUT_S: Final = 5.0
NO_KEY: Final = "no-key"
"""Sent to a server that needs no key: the SDKs refuse to send none."""


class ClientOptions(TypedDict):
    """Arguments of the HTTP client below an SDK."""

    limits: httpx2.Limits
    timeout: httpx2.Timeout
    trust_env: bool
    follow_redirects: bool


def client_options(*, max_connections: int, read_timeout_s: float, is_local: bool) -> ClientOptions:
    """See AnthropicProvider for the arguments. The number of connections must be told: aiohttp's default is 100."""
    return {
        "limits": httpx2.Limits(max_connections=max_connections),
        "timeout": httpx2.Timeout(read_timeout_s, connect=CONNECT_TIMEOUT_S, pool=CONNECT_TIMEOUT_S),
        "trust_env": not is_local,
        # A redirect would carry the prompt, and headers of the SDK's environment, to a server that nobody named.
        "follow_redirects": False,
    }


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
