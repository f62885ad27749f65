"""Durable Streams: reading from an offset, the headers of a read, and the bytes themselves."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from broadcaster.core.cursor import START
from broadcaster.core.requests.stream_ids import LOCAL_TENANT
from broadcaster.errors import UnknownStream
from broadcaster.log.redis.connect import LogConnection
from broadcaster.web.routes.durable.reading import read_piece
from broadcaster.web.services import Services
from tests.web.durable.calls import (
    BEGINNING,
    BYTES,
    CLOSED,
    ID,
    JSON,
    TEXT,
    DurableClient,
    offset_of,
    refused,
)

_PIECES = st.lists(st.binary(min_size=1, max_size=64) | st.text(min_size=1, max_size=64).map(str.encode), max_size=6)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(pieces=_PIECES, media_type=st.sampled_from(["text/plain", "application/octet-stream", "text/html"]))
async def test_a_read_returns_the_bytes_that_were_appended(
    client: DurableClient, pieces: list[bytes], media_type: str
) -> None:
    headers = {"content-type": media_type}
    await client.delete()
    assert (await client.create(headers=headers)).status_code == 201
    appended = [await client.append(piece, headers=headers) for piece in pieces]
    offsets = [BEGINNING, *map(offset_of, appended)]
    for at, offset in enumerate(offsets):
        if at or not pieces:
            response = await client.read(offset=offset)
            assert response.content == b"".join(pieces[at:])
    assert await client.read_all() == b"".join(pieces)


@pytest.mark.parametrize("headers", [TEXT, BYTES])
@pytest.mark.parametrize("content", [bytes(range(256)) * 600, "é€🎉".encode() * 40_000, b"\0" * 100_000])
async def test_a_long_body_comes_back_whole(client: DurableClient, headers: dict[str, str], content: bytes) -> None:
    await client.create(content, headers=headers)
    await client.append(content, headers=headers)
    assert await client.read_all() == content * 2


async def test_a_read_ends_at_a_bound_before_the_tail(client: DurableClient) -> None:
    await client.create(headers=BYTES)
    for at in range(4):
        await client.append(bytes([at]) * 2**19, headers=BYTES)
    await client.append(headers=CLOSED)
    first = await client.read()
    assert 2**20 <= len(first.content) < 2**21
    assert not {"stream-up-to-date", "stream-closed"} & first.headers.keys()
    content = await client.read_all()
    assert len(content) == 2**21
    last = await client.read(offset=offset_of(first))
    assert (last.content, last.headers["stream-closed"]) == (content[len(first.content) :], "true")


async def test_a_read_at_the_tail_is_empty_and_up_to_date(client: DurableClient) -> None:
    tail = offset_of(await client.create(b"x"))
    read = await client.read(offset=tail)
    assert (read.status_code, read.content, offset_of(read)) == (200, b"", tail)
    assert read.headers["stream-up-to-date"] == "true"
    assert "stream-closed" not in read.headers


async def test_now_is_the_tail(client: DurableClient) -> None:
    tail = offset_of(await client.create(b"[1]", headers=JSON))
    read = await client.read(offset="now")
    assert (read.content, offset_of(read), read.headers["stream-up-to-date"]) == (b"[]", tail, "true")
    assert "etag" not in read.headers
    await client.append(headers=CLOSED)
    assert (await client.read(offset="now")).headers["stream-closed"] == "true"


@pytest.mark.parametrize(
    "offset", ["", "x", "1,2", "0", "-2", "1_1", "../x", f"{BEGINNING} ", f"{'9' * 20}_{'9' * 20}"]
)
async def test_an_offset_of_another_form_is_refused(client: DurableClient, offset: str) -> None:
    await client.create(b"x")
    assert refused(await client.read(offset=offset)) == (400, "invalid_request")


async def test_an_offset_sent_twice_is_refused(client: DurableClient) -> None:
    await client.create(b"x")
    assert refused(await client.http.get("/ds/chats/1?offset=-1&offset=now")) == (400, "invalid_request")


async def test_an_offset_that_the_log_does_not_hold_is_gone(client: DurableClient, connection: LogConnection) -> None:
    first = offset_of(await client.create(b"x"))
    await client.append(b"y")
    seq, epoch = first.split("_")
    for unknown in (f"{int(seq) + 7:020d}_{epoch}", f"{seq}_{int(epoch) - 1:020d}"):
        for live in ({}, {"live": "sse"}, {"live": "long-poll"}):
            assert refused(await client.read(offset=unknown, **live)) == (410, "offset_gone")
    await connection.redis.xtrim(connection.keys.log(ID), maxlen=1, approximate=False)
    assert refused(await client.read(offset=first)) == (410, "offset_gone")


@pytest.mark.parametrize("kept", [0, 1, 3])
async def test_a_stream_that_has_lost_its_beginning_is_not_read_as_a_whole_one(
    client: DurableClient, connection: LogConnection, kept: int
) -> None:
    await client.create(b"0")
    for at in range(3):
        await client.append(b"%d" % at)
    await connection.redis.xtrim(connection.keys.log(ID), maxlen=kept, approximate=False)
    for headers in (TEXT, {**TEXT, **CLOSED}, TEXT):
        for live in ({}, {"live": "sse"}, {"live": "long-poll"}):
            assert refused(await client.read(offset="-1", **live)) == (410, "offset_gone")
        assert (await client.read(offset="now")).status_code == 200
        await client.append(b"more", headers=headers)


async def test_a_stream_that_was_created_over_a_deleted_one_has_lost_its_beginning_without_its_first_entry(
    client: DurableClient, connection: LogConnection
) -> None:
    await client.create(b"old")
    await client.delete()
    await client.create(b"new")
    assert (await client.read(offset="-1")).content == b"new"
    await connection.redis.xtrim(connection.keys.log(ID), maxlen=1, approximate=False)
    assert refused(await client.read(offset="-1")) == (410, "offset_gone")


async def test_a_stream_that_expires_while_it_is_read_is_unknown(
    services: Services, client: DurableClient, connection: LogConnection
) -> None:
    await client.create(b"x")
    meta = await services.feeds.get(ID, tenant=LOCAL_TENANT)
    await connection.redis.delete(connection.keys.log(ID), connection.keys.meta(ID))
    with pytest.raises(UnknownStream):
        await read_piece(services, meta, START)


async def test_a_tag_names_the_content_and_the_closing(client: DurableClient) -> None:
    await client.create(b"x")
    tag = (await client.read()).headers["etag"]
    same = await client.read(headers={"if-none-match": f'"other", W/{tag}'})
    assert (same.status_code, same.content) == (304, b"")
    await client.append(headers=CLOSED)
    closed = await client.read(headers={"if-none-match": tag})
    assert (closed.status_code, closed.content) == (200, b"x")
    await client.delete()
    await client.create(b"x", headers={**TEXT, **CLOSED})
    assert (await client.read(headers={"if-none-match": closed.headers["etag"]})).status_code == 200


async def test_a_page_that_is_stored_runs_nothing_on_our_origin(client: DurableClient) -> None:
    page = {"content-type": "text/html"}
    await client.create(b"<script>alert(1)</script>", headers=page)
    for response in (await client.read(), await client.read(offset="-1", live="long-poll")):
        assert "sandbox" in response.headers["content-security-policy"]
        assert response.headers["x-content-type-options"] == "nosniff"
        assert response.headers["cross-origin-resource-policy"] == "same-origin"
        assert response.headers["cache-control"] == "no-store"


async def test_a_head_has_the_state_and_no_body(client: DurableClient) -> None:
    tail = offset_of(await client.create(b"x"))
    head = await client.head()
    assert (head.status_code, head.content, offset_of(head)) == (200, b"", tail)
    assert (head.headers["content-type"], head.headers["cache-control"]) == ("text/plain", "no-store")
    assert "stream-closed" not in head.headers
    await client.append(headers=CLOSED)
    head = await client.head()
    assert (head.headers["stream-closed"], offset_of(head)) == ("true", tail)
    assert (await client.head("other")).status_code == 404
