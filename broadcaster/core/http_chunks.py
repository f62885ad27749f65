"""HTTP/1.1 chunked transfer coding (RFC 9112, section 7.1), for who writes to a socket without a server in between."""

from __future__ import annotations

from typing import Final

LAST_CHUNK: Final = b"0\r\n\r\n"


def http_chunk(body: bytes) -> bytes:
    """One chunk around the body, which must not be empty: an empty chunk ends the response."""
    return b"%x\r\n%b\r\n" % (len(body), body)
