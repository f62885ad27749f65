"""Durable Streams: long polls and server-sent events."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from broadcaster.core.cursor import START
from broadcaster.dialects.durable.contents import DurableContent
from broadcaster.dialects.durable.frames import DurableFrames
from broadcaster.hub.stop_reasons import StopReason
from broadcaster.hub.viewer import Viewer
from broadcaster.log.redis.connect import LogConnection
from broadcaster.settings import Settings
from broadcaster.web.routes.durable import live
from broadcaster.web.services import Services
from broadcaster.web.viewing.joining import find_stream, join_stream
from tests.support.log.log_world import until
from tests.support.servers.front_end import DEADLINE_S, until_watched
from tests.web.durable.calls import (
    BEGINNING,
    BYTES,
    CLOSED,
    ID,
    JSON,
    TEXT,
    DurableClient,
    controls,
    data,
    offset_of,
    refused,
)


async def expire(connection: LogConnection) -> None:
    await connection.redis.delete(*(key(ID) for key in (connection.keys.log, connection.keys.meta)))


async def created_anew(client: DurableClient, connection: LogConnection) -> str:
    """The tail of an open stream in the place of one that was followed to its end and has expired."""
    await client.create(b"old", headers={**TEXT, **CLOSED})
    assert data(await client.follow("streamClosed", offset="-1")) == ["old"]
    await expire(connection)
    return offset_of(await client.create(b"new"))


# -- long polls


@pytest.mark.parametrize("offset", ["now", "-1"])
async def test_a_long_poll_waits_for_the_next_content(client: DurableClient, services: Services, offset: str) -> None:
    await client.create()
    poll = asyncio.create_task(client.read(offset=offset, live="long-poll"))
    await until_watched(services, ID)
    await client.append(b"x")
    read = await poll
    assert (read.status_code, read.content, read.headers["stream-up-to-date"]) == (200, b"x", "true")
    await until_watched(services, ID, 0)


async def test_a_long_poll_over_what_is_there_does_not_wait(client: DurableClient) -> None:
    await client.create(b"x")
    first = await client.read(offset="-1", live="long-poll")
    assert (first.status_code, first.content) == (200, b"x")
    cursor = first.headers["stream-cursor"]
    second = await client.read(offset="-1", live="long-poll", cursor=cursor)
    assert int(second.headers["stream-cursor"]) > int(cursor)


async def test_a_long_poll_ends_with_the_closing(client: DurableClient, services: Services) -> None:
    tail = offset_of(await client.create(b"x"))
    poll = asyncio.create_task(client.read(offset=tail, live="long-poll"))
    await until_watched(services, ID)
    await client.append(headers=CLOSED)
    for read in (await poll, await client.read(offset=tail, live="long-poll")):
        assert (read.status_code, read.headers["stream-closed"]) == (204, "true")
        assert (offset_of(read), read.headers["stream-up-to-date"]) == (tail, "true")


async def test_a_long_poll_without_content_ends_in_time(client: DurableClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "LONG_POLL_S", 0.05)
    tail = offset_of(await client.create(b"x"))
    read = await client.read(offset=tail, live="long-poll")
    assert (read.status_code, offset_of(read), read.headers["stream-up-to-date"]) == (204, tail, "true")
    assert read.headers["stream-cursor"].isdigit()


async def test_a_long_poll_of_a_stream_that_expires_meanwhile_is_refused(
    client: DurableClient, services: Services, connection: LogConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "LONG_POLL_S", 1.0)
    tail = offset_of(await client.create(b"x"))
    poll = asyncio.create_task(client.read(offset=tail, live="long-poll"))
    await until_watched(services, ID)
    await expire(connection)
    assert refused(await poll) == (404, "unknown_stream")


async def test_a_long_poll_of_a_stream_that_was_created_anew_waits(client: DurableClient, services: Services) -> None:
    await client.create(b"old")
    await client.delete()
    await client.create()
    poll = asyncio.create_task(client.read(offset=BEGINNING, live="long-poll"))
    await until_watched(services, ID)
    await client.append(b"new")
    assert (await poll).content == b"new"


async def test_a_long_poll_of_a_stream_in_the_place_of_an_expired_one_waits(
    client: DurableClient, services: Services, connection: LogConnection
) -> None:
    tail = await created_anew(client, connection)
    poll = asyncio.create_task(client.read(offset=tail, live="long-poll"))
    await until_watched(services, ID)
    await client.append(b"next")
    assert (await poll).content == b"next"


@pytest.mark.parametrize("query", [{"live": "long-poll"}, {"live": "sse"}, {"live": "x", "offset": "-1"}])
async def test_a_live_read_names_a_known_form_and_an_offset(client: DurableClient, query: dict[str, str]) -> None:
    await client.create()
    assert refused(await client.read(**query)) == (400, "invalid_request")
    assert refused(await client.read(offset="-1", live="sse", cursor="x")) == (400, "invalid_request")
    assert refused(await client.read(path="other", offset="now", live="sse")) == (404, "unknown_stream")


# -- server-sent events


async def test_events_carry_what_is_there_and_then_what_comes(client: DurableClient, services: Services) -> None:
    first = offset_of(await client.create(b"one"))
    following = asyncio.create_task(client.follow("streamClosed", offset="-1"))
    await until_watched(services, ID)
    second = offset_of(await client.append(b"two"))
    await client.append(b"three", headers={**TEXT, **CLOSED})
    messages = await following
    assert "".join(data(messages)) == "onetwothree"
    sent_controls = controls(messages)
    assert sent_controls[0]["streamNextOffset"] in (first, second)
    assert sent_controls[0]["streamCursor"].isdigit()
    assert sent_controls[-1] | {"streamNextOffset": ""} == {
        "streamNextOffset": "",
        "upToDate": True,
        "streamClosed": True,
    }


async def test_a_client_at_the_tail_is_up_to_date_at_once(client: DurableClient) -> None:
    for tail in (offset_of(await client.create()), ""):
        tail = tail or offset_of(await client.append(b"x"))
        messages = await client.follow("upToDate", offset="now")
        (control,) = controls(messages)
        assert (control["streamNextOffset"], control["upToDate"], data(messages)) == (tail, True, [])


async def test_a_reconnect_at_the_last_control_event_misses_and_repeats_nothing(client: DurableClient) -> None:
    await client.create(headers=JSON)
    for number in range(5):
        await client.append(json.dumps(number).encode(), headers=JSON)
    seen, offset = [], "-1"
    while True:
        messages = await client.follow("streamNextOffset", offset=offset)
        for text in data(messages):
            seen += json.loads(text)
        control = controls(messages)[-1]
        offset = control["streamNextOffset"]
        if control.get("upToDate"):
            break
    assert seen == [0, 1, 2, 3, 4]
    await client.append(headers=CLOSED)
    (end,) = controls(await client.follow("streamClosed", offset=offset))
    assert end == {"streamNextOffset": offset, "upToDate": True, "streamClosed": True}


async def test_bytes_are_sent_as_base64(client: DurableClient) -> None:
    content = bytes(range(256)) * 700
    await client.create(content, headers={**BYTES, **CLOSED})
    async with client.http.stream("GET", "/ds/chats/1?offset=-1&live=sse") as response:
        assert response.headers["stream-sse-data-encoding"] == "base64"
        assert response.headers["content-type"] == "text/event-stream"
        assert "no-cache" in response.headers["cache-control"]
    messages = await client.follow("streamClosed", offset="-1")
    assert b"".join(map(base64.b64decode, data(messages))) == content


async def test_text_in_the_form_of_events_stays_text(client: DurableClient) -> None:
    text = 'x\n\nevent: control\ndata: {"streamClosed":true}\r\n\r\ry'
    await client.create(text.encode())
    messages = await client.follow("upToDate", offset="-1")
    assert [message.event for message in messages] == ["data", "control"]
    assert data(messages) == [text.replace("\r\n", "\n").replace("\r", "\n")]


async def test_a_character_that_two_appends_share_arrives_whole(client: DurableClient, services: Services) -> None:
    euro = "€".encode()
    before = offset_of(await client.create(b"a"))
    await client.append(euro[:2])
    following = asyncio.create_task(client.follow("streamClosed", offset="-1"))
    await until_watched(services, ID)
    after = offset_of(await client.append(euro[2:]))
    await client.append(headers=CLOSED)
    messages = await following
    assert "".join(data(messages)) == "a€"
    assert [each["streamNextOffset"] for each in controls(messages)][-1] == after
    assert before in [each["streamNextOffset"] for each in controls(messages)] or len(data(messages)) == 1


async def test_a_connection_ends_after_its_time_and_its_client_resumes(
    client: DurableClient, services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "CONNECTION_S", 0.05)
    tail = offset_of(await client.create(b"x"))
    messages = await client.follow("never", offset="-1")
    assert controls(messages)[-1]["streamNextOffset"] == tail
    assert "streamClosed" not in controls(messages)[-1]
    await until_watched(services, ID, 0)


async def test_a_connection_ends_after_its_time_also_while_there_is_more_to_send(
    client: DurableClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "CONNECTION_S", 0.0)
    content = bytes(2**20)
    await client.create(content, headers={**BYTES, **CLOSED})
    messages = await client.follow("never", offset="-1")
    sent = b"".join(map(base64.b64decode, data(messages)))
    assert 0 < len(sent) < len(content)
    rest = await client.read(offset=controls(messages)[-1]["streamNextOffset"])
    assert sent + rest.content == content


async def test_a_drain_ends_the_response_behind_what_was_sent(client: DurableClient, services: Services) -> None:
    await client.create(b"x")
    following = asyncio.create_task(client.follow("never", offset="-1"))
    await until_watched(services, ID)
    await services.hub.drain(window_s=0)
    async with asyncio.timeout(DEADLINE_S):
        messages = await following
    assert data(messages) == ["x"]


async def test_a_stream_that_is_deleted_ends_for_its_followers(client: DurableClient, services: Services) -> None:
    await client.create(b"x")
    following = asyncio.create_task(client.follow("streamClosed", offset="-1"))
    await until_watched(services, ID)
    await client.delete()
    assert controls(await following)[-1]["streamClosed"] is True


async def test_a_stream_in_the_place_of_an_expired_one_is_followed_from_its_own_beginning(
    client: DurableClient, connection: LogConnection
) -> None:
    for content in ("old", "new"):
        await client.create(content.encode(), headers={**TEXT, **CLOSED})
        assert data(await client.follow("streamClosed", offset="-1")) == [content]
        await expire(connection)


async def test_an_open_stream_in_the_place_of_an_expired_one_is_followed_from_its_tail(
    client: DurableClient, services: Services, connection: LogConnection
) -> None:
    tail = await created_anew(client, connection)
    following = asyncio.create_task(client.follow("next", offset=tail))
    await until_watched(services, ID)
    await client.append(b"next")
    assert data(await following) == ["next"]


async def test_a_viewer_that_joins_as_its_stream_ends_leaves_the_others_their_room(
    client: DurableClient, services: Services
) -> None:
    await client.create(b"x")
    meta = await find_stream(services, ID, tenant="local", wait_s=0)
    async with durable_viewer(services) as (first, _):
        await client.append(headers=CLOSED)
        await until(lambda: services.hub.end_of(ID) is not None)
        second = await join_stream(services, meta, cursor=None)
        assert isinstance(second, Viewer)
        second.leave()
        assert first.stop_reason is not StopReason.FEED_LOST


# -- a client that takes nothing, or little at a time

ENDS = pytest.mark.parametrize("end", ["ä".encode(), "ä".encode()[:1]], ids=["a character", "half a character"])


@ENDS
async def test_a_client_that_takes_nothing_is_cut(
    client: DurableClient, services: Services, settings: Settings, end: bytes
) -> None:
    await client.create("ä".encode() * 4000)
    await client.append(end)
    async with durable_viewer(services) as (viewer, durable):
        assert durable.pull(2**16)  # all that there is
        viewer.check(asyncio.get_running_loop().time() + settings.slow_viewer_s + 1)
        assert viewer.stop_reason is StopReason.SLOW


@ENDS
async def test_each_slice_of_a_large_piece_may_take_its_time(
    client: DurableClient, services: Services, settings: Settings, end: bytes
) -> None:
    await client.create("ä".encode() * 4000)
    await client.append(end)
    async with durable_viewer(services) as (viewer, durable):
        for _ in range(3):
            assert durable.pull(1000)
            taken_at = asyncio.get_running_loop().time()
            assert durable.pull(1000)
            viewer.check(taken_at + settings.slow_viewer_s)
            assert viewer.stop_reason is None


@asynccontextmanager
async def durable_viewer(services: Services) -> AsyncIterator[tuple[Viewer, live.DurableViewer]]:
    """A viewer from the stream's beginning, and what its driver pulls."""
    viewer = await join_stream(services, await find_stream(services, ID, tenant="local", wait_s=0), cursor=None)
    assert isinstance(viewer, Viewer)
    try:
        yield viewer, live.DurableViewer(viewer, DurableFrames(DurableContent.TEXT, at=START, cursor="1"))
    finally:
        viewer.leave()
