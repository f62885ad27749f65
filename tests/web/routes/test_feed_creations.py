"""Feeds with one creator: ``if_exists``, and writers fenced by the tag of their creation; over real sockets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest

from broadcaster.client import AsyncClient, ClientError
from broadcaster.log.redis.connect import LogConnection
from broadcaster.settings import Settings
from broadcaster.web.services import Services
from broadcaster.web.wiring import open_services
from tests.support.servers.front_end import DEADLINE_S, listen, own_app, served
from tests.web.routes.test_routes_feeds import refused

URL = "/v1/streams/build-42"
EVENTS = f"{URL}/events"
TEXT = {"type": "data-text", "data": "new"}
FAIL, REPLACE, JOIN = ({"if_exists": choice} for choice in ("fail", "replace", "join"))


@pytest.fixture
def settings(connection: LogConnection) -> Settings:
    return Settings(redis_url=connection.url, feed_append_rate=1000, retry_ms=100)


@pytest.fixture
async def services(settings: Settings) -> AsyncIterator[Services]:
    async with open_services(settings) as opened:
        yield opened


@pytest.fixture
async def client(settings: Settings, services: Services) -> AsyncIterator[httpx2.AsyncClient]:
    async with served(own_app(services, settings), services) as opened:
        yield opened


async def create(client: httpx2.AsyncClient, choice: dict[str, str], **headers: str) -> httpx2.Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return await client.put(URL, params=choice, headers=named, json={"metadata": {"job": 1}})


async def append(client: httpx2.AsyncClient, tag: str | None = None, **event: Any) -> httpx2.Response:
    headers = {} if tag is None else {"if-match": tag}
    return await client.post(EVENTS, json={**TEXT, **event}, headers=headers)


async def data_of(client: httpx2.AsyncClient) -> list[Any]:
    document = (await client.get(URL, params={"parts": "true"})).json()
    return [part["data"] for part in document["parts"]]


# -- if_exists


async def test_a_creation_that_fails_if_a_stream_exists_is_refused_although_the_configuration_is_the_same(
    client: httpx2.AsyncClient,
) -> None:
    assert (await create(client, FAIL)).status_code == 201
    for choice in ({}, FAIL):
        refused(await create(client, choice), "stream_exists")
    assert (await client.delete(URL)).status_code == 204
    refused(await create(client, FAIL), "stream_exists")


async def test_the_newest_content_replaces_that_of_any_stream_and_its_viewers_learn_of_it(
    client: httpx2.AsyncClient,
) -> None:
    await create(client, FAIL)
    await append(client, data="old")
    viewer = asyncio.create_task(listen(client, EVENTS))
    new = await create(client, REPLACE)
    assert (new.status_code, new.json()["last_seq"]) == (201, 2)
    assert (await append(client, new.headers["etag"])).status_code == 200
    await client.post(f"{URL}/close", headers={"if-match": new.headers["etag"]})
    async with asyncio.timeout(DEADLINE_S):
        entries = (await viewer).entries
    assert '"reason":"replaced"' in entries[-3][1]
    assert [id.split("-")[1] for id, _ in entries[-3:]] == ["2", "3", "4"]
    assert await data_of(client) == ["new"]
    await client.delete(URL)
    assert (await create(client, REPLACE)).status_code == 201


async def test_a_joined_stream_is_shown_as_it_stands_and_has_no_tag_to_write_with(client: httpx2.AsyncClient) -> None:
    first = await create(client, JOIN)
    await append(client, first.headers["etag"], data="old")
    joined = await create(client, JOIN)
    assert (joined.status_code, joined.json()["last_seq"], joined.headers["location"]) == (200, 1, URL)
    assert "etag" not in joined.headers
    await client.delete(URL)
    refused(await create(client, JOIN), "stream_exists")


@pytest.mark.parametrize("choice", [FAIL, REPLACE, JOIN])
async def test_a_creation_that_is_repeated_under_its_key_is_one_creation(
    client: httpx2.AsyncClient, choice: dict[str, str]
) -> None:
    first = await create(client, choice, idempotency_key="mine")
    await append(client, first.headers["etag"], data="kept")
    repeated = await create(client, choice, idempotency_key="mine")
    assert (first.status_code, repeated.status_code) == (201, 201)
    assert repeated.headers["etag"] == first.headers["etag"]
    assert ("idempotent-replayed" in first.headers, repeated.headers["idempotent-replayed"]) == (False, "true")
    assert await data_of(client) == ["kept"]


@pytest.mark.parametrize("choice", [FAIL, REPLACE, JOIN])
async def test_a_creation_that_is_repeated_under_its_key_checks_in_until_its_feed_is_over(
    client: httpx2.AsyncClient, connection: LogConnection, choice: dict[str, str]
) -> None:
    lease, meta = connection.keys.lease("build-42"), connection.keys.meta("build-42")

    async def left_ms_of_repeated() -> list[int]:
        """Of the lease and of the feed, each of which had hardly any left."""
        await connection.redis.pexpire(lease, 1000)
        await connection.redis.pexpire(meta, 60_000)
        sent = await client.put(URL, params=choice, headers={"idempotency-key": "mine"}, json={"lease_s": 30})
        assert (sent.status_code, sent.headers["idempotent-replayed"]) == (201, "true")
        return [await connection.redis.pttl(key) for key in (lease, meta)]

    await client.put(URL, params=choice, headers={"idempotency-key": "mine"}, json={"lease_s": 30})
    lease_ms, feed_ms = await left_ms_of_repeated()
    assert 20_000 < lease_ms <= 30_000
    assert feed_ms > 3_600_000
    await client.post(f"{URL}/close")
    lease_ms, feed_ms = await left_ms_of_repeated()
    assert lease_ms == -2
    assert 0 < feed_ms <= 60_000


async def test_a_choice_that_does_not_exist_is_refused_before_anything_is_created(client: httpx2.AsyncClient) -> None:
    (fault,) = refused(await create(client, {"if_exists": "overwrite"}), "invalid_request")["errors"]
    assert (fault["in"], fault["name"]) == ("query", "if_exists")
    refused(await client.get(URL), "unknown_stream")


# -- fencing


async def test_a_writer_whose_feed_was_replaced_writes_nothing_more_and_the_new_one_does(
    client: httpx2.AsyncClient,
) -> None:
    old = (await create(client, FAIL)).headers["etag"]
    assert (await append(client, old, data="old")).status_code == 200
    new = (await create(client, REPLACE)).headers["etag"]
    refused(await append(client, old), "stream_replaced")
    refused(await client.post(f"{URL}/close", headers={"if-match": old}), "stream_replaced")
    assert (await append(client, new)).status_code == 200
    assert (await append(client, data="of any writer")).status_code == 200
    assert await data_of(client) == ["new", "of any writer"]
    await client.delete(URL)
    refused(await append(client, new), "stream_closed")


async def test_a_shared_feed_has_the_tag_of_its_configuration(client: httpx2.AsyncClient) -> None:
    first, repeated = await create(client, {}), await create(client, {})
    assert (first.status_code, repeated.status_code) == (201, 200)
    assert first.headers["etag"] == repeated.headers["etag"]
    assert (await append(client, first.headers["etag"])).status_code == 200
    await create(client, REPLACE)
    refused(await append(client, first.headers["etag"]), "stream_replaced")


async def test_a_tag_that_a_proxy_has_weakened_counts_and_any_other_text_is_refused(client: httpx2.AsyncClient) -> None:
    tag = (await create(client, FAIL)).headers["etag"]
    assert (await append(client, f"W/{tag}")).status_code == 200
    for wrong in ("*", tag.strip('"'), f"{tag}, {tag}", '"1-2"'):
        (fault,) = refused(await append(client, wrong), "invalid_request")["errors"]
        assert (fault["in"], fault["name"]) == ("header", "if-match")
    assert await data_of(client) == ["new"]


async def test_the_python_client_creates_and_writes_a_feed_of_its_own(client: httpx2.AsyncClient) -> None:
    async with AsyncClient(str(client.base_url)) as mine:
        old = await mine.create_stream("build-42", if_exists="fail")
        assert (await mine.append("build-42", TEXT, creation=old.creation)).last_seq == 1
        with pytest.raises(ClientError) as taken:
            await mine.create_stream("build-42", if_exists="fail")
        assert taken.value.code == "stream_exists"
        assert (await mine.create_stream("build-42", if_exists="join")).creation is None
        new = await mine.create_stream("build-42", if_exists="replace")
        for write in (
            mine.append("build-42", TEXT, creation=old.creation),
            mine.close("build-42", creation=old.creation),
        ):
            with pytest.raises(ClientError) as replaced:
                await write
            assert (replaced.value.code, replaced.value.retry) == ("stream_replaced", False)
        assert (await mine.close("build-42", creation=new.creation)).status == "finished"


async def test_a_creator_renews_its_lease_and_does_not_take_its_feed_back(client: httpx2.AsyncClient) -> None:
    async with AsyncClient(str(client.base_url)) as mine:
        await mine.create_stream("build-42", if_exists="replace", idempotency_key="mine", lease_s=30)
        renewed = await mine.create_stream("build-42", if_exists="fail", idempotency_key="mine", lease_s=30)
        assert (renewed.status, renewed.lease_s) == ("running", 30)
        await mine.create_stream("build-42", if_exists="replace", lease_s=30)
        with pytest.raises(ClientError) as taken:
            await mine.create_stream("build-42", if_exists="fail", idempotency_key="mine", lease_s=30)
        assert taken.value.code == "stream_exists"
