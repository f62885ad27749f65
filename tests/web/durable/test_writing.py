"""Durable Streams: creating, appending, closing, deleting."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from functools import partial

import pytest

from broadcaster.core.requests.publishing import MAX_EVENTS_PER_APPEND
from broadcaster.log.redis.connect import LogConnection
from broadcaster.settings import Settings
from broadcaster.web.app import create_app
from broadcaster.web.server.connections import ConnectionLimits
from broadcaster.web.services import Services
from broadcaster.web.wiring import open_services
from tests.support.servers.front_end import DEADLINE_S, own_app, served
from tests.support.streaming import on_our_runner
from tests.web.durable.calls import (
    BEGINNING,
    BYTES,
    CLOSED,
    ID,
    JSON,
    PATH,
    TEXT,
    DurableClient,
    offset_of,
    refused,
)


async def test_a_stream_is_created_once_and_found_by_the_same_creation(client: DurableClient) -> None:
    created = await client.create(b"one")
    assert (created.status_code, created.headers["content-type"]) == (201, "text/plain")
    assert created.headers["location"] == f"{client.http.base_url}/ds/{PATH}".replace("//ds", "/ds")
    repeated = await client.create(b"never written", headers={"content-type": "TEXT/Plain; charset=utf-8"})
    assert (repeated.status_code, offset_of(repeated)) == (200, offset_of(created))
    assert await client.read_all() == b"one"


@pytest.mark.parametrize("proto", ["https", "https, http", "HTTPS"])
async def test_behind_a_proxy_that_ends_tls_a_stream_is_located_as_its_client_reaches_it(
    client: DurableClient, proto: str
) -> None:
    created = await client.create(headers={**TEXT, "x-forwarded-proto": proto})
    address = str(client.http.base_url).rstrip("/").removeprefix("http://")
    assert created.headers["location"] == f"https://{address}/ds/{PATH}"


@pytest.mark.parametrize("proto", ["", "javascript", "http"])
async def test_a_scheme_that_no_proxy_has_changes_no_location(client: DurableClient, proto: str) -> None:
    created = await client.create(headers={**TEXT, "x-forwarded-proto": proto})
    assert created.headers["location"].startswith("http://")


@pytest.mark.parametrize("headers", [JSON, {**TEXT, "stream-ttl": "60"}, {**TEXT, **CLOSED}])
async def test_another_creation_under_the_same_path_is_refused(client: DurableClient, headers: dict[str, str]) -> None:
    await client.create()
    assert refused(await client.create(headers=headers)) == (409, "stream_exists")


async def test_a_stream_without_a_content_type_holds_bytes(client: DurableClient) -> None:
    response = await client.create(headers={})
    assert response.headers["content-type"] == "application/octet-stream"
    assert offset_of(response) == BEGINNING


async def test_appends_are_read_back_in_their_order(client: DurableClient) -> None:
    offsets = [offset_of(await client.create())]
    for piece in (b"a", b"b", b"c"):
        response = await client.append(piece)
        assert response.status_code == 204
        offsets.append(offset_of(response))
    assert offsets == sorted(set(offsets))
    assert await client.read_all() == b"abc"
    assert (await client.read(offset=offsets[2])).content == b"c"


async def test_an_append_of_another_type_or_without_one_is_refused(client: DurableClient) -> None:
    await client.create()
    assert refused(await client.append(b"{}", headers=JSON)) == (409, "content_type_mismatch")
    assert refused(await client.append(b"x", headers={})) == (400, "invalid_request")
    assert refused(await client.append(b"x", headers={"content-type": "text"})) == (400, "invalid_request")
    assert refused(await client.append(b"")) == (400, "invalid_request")
    assert refused(await client.append(b"x", path="other")) == (404, "unknown_stream")


async def test_json_is_taken_apart_once_and_keeps_its_digits(client: DurableClient) -> None:
    await client.create(b"[]", headers=JSON)
    for body in (b'{"a": 1.10,\n "b": "x\\u0041"}', b"[[1, 2], [3]]", b"12345678901234567890"):
        assert (await client.append(body, headers=JSON)).status_code == 204
    assert await client.read_all() == b'[{"a":1.10,"b":"x\\u0041"},[1,2],[3],12345678901234567890]'
    assert refused(await client.append(b"[]", headers=JSON)) == (400, "invalid_request")
    assert refused(await client.append(b"{", headers=JSON)) == (400, "invalid_request")
    assert refused(await client.append(b"[1] [2]", headers=JSON)) == (400, "invalid_request")


async def test_a_closed_stream_takes_nothing_more_and_names_its_end(client: DurableClient) -> None:
    created = await client.create(b"x")
    closed = await client.append(headers=CLOSED)
    assert (closed.status_code, closed.headers["stream-closed"]) == (204, "true")
    assert offset_of(closed) == offset_of(created)
    assert (await client.append(headers=CLOSED)).status_code == 204
    for headers in (TEXT, JSON, {**TEXT, **CLOSED}):
        late = await client.append(b"1", headers=headers)
        assert refused(late) == (409, "stream_closed")
        assert (late.headers["stream-closed"], offset_of(late)) == ("true", offset_of(created))
    assert (await client.create(b"x", headers={**TEXT, **CLOSED})).status_code == 200
    assert await client.read_all() == b"x"


async def test_a_stream_is_closed_with_its_last_content_in_one_step(client: DurableClient) -> None:
    await client.create(b"a")
    closed = await client.append(b"b", headers={**TEXT, **CLOSED})
    read = await client.read()
    assert (read.content, read.headers["stream-closed"]) == (b"ab", "true")
    assert offset_of(read) == offset_of(closed)


async def test_a_header_that_is_not_true_closes_nothing(client: DurableClient) -> None:
    await client.create(headers={**TEXT, "stream-closed": "yes"})
    assert (await client.append(b"x")).status_code == 204


async def test_a_stream_seq_must_rise_by_its_bytes(client: DurableClient) -> None:
    await client.create()
    assert (await client.append(b"a", headers={**TEXT, "stream-seq": "B"})).status_code == 204
    for seq in ("B", "A", "9"):
        response = await client.append(b"b", headers={**TEXT, "stream-seq": seq})
        assert refused(response) == (409, "sequence_conflict")
    assert (await client.append(b"c", headers={**TEXT, "stream-seq": "a"})).status_code == 204
    assert await client.read_all() == b"ac"


@pytest.mark.parametrize("ttl", ["0", "01", "+1", "1.0", "1e3", "-1", "x", "9999999999999"])
async def test_a_ttl_that_is_no_plain_number_in_bounds_is_refused(client: DurableClient, ttl: str) -> None:
    assert refused(await client.create(headers={**TEXT, "stream-ttl": ttl})) == (400, "invalid_request")


@pytest.mark.parametrize("at", ["soon", "2026-13-01T00:00:00Z", "2001-01-01T00:00:00Z", "2999-01-01T00:00:00Z"])
async def test_an_end_that_is_no_time_in_bounds_is_refused(client: DurableClient, at: str) -> None:
    assert refused(await client.create(headers={**TEXT, "stream-expires-at": at})) == (400, "invalid_request")


async def test_a_ttl_and_an_end_exclude_each_other(client: DurableClient) -> None:
    headers = {**TEXT, "stream-ttl": "60", "stream-expires-at": "2030-01-01T00:00:00Z"}
    assert refused(await client.create(headers=headers)) == (400, "invalid_request")


async def test_a_read_and_a_write_push_the_ttl_out_and_a_head_does_not(
    client: DurableClient, connection: LogConnection
) -> None:
    await client.create(b"x", headers={**TEXT, "stream-ttl": "600"})
    keys = [connection.keys.meta(ID), connection.keys.log(ID)]

    async def shorten() -> None:
        for key in keys:
            await connection.redis.pexpire(key, 60_000)

    async def left_ms() -> int:
        return min([await connection.redis.pttl(key) for key in keys])

    await shorten()
    assert (await client.head()).headers["stream-ttl"] == "600"
    assert await left_ms() <= 60_000
    await client.read()
    assert await left_ms() > 500_000
    await shorten()
    await client.append(b"y")
    assert 500_000 < await left_ms() <= 600_000


async def test_all_of_a_stream_expires_at_its_end(client: DurableClient, connection: LogConnection) -> None:
    at = (datetime.now(UTC) + timedelta(seconds=100)).isoformat()
    await client.create(b"x", headers={**TEXT, "stream-expires-at": at})
    await client.append(b"y", headers={**TEXT, "producer-id": "p", "producer-epoch": "0", "producer-seq": "0"})
    await client.read()
    await client.append(headers=CLOSED)
    assert (await client.head()).headers["stream-expires-at"] == at
    name = connection.keys
    left = [await connection.redis.pttl(key(ID)) for key in (name.meta, name.log, name.producers)]
    assert all(90_000 < each <= 100_000 for each in left), left


async def test_a_deleted_stream_is_unknown_and_its_path_may_be_used_at_once(client: DurableClient) -> None:
    old = offset_of(await client.create(b"old"))
    assert (await client.delete()).status_code == 204
    for response in (await client.read(), await client.delete(), await client.append(b"x")):
        assert refused(response) == (404, "unknown_stream")
    assert (await client.head()).status_code == 404
    assert (await client.create(b"[1]", headers=JSON)).status_code == 201
    assert await client.read_all() == b"[1]"
    assert refused(await client.read(offset=old)) == (410, "offset_gone")
    await client.append(b"2", headers=JSON)
    assert await client.read_all() == b"[1,2]"


async def test_a_stream_that_was_deleted_and_created_empty_is_empty(client: DurableClient) -> None:
    await client.create(b"old")
    await client.delete()
    assert offset_of(await client.create()) == offset_of(await client.read()) == BEGINNING
    assert offset_of(await client.head()) == BEGINNING


async def test_concurrent_appends_are_all_stored_whole(client: DurableClient) -> None:
    await client.create(headers=BYTES)
    pieces = [bytes([each]) * 7 for each in range(64)]
    responses = await asyncio.gather(*(client.append(piece, headers=BYTES) for piece in pieces))
    assert {each.status_code for each in responses} == {204}
    content = await client.read_all()
    assert sorted(content[at : at + 7] for at in range(0, len(content), 7)) == sorted(pieces)


@pytest.mark.parametrize("name", ["stream-forked-from", "stream-fork-offset", "stream-fork-sub-offset"])
async def test_forks_and_subscriptions_are_not_supported(client: DurableClient, name: str) -> None:
    assert refused(await client.create(headers={**TEXT, name: "/ds/x"})) == (501, "not_supported")
    assert refused(await client.create(path="__ds/subscriptions/1")) == (501, "not_supported")
    assert refused(await client.append(b"x", path="__ds/subscriptions/1/ack")) == (501, "not_supported")
    assert refused(await client.read(path="__ds/jwks.json")) == (501, "not_supported")


@pytest.mark.parametrize("path", ["gen_1", "~x", "a b", "", "x" * 129])
async def test_a_path_that_is_no_id_is_refused(client: DurableClient, path: str) -> None:
    assert (await client.create(path=path)).status_code in (400, 404)


async def test_a_full_stream_refuses_and_can_be_closed(services: Services, client: DurableClient) -> None:
    await client.create(headers=BYTES)
    piece = b"x" * 2**20
    codes = [(await client.append(piece, headers=BYTES)).status_code for _ in range(9)]
    assert codes[0] == 204
    assert refused(await client.append(piece, headers=BYTES)) == (409, "stream_full")
    assert (await client.append(headers=CLOSED)).status_code == 204
    assert len(await client.read_all()) == codes.count(204) * len(piece)


async def test_a_message_over_the_bound_is_refused(client: DurableClient) -> None:
    await client.create(headers=JSON)
    response = await client.append(b'"%b"' % (b"x" * 2**18), headers=JSON)
    assert refused(response) == (413, "event_too_large")


async def test_a_body_over_the_bound_is_refused_before_it_is_read(client: DurableClient) -> None:
    await client.create(headers=BYTES)
    assert refused(await client.append(bytes(5 * 2**20), headers=BYTES)) == (413, "body_too_large")


@pytest.mark.parametrize("is_broken_off", [True, False], ids=["broken off", "too slow"])
async def test_an_upload_that_does_not_arrive_is_no_fault_of_the_server(
    settings: Settings, services: Services, caplog: pytest.LogCaptureFixture, is_broken_off: bool
) -> None:
    app = create_app(settings, services=services)
    drain, limits = partial(services.hub.drain, window_s=0), ConnectionLimits(body_timeout_s=0.3, sweep_s=0.05)
    async with on_our_runner(app, on_drain=drain, limits=limits) as port, asyncio.timeout(DEADLINE_S):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        fields = ["host: 127.0.0.1", "content-type: text/plain", "content-length: 100000"]
        head = "\r\n".join([f"PUT /ds/{PATH} HTTP/1.1", *fields, "\r\n"])
        writer.write(head.encode() + bytes(50_000))
        if not is_broken_off:
            assert (await reader.read()).startswith(b"HTTP/1.1 408 ")
        writer.close()
        while not app.state.request_counts.heads:
            await asyncio.sleep(0.01)
    assert app.state.request_counts.heads == {("durable-streams", "499"): 1}
    assert "request_failed" not in caplog.text


async def test_a_compressed_body_is_refused(client: DurableClient) -> None:
    response = await client.create(b"x", headers={**TEXT, "content-encoding": "gzip"})
    assert refused(response) == (415, "unsupported_media_type")


async def test_an_append_has_a_bounded_number_of_messages(client: DurableClient) -> None:
    await client.create(headers=JSON)
    most = b"[%b]" % b",".join([b"1"] * MAX_EVENTS_PER_APPEND)
    assert (await client.append(most, headers=JSON)).status_code == 204
    assert await client.read_all() == most
    assert refused(await client.append(most[:-1] + b",1]", headers=JSON)) == (413, "too_many_values")


async def test_a_creation_holds_no_more_than_a_stream_may(connection: LogConnection) -> None:
    settings = Settings(redis_url=connection.url, max_bytes=2**20)
    async with open_services(settings) as services, served(own_app(services, settings), services) as http:
        client = DurableClient(http)
        assert refused(await client.create(bytes(2**20), headers=BYTES)) == (409, "stream_full")
        assert (await client.head()).status_code == 404
