"""Idempotent producers: each request of one takes effect once, in order, and never behind a newer session."""

from __future__ import annotations

import asyncio

import pytest

from broadcaster.log.redis.connect import LogConnection
from broadcaster.log.redis.scripts import SCRIPTS
from tests.web.durable.calls import CLOSED, ID, TEXT, DurableClient, producer, refused


@pytest.fixture
async def stream(client: DurableClient) -> DurableClient:
    await client.create()
    return client


async def test_a_repeated_request_appends_nothing(stream: DurableClient) -> None:
    first = await stream.append(b"a", headers={**TEXT, **producer(0)})
    assert (first.status_code, first.headers["producer-epoch"], first.headers["producer-seq"]) == (200, "0", "0")
    await stream.append(b"b", headers={**TEXT, **producer(1)})
    repeated = await stream.append(b"a", headers={**TEXT, **producer(0), "stream-seq": "1"})
    assert (repeated.status_code, repeated.headers["producer-seq"]) == (204, "1")
    assert await stream.read_all() == b"ab"


async def test_the_same_request_sent_many_times_at_once_is_stored_once(stream: DurableClient) -> None:
    sent = (stream.append(b"a", headers={**TEXT, **producer(0)}) for _ in range(16))
    codes = [each.status_code for each in await asyncio.gather(*sent)]
    assert sorted(codes) == [200, *[204] * 15]
    assert await stream.read_all() == b"a"


async def test_a_request_with_others_missing_before_it_is_refused_with_the_number_expected(
    stream: DurableClient,
) -> None:
    early = await stream.append(b"x", headers={**TEXT, **producer(1)})
    assert refused(early) == (409, "producer_gap")
    assert (early.headers["producer-expected-seq"], early.headers["producer-received-seq"]) == ("0", "1")
    await stream.append(b"a", headers={**TEXT, **producer(0)})
    gap = await stream.append(b"x", headers={**TEXT, **producer(5)})
    assert (gap.headers["producer-expected-seq"], gap.headers["producer-received-seq"]) == ("1", "5")
    assert await stream.read_all() == b"a"


async def test_a_newer_epoch_fences_the_older_one_and_begins_at_zero(stream: DurableClient) -> None:
    await stream.append(b"a", headers={**TEXT, **producer(0)})
    assert refused(await stream.append(b"x", headers={**TEXT, **producer(1, epoch=3)})) == (400, "invalid_request")
    assert (await stream.append(b"b", headers={**TEXT, **producer(0, epoch=3)})).status_code == 200
    fenced = await stream.append(b"x", headers={**TEXT, **producer(1)})
    assert refused(fenced) == (403, "producer_fenced")
    assert fenced.headers["producer-epoch"] == "3"
    assert await stream.read_all() == b"ab"


async def test_producers_count_apart(stream: DurableClient) -> None:
    for id in ("p", "q", "a b/c"):
        for seq in range(2):
            response = await stream.append(id.encode(), headers={**TEXT, **producer(seq, id=id)})
            assert response.status_code == 200
    assert await stream.read_all() == b"ppqqa b/ca b/c"


@pytest.mark.parametrize(
    "headers",
    [
        {"producer-id": "p"},
        {"producer-epoch": "0", "producer-seq": "0"},
        {**producer(0), "producer-id": ""},
        {**producer(0), "producer-seq": "-1"},
        {**producer(0), "producer-seq": "1.5"},
        {**producer(0), "producer-epoch": "x"},
        {**producer(0), "producer-epoch": str(2**53)},
        {**producer(0), "producer-id": "p" * 129},
    ],
)
async def test_headers_of_a_producer_that_cannot_be_read_are_refused(
    stream: DurableClient, headers: dict[str, str]
) -> None:
    assert refused(await stream.append(b"x", headers={**TEXT, **headers})) == (400, "invalid_request")
    assert await stream.read_all() == b""


async def test_a_refused_append_leaves_its_producer_where_it_was(stream: DurableClient) -> None:
    await stream.append(b"a", headers={**TEXT, "stream-seq": "5"})
    refusal = await stream.append(b"x", headers={**TEXT, **producer(0), "stream-seq": "5"})
    assert refused(refusal) == (409, "sequence_conflict")
    assert (await stream.append(b"b", headers={**TEXT, **producer(0)})).status_code == 200


async def test_the_request_that_closed_the_stream_may_be_repeated_and_no_other(stream: DurableClient) -> None:
    closing = {**TEXT, **producer(0), **CLOSED}
    assert (await stream.append(b"last", headers=closing)).status_code == 200
    repeated = await stream.append(b"other body", headers=closing)
    assert (repeated.status_code, repeated.headers["stream-closed"]) == (204, "true")
    for headers in ({**TEXT, **producer(1), **CLOSED}, {**TEXT, **producer(0, id="q"), **CLOSED}):
        assert refused(await stream.append(b"x", headers=headers)) == (409, "stream_closed")
    assert await stream.read_all() == b"last"


async def test_a_close_without_content_counts_as_a_request_of_its_producer(stream: DurableClient) -> None:
    await stream.append(b"a", headers={**TEXT, **producer(0)})
    closed = await stream.append(headers={**producer(1), **CLOSED})
    assert (closed.status_code, closed.headers["producer-seq"]) == (204, "1")
    assert (await stream.append(headers={**producer(1), **CLOSED})).status_code == 204


async def test_a_stream_created_anew_knows_no_producer_of_the_old_one(stream: DurableClient) -> None:
    await stream.append(b"a", headers={**TEXT, **producer(0, epoch=7)})
    await stream.delete()
    await stream.create()
    assert (await stream.append(b"b", headers={**TEXT, **producer(0)})).status_code == 200
    assert await stream.read_all() == b"b"


async def test_the_state_of_producers_counts_among_the_bytes_of_the_tenant(
    stream: DurableClient, connection: LogConnection
) -> None:
    name = connection.keys
    measured = [name.meta(ID), name.log(ID), name.feed_keys(ID)]
    for number in (*range(200), 0):
        await stream.append(b"a", headers={**TEXT, **producer(0, id=f"{number}-{'x' * 90}")})
    used = 0
    for key in (name.meta(ID), name.log(ID), name.producers(ID)):
        used += await connection.redis.memory_usage(key, samples=0) or 0
    counted, _, _ = await SCRIPTS["measure"].run(connection.redis, measured, "local")
    assert 0.8 * used < counted < 1.45 * used, (counted, used)
