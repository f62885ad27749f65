"""The receiver of webhooks: it checks each signature by itself, and refuses some calls so that they are retried."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import random
import time
from dataclasses import dataclass, field
from typing import Any, Final

from tests.hunt.system.wire import read_request

KEY: Final = b"a key of the hunt that is long enough"
SECRET: Final = "whsec_" + base64.b64encode(KEY).decode()
REFUSED_SHARE: Final = 0.2


@dataclass
class Receiver:
    """``taken``: generation → the bodies that were answered with 200. ``wrong``: what a receiver must not be sent."""

    rng: random.Random
    taken: dict[str, list[Any]] = field(default_factory=dict)
    taken_at: dict[str, float] = field(default_factory=dict)
    ids: dict[str, set[str]] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)
    refused: int = 0

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One call."""
        _, headers, raw = await read_request(reader)
        self._check(headers, raw)
        body = json.loads(raw)
        id = body["data"]["id"]
        self.ids.setdefault(id, set()).add(headers.get("webhook-id", ""))
        is_refused = self.rng.random() < REFUSED_SHARE and id not in self.taken
        if is_refused:
            self.refused += 1
        else:
            self.taken.setdefault(id, []).append(body)
            self.taken_at.setdefault(id, time.monotonic())
        status = "503 Later" if is_refused else "200 OK"
        writer.write(f"HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n".encode())
        await writer.drain()

    def _check(self, headers: dict[str, str], raw: bytes) -> None:
        signed = f"{headers.get('webhook-id')}.{headers.get('webhook-timestamp')}.".encode() + raw
        expected = base64.b64encode(hmac.new(KEY, signed, hashlib.sha256).digest()).decode()
        given = [each.removeprefix("v1,") for each in headers.get("webhook-signature", "").split()]
        if not any(hmac.compare_digest(expected, each) for each in given):
            self.wrong.append(f"a webhook without a right signature: {headers} {raw[:200]!r}")
