"""One POST over a plain socket: status, headers, body, nothing retried."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit


@dataclass(frozen=True)
class Posted:
    """The answer; header names are in small letters."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def document(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


async def post(url: str, path: str, body: object, *, timeout_s: float = 15.0) -> Posted:
    """Send it, and read the whole answer."""
    parts = urlsplit(url)
    raw = json.dumps(body).encode()
    async with asyncio.timeout(timeout_s):
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
        try:
            head = f"POST {path} HTTP/1.1\r\nHost: {parts.netloc}\r\nContent-Type: application/json\r\n"
            writer.write(f"{head}Content-Length: {len(raw)}\r\n\r\n".encode() + raw)
            status, *lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            headers = {
                name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines if line)
            }
            content = await reader.readexactly(int(headers.get("content-length", "0")))
        finally:
            writer.transport.abort()
    return Posted(int(status.split(" ")[1]), headers, content)
