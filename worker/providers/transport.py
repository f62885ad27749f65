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


def client_options(*, max_connections: int, read_timeout_s: float, is_local: bool) -> ClientOptions:
    """See AnthropicProvider for the arguments. The number of connections must be told: aiohttp's default is 100."""
    return {
        "limits": httpx2.Limits(max_connections=max_connections),
        "timeout": httpx2.Timeout(read_timeout_s, connect=CONNECT_TIMEOUT_S, pool=CONNECT_TIMEOUT_S),
        "trust_env": not is_local,
    }


def default_headers(*, is_local: bool) -> dict[str, str] | None:
    """llama.cpp promises to keep the connection and closes it: the next request would run into that."""
    return {"Connection": "close"} if is_local else None


def header_names(variable: str) -> list[str]:
    """The headers that an SDK would add to every request because of this variable (``Name: value``, one a line)."""
    lines = os.environ.get(variable, "").split("\n")
    return [name.strip() for name, colon, _ in (line.partition(":") for line in lines) if colon]
