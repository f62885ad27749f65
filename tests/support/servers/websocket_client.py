"""A WebSocket client on the library ``websockets``: what a page would receive, with the close code it would see."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any

from tests.support.servers.front_end import DEADLINE_S
from tests.support.servers.programs import lacking

if find_spec("websockets"):
    from websockets.asyncio.client import ClientConnection, connect
    from websockets.exceptions import ConnectionClosed, InvalidStatus


@dataclass
class Conversation:
    """What one WebSocket received; ``code`` and ``reason`` are those of the close frame (None: there was none).

    ``most_bytes``: of a fragment, or of a message that has come in one.
    """

    socket: Any
    messages: list[dict[str, Any]] = field(default_factory=list)
    is_over: bool = False
    code: int | None = None
    reason: str = ""
    most_bytes: int = 0

    @property
    def names(self) -> list[str]:
        return [message.get("event", "message") for message in self.messages]

    @property
    def entries(self) -> list[tuple[str, Any]]:
        return [(message["id"], message["data"]) for message in self.messages if "event" not in message]

    @property
    def text(self) -> str:
        return "".join(event.get("delta", "") for _, event in self.entries)

    def notice(self, name: str) -> dict[str, Any]:
        """The last notice of this name, with its other members."""
        return next(message for message in reversed(self.messages) if message.get("event") == name)

    async def until(self, condition: Callable[[], object]) -> None:
        """Read until the condition holds."""
        async with asyncio.timeout(DEADLINE_S):
            while not condition():
                assert await self.read_one(), f"closed first: {self.code} {self.reason}, after {self.names}"

    async def until_live(self) -> None:
        await self.until(lambda: "hub.live" in self.names)

    async def until_over(self) -> None:
        async with asyncio.timeout(DEADLINE_S):
            while await self.read_one():
                pass

    async def read_one(self) -> bool:
        """Take the next message; False when the connection is over."""
        try:
            fragments = [fragment async for fragment in self.socket.recv_streaming()]
        except ConnectionClosed as closed:
            self.is_over = True
            if closed.rcvd is not None:
                self.code, self.reason = closed.rcvd.code, closed.rcvd.reason
            return False
        self.messages.append(json.loads("".join(fragments)))
        self.most_bytes = max(self.most_bytes, *(len(fragment.encode()) for fragment in fragments))
        return True


@asynccontextmanager
async def conversation(url: str, **options: Any) -> AsyncIterator[Conversation]:
    """One WebSocket to this URL (``http://…`` too)."""
    if not find_spec("websockets"):
        lacking("no package websockets found: make install")
    given = {"proxy": None, "compression": None, "ping_interval": None, "max_size": None, "close_timeout": 1, **options}
    async with connect(url.replace("http", "ws", 1), open_timeout=DEADLINE_S, **given) as socket:
        yield Conversation(socket)


async def follow_over_websocket(url: str, **options: Any) -> Conversation:
    """What a WebSocket receives until it is closed."""
    async with conversation(url, **options) as talk:
        await talk.until_over()
        return talk


async def refusal_of(url: str, **options: Any) -> tuple[int, str]:
    """The status with which the handshake is refused, and the problem's code."""
    if not find_spec("websockets"):
        lacking("no package websockets found: make install")
    try:
        async with conversation(url, **options):
            raise AssertionError("the handshake was accepted")
    except InvalidStatus as refused:
        body = json.loads(refused.response.body or b"{}")
        return refused.response.status_code, body.get("code", "")


def transport_of(talk: Conversation) -> asyncio.Transport:
    """The client's own socket."""
    socket: ClientConnection = talk.socket
    transport = socket.transport
    assert isinstance(transport, asyncio.Transport)
    return transport
