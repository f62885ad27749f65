"""Durable Streams: a read whose log is trimmed, or expires, between two of its pages ends before what is missing."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Any

import httpx2
import pytest

from broadcaster.core.cursor import START, Cursor
from broadcaster.core.entry import Entry
from broadcaster.core.requests.stream_ids import LOCAL_TENANT
from broadcaster.errors import UnknownStream
from broadcaster.log.redis.connect import LogConnection
from broadcaster.log.streams.pages import EntryReader
from broadcaster.web.guards.json_ledger import FIRST_ENTRIES
from broadcaster.web.routes.durable.reading import OffsetGone, read_piece
from broadcaster.web.services import Services
from tests.web.durable.calls import DurableClient, offset_of, refused

JOB = "/v1/streams/job"
ENTRIES = 100
FIRST_PAGE = 32


@dataclass
class MovingLog:
    """The log, which is moved before the second time that it is read."""

    _reader: EntryReader
    move: Callable[[], Awaitable[object]]
    reads: int = 0

    async def read(self, stream_id: str, *, after: Cursor = START, count: int = 1000) -> list[Entry]:
        self.reads += 1
        if self.reads == 2:
            await self.move()
        return await self._reader.read(stream_id, after=after, count=count)


@pytest.fixture
def log(services: Services) -> MovingLog:
    """What every request reads here."""
    assert isinstance(services.reader, MovingLog)
    return services.reader


@pytest.fixture
async def services(services: Services) -> Services:
    async def stand_still() -> None:
        pass

    return replace(services, reader=MovingLog(services.reader, move=stand_still))


async def append(client: DurableClient, count: int) -> None:
    events = [{"type": "data-n", "data": number} for number in range(count)]
    assert (await client.http.post(f"{JOB}/events", json=events)).status_code == 200


async def trimming_feed(client: DurableClient) -> None:
    """It is full: each further event trims the oldest one."""
    await client.http.put(JOB, json={"on_full": "trim", "max_events": ENTRIES})
    await append(client, ENTRIES)


async def open_feed(client: DurableClient) -> None:
    await client.http.put(JOB, json={})
    await append(client, ENTRIES)


async def ended_feed(client: DurableClient) -> None:
    await open_feed(client)
    await client.http.post(f"{JOB}/close", json={})


def numbers(read: httpx2.Response) -> list[Any]:
    return [event.get("data") for event in read.json()]


def has_more_to_read(read: httpx2.Response) -> bool:
    return not {"stream-up-to-date", "stream-closed"} & read.headers.keys()


async def test_a_read_ends_before_entries_that_are_trimmed_meanwhile(client: DurableClient, log: MovingLog) -> None:
    await trimming_feed(client)
    log.move = lambda: append(client, ENTRIES // 2)
    read = await client.read(path="job", offset="-1")
    assert numbers(read) == list(range(FIRST_ENTRIES))
    assert has_more_to_read(read)
    assert refused(await client.read(path="job", offset=offset_of(read))) == (410, "offset_gone")


async def test_entries_that_are_trimmed_after_they_were_read_are_not_missing(
    client: DurableClient, log: MovingLog
) -> None:
    await trimming_feed(client)
    log.move = lambda: append(client, FIRST_ENTRIES)
    read = await client.read(path="job", offset="-1")
    assert numbers(read) == [*range(ENTRIES), *range(FIRST_ENTRIES)]
    assert read.headers["stream-up-to-date"] == "true"


async def test_a_stream_that_expires_while_it_is_read_is_not_closed_behind_its_first_entries(
    client: DurableClient, log: MovingLog, connection: LogConnection
) -> None:
    await ended_feed(client)
    log.move = lambda: connection.redis.delete(connection.keys.log("job"))
    read = await client.read(path="job", offset="-1")
    assert numbers(read) == list(range(FIRST_ENTRIES))
    assert has_more_to_read(read)
    assert refused(await client.read(path="job", offset=offset_of(read))) == (404, "unknown_stream")


@pytest.mark.parametrize(("has_meta", "refusal"), [(True, (410, "offset_gone")), (False, (404, "unknown_stream"))])
async def test_an_open_stream_that_expires_while_it_is_read_is_not_read_to_its_end(
    client: DurableClient, log: MovingLog, connection: LogConnection, has_meta: bool, refusal: tuple[int, str]
) -> None:
    await open_feed(client)
    keys = [connection.keys.log("job"), *([] if has_meta else [connection.keys.meta("job")])]
    log.move = lambda: connection.redis.delete(*keys)
    read = await client.read(path="job", offset="-1")
    assert numbers(read) == list(range(FIRST_ENTRIES))
    assert has_more_to_read(read)
    assert refused(await client.read(path="job", offset=offset_of(read))) == refusal


@pytest.mark.parametrize(
    ("create", "is_kept", "refusal"), [(trimming_feed, True, OffsetGone), (ended_feed, False, UnknownStream)]
)
async def test_nothing_is_missing_between_two_whole_pages(
    client: DurableClient,
    services: Services,
    log: MovingLog,
    connection: LogConnection,
    create: Callable[[DurableClient], Awaitable[None]],
    is_kept: bool,
    refusal: type[Exception],
) -> None:
    """Without the bound of a request, which reads its first entries by themselves."""
    await create(client)
    key = connection.keys.log("job")
    log.move = lambda: append(client, ENTRIES // 2) if is_kept else connection.redis.delete(key)
    meta = await services.feeds.get("job", tenant=LOCAL_TENANT)
    piece = await read_piece(services, meta, START)
    assert (len(piece.pieces), piece.next.seq) == (FIRST_PAGE, FIRST_PAGE)
    assert (piece.is_at_end, piece.is_closed) == (False, False)
    with pytest.raises(refusal):
        await read_piece(services, meta, piece.next)
