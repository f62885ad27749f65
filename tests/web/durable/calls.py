"""Requests of the protocol, and what a test reads of their responses."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from typing import Any

import httpx2

from broadcaster.core.sse import SseDecoder, SseMessage
from tests.support.servers.front_end import DEADLINE_S

PATH = "chats/1"
ID = "chats:1"
TEXT = {"content-type": "text/plain"}
BYTES = {"content-type": "application/octet-stream"}
JSON = {"content-type": "application/json"}
CLOSED = {"stream-closed": "true"}
BEGINNING = "0" * 20 + "_" + "0" * 20


def producer(seq: int, *, epoch: int = 0, id: str = "p") -> dict[str, str]:
    return {"producer-id": id, "producer-epoch": str(epoch), "producer-seq": str(seq)}


def offset_of(response: httpx2.Response) -> str:
    return str(response.headers["stream-next-offset"])


def refused(response: httpx2.Response) -> tuple[int, str]:
    return response.status_code, response.json()["code"]


def controls(messages: list[SseMessage]) -> list[dict[str, Any]]:
    return [json.loads(each.data) for each in messages if each.event == "control"]


def data(messages: list[SseMessage]) -> list[str]:
    return [each.data for each in messages if each.event == "data"]


@dataclass(frozen=True)
class DurableClient:
    http: httpx2.AsyncClient

    async def create(
        self, content: bytes | None = None, *, path: str = PATH, headers: dict[str, str] = TEXT
    ) -> httpx2.Response:
        return await self.http.put(f"/ds/{path}", content=content, headers=headers)

    async def append(
        self, content: bytes | None = None, *, path: str = PATH, headers: dict[str, str] = TEXT
    ) -> httpx2.Response:
        return await self.http.post(f"/ds/{path}", content=content, headers=headers)

    async def head(self, path: str = PATH) -> httpx2.Response:
        return await self.http.head(f"/ds/{path}")

    async def delete(self, path: str = PATH) -> httpx2.Response:
        return await self.http.delete(f"/ds/{path}")

    async def read(self, *, path: str = PATH, headers: Any = None, **query: str) -> httpx2.Response:
        return await self.http.get(f"/ds/{path}", params=query, headers=headers)

    async def read_all(self, *, path: str = PATH) -> bytes:
        """The content, read piece by piece to its end."""
        content, offset = b"", "-1"
        while True:
            response = await self.read(path=path, offset=offset)
            assert response.status_code == 200, response.text
            content += response.content
            offset = offset_of(response)
            if "stream-up-to-date" in response.headers:
                return content

    async def follow(self, until: str, *, path: str = PATH, **query: str) -> list[SseMessage]:
        """Server-sent events until one of them holds this text, or the response ends."""
        messages: list[SseMessage] = []
        decoder = SseDecoder()
        async with (
            asyncio.timeout(DEADLINE_S),
            self.http.stream("GET", f"/ds/{path}", params={"live": "sse", **query}) as response,
        ):
            assert response.status_code == 200, await response.aread()
            async for chunk in response.aiter_bytes():
                messages += decoder.decode(chunk)
                if any(until in message.data for message in messages):
                    break
        return messages
