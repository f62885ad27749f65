"""The address of a front-end, and the headers of a caller with an API key."""

from __future__ import annotations

from typing import Final

import httpx2

from broadcaster.core.access.masking import masked

LAST_PORT: Final = 65_535


def checked_url(base_url: str) -> httpx2.URL:
    """The address of a front-end. Raises ValueError, whose text names the address and what is wrong with it."""
    shown = masked(base_url)
    try:
        url = httpx2.URL(base_url)
    except httpx2.InvalidURL as error:
        raise ValueError(f"{shown!r} is not a URL: {error}") from error
    if url.scheme not in ("http", "https") or not url.host:
        raise ValueError(f"{shown!r} must begin with http:// or https:// and name a host")
    if url.port is not None and not 0 < url.port <= LAST_PORT:
        raise ValueError(f"{shown!r} has a port that is not a number from 1 to {LAST_PORT}")
    return url


def shown_address(url: httpx2.URL) -> str:
    """The address as an error names it: without credentials."""
    return f"{url.scheme}://{url.netloc.decode()}{url.path}".rstrip("/")


def key_headers(api_key: str | None) -> dict[str, str]:
    """The headers of a caller with this key. Raises ValueError, whose text repeats nothing of it."""
    if api_key is None:
        return {}
    if not (api_key and api_key.isascii() and api_key.isprintable()) or api_key != api_key.strip():
        raise ValueError("an API key is one line of printable ASCII, without a blank before or after it")
    return {"authorization": f"Bearer {api_key}"}
