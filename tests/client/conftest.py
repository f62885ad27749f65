"""A stream to read, and clients that fail fast."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from typing import Any

import pytest

from broadcaster.client import AsyncClient, EntryReceived, StreamEvent
from broadcaster.core.entry import Entry
from broadcaster.core.events import Finish, Start, TextDelta, TextEnd, TextStart, encode_event
from tests.support.servers.sse_server import SseServer

EPOCH = 7
STORY = (
    Start(message_id="m"),
    TextStart(id="0"),
    TextDelta(id="0", delta="Hé"),
    TextDelta(id="0", delta="llo\u2028"),
    TextEnd(id="0"),
    Finish(finish_reason="stop"),
)


def as_log(*events: Any, epoch: int = EPOCH, first_seq: int = 1) -> list[Entry]:
    return [Entry(epoch, seq, encode_event(event)) for seq, event in enumerate(events, first_seq)]


def entries_of(received: Sequence[StreamEvent]) -> list[Entry]:
    return [Entry(*each.cursor, each.raw) for each in received if isinstance(each, EntryReceived)]


async def read(client: AsyncClient, after: Any = None) -> list[StreamEvent]:
    async with aclosing(client.events("s", after)) as events:
        return [event async for event in events]


@pytest.fixture
async def server() -> AsyncIterator[SseServer]:
    async with SseServer(as_log(*STORY)) as server:
        yield server


@pytest.fixture
async def client(server: SseServer) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(server.url, timeout_s=5, idle_timeout_s=5, give_up_after_s=30) as client:
        yield client
