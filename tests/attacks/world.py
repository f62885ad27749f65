"""A front-end process over a Redis of its own, a feed to attack it with, and what the process costs."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import httpx2
from redis.asyncio import Redis

from broadcaster.core.events import TextDelta, encode_event
from tests.support.servers.processes import Running, Stack

DIALECTS: Final = (
    "native",
    "openai-chat",
    "openai-responses",
    "anthropic",
    "ai-sdk",
    "ag-ui",
    "delta",
    "named",
    "parts",
)
APPENDED_AT_ONCE: Final = 1000
DEADLINE_S: Final = 120.0
_HANDSHAKE: Final = (
    "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)
_TICKS_PER_S: Final = os.sysconf("SC_CLK_TCK")


@dataclass
class Target:
    """The front-end under attack. ``prefix`` is where its routes stand."""

    running: Running
    url: str
    prefix: str = ""

    @property
    def address(self) -> tuple[str, int]:
        parts = urlsplit(self.url)
        return parts.hostname or "", parts.port or 0

    def memory_bytes(self) -> int:
        """RSS now."""
        for line in Path(f"/proc/{self.running.pid}/status").read_text().split("\n"):
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
        raise AssertionError("the process is gone")

    def cpu_s(self) -> float:
        """CPU seconds since its start."""
        fields = Path(f"/proc/{self.running.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS_PER_S

    async def settled_memory_bytes(self, *, pause_s: float = 0.1) -> int:
        """RSS once it has stopped to grow."""
        most, quiet = self.memory_bytes(), 0
        async with asyncio.timeout(DEADLINE_S):
            while quiet < 5:
                await asyncio.sleep(pause_s)
                now = self.memory_bytes()
                quiet = quiet + 1 if now <= most + 2**20 else 0
                most = max(most, now)
        return most


@asynccontextmanager
async def open_target(
    folder: Path, *, redis_url: str, is_stock: bool = False, **settings: object
) -> AsyncIterator[Target]:
    """A front-end on our own runner, or our router in a stranger's app on stock uvicorn."""
    environment = {f"BROADCASTER_{name.upper()}": str(value) for name, value in settings.items()}
    stack = Stack(folder, {"BROADCASTER_REDIS_URL": redis_url, "PYTHONUNBUFFERED": "1", **environment})
    try:
        if is_stock:
            running = await stack.start("uvicorn", "tests.support.apps.host_app:app", "--port", "0", "--no-access-log")
            line = await running.logged("Uvicorn running on http")
            yield Target(running, line.partition("running on ")[2].split()[0], "/llm")
        else:
            running = await stack.front_end()
            yield Target(running, running.url)
    finally:
        await stack.aclose()


async def write_feed(
    target: Target, name: str, *, count: int, delta: Callable[[int], str], at_once: int = APPENDED_AT_ONCE
) -> list[str]:
    """A feed of so many text deltas; the ids of its entries."""
    ids: list[str] = []
    async with httpx2.AsyncClient(base_url=target.url + target.prefix, timeout=DEADLINE_S) as client:
        assert (await client.put(f"/v1/streams/{name}", json={})).status_code == 201
        for first in range(0, count, at_once):
            numbers = range(first, min(first + at_once, count))
            events = [{"type": "text-delta", "id": "t", "delta": delta(number)} for number in numbers]
            appended = await client.post(f"/v1/streams/{name}/events", json=events)
            assert appended.status_code == 200, appended.text
            ids += appended.json()["ids"]
    return ids


def open_request(target: Target, path: str, *, receive_bytes: int | None = None) -> socket.socket:
    """One connection that has sent this request, and has read nothing."""
    client = socket.socket()
    if receive_bytes is not None:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
    client.connect(target.address)
    upgrade = _HANDSHAKE if urlsplit(path).path.endswith("/ws") else ""
    client.sendall(f"GET {target.prefix}{path} HTTP/1.1\r\nHost: 127.0.0.1\r\n{upgrade}\r\n".encode())
    client.setblocking(False)
    return client


async def until_answered(clients: list[socket.socket]) -> None:
    """Until something has come for each of them, which stays unread."""
    async with asyncio.timeout(DEADLINE_S):
        for client in clients:
            while True:
                try:
                    assert client.recv(1, socket.MSG_PEEK)
                    break
                except BlockingIOError:
                    await asyncio.sleep(0.02)


def kilobyte(_: int) -> str:
    """A delta of this size, whichever it is."""
    return "x" * 1000


async def write_generation(target: Target, *, redis_url: str, count: int, delta: Callable[[int], str]) -> str:
    """A generation with so many text deltas; its id."""
    async with httpx2.AsyncClient(base_url=target.url + target.prefix, timeout=DEADLINE_S) as client:
        id: str = (await client.post("/v1/generations", json={"prompt": "a"})).json()["id"]
    async with Redis.from_url(redis_url) as redis:
        for first in range(0, count, APPENDED_AT_ONCE):
            pipeline = redis.pipeline(transaction=False)
            for number in range(first, min(first + APPENDED_AT_ONCE, count)):
                event = encode_event(TextDelta(id="t", delta=delta(number)))
                pipeline.xadd(f"bc:{{{id}}}:log", {"e": event}, id=f"1-{number + 1}")
            await pipeline.execute()
    return id
