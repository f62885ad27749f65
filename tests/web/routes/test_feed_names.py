"""A feed's id belongs to its tenant: on one front-end over a real Redis, and for publishers beside it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from functools import partial
from itertools import product
from typing import Any

import httpx2
import pytest

from broadcaster import sync
from broadcaster.core.events import Finish, Start, TextDelta, encode_event
from broadcaster.dialects import DIALECTS
from broadcaster.library.broadcaster import Broadcaster
from broadcaster.log.feeds.feeds import FeedConfig
from broadcaster.log.redis.connect import LogConnection
from broadcaster.log.redis.scripts import SCRIPTS
from broadcaster.settings import Settings
from broadcaster.web.services import Services
from broadcaster.web.wiring import open_services
from tests.support.servers.front_end import Received, listen, own_app, served

KEYS = {"mine": "the-key-of-mine-0", "others": "the-key-of-others"}
FEED = "build-42"
URL = f"/v1/streams/{FEED}"
STORED = f"mine~{FEED}"
A_DAY_MS = 86_400_000


class Tenant:
    """A tenant at the front-end."""

    def __init__(self, http: httpx2.AsyncClient, name: str) -> None:
        self._http = http
        self.headers = {"authorization": f"Bearer {KEYS[name]}"}

    async def call(self, method: str, url: str = URL, **given: Any) -> httpx2.Response:
        return await self._http.request(method, url, headers=self.headers, **given)

    async def append(self, value: Any) -> httpx2.Response:
        return await self.call("POST", f"{URL}/events", json={"type": "data-x", "data": value})

    async def listen_to(self, url: str = f"{URL}/events") -> Received:
        return await listen(self._http, url, headers=self.headers)


@pytest.fixture
def settings(connection: LogConnection) -> Settings:
    keys = json.dumps({name: [key] for name, key in KEYS.items()})
    return Settings.model_validate({"redis_url": connection.url, "auth": "keys", "api_keys": keys, "retry_ms": 100})


@pytest.fixture
async def services(settings: Settings) -> AsyncIterator[Services]:
    async with open_services(settings) as opened:
        yield opened


@pytest.fixture
async def tenants(settings: Settings, services: Services) -> AsyncIterator[tuple[Tenant, Tenant]]:
    async with served(own_app(services, settings), services) as http:
        yield Tenant(http, "mine"), Tenant(http, "others")


async def store_as_earlier_versions(connection: LogConnection, *, tenant: str) -> None:
    """A feed under its public id, as versions before tenants had names of their own created it."""
    name = connection.keys
    fields: list[str | int] = ["v", 1, "request", "{}", "retention_ms", A_DAY_MS, "max_events", 100]
    fields += ["max_bytes", 10_000, "on_full", "refuse"]
    keys = [name.meta(FEED), name.lease(FEED), name.log(FEED)]
    assert (
        await SCRIPTS["feed_create"].run(connection.redis, keys, A_DAY_MS, tenant, FeedConfig().digest(), *fields) == 1
    )


async def test_two_tenants_have_feeds_of_one_id_that_know_nothing_of_each_other(
    tenants: tuple[Tenant, Tenant],
) -> None:
    mine, others = tenants
    for tenant in tenants:
        created = await tenant.call("PUT")
        assert (created.status_code, created.headers["location"]) == (201, URL)
        assert (created.json()["id"], created.json()["events_url"]) == (FEED, f"{URL}/events")
    assert (await mine.append("mine")).json()["last_seq"] == 1
    assert (await others.append("theirs")).json()["last_seq"] == 1
    assert (await mine.call("POST", f"{URL}/close")).json()["status"] == "finished"
    assert (await others.call("GET")).json()["status"] == "running"
    assert (await mine.call("DELETE")).status_code == 204
    assert (await mine.call("GET")).status_code == 404
    assert (await others.call("POST", f"{URL}/close")).status_code == 200
    seen = await others.listen_to()
    assert [json.loads(data).get("data") for _, data in seen.entries] == ["theirs", None]


async def test_no_tenant_occupies_or_probes_the_name_of_another(tenants: tuple[Tenant, Tenant]) -> None:
    mine, others = tenants
    untouched = await others.call("PUT", json={"metadata": {"a": 1}})
    assert (await others.call("DELETE")).status_code == 204
    assert (await mine.call("PUT", json={"metadata": {"b": 1}})).status_code == 201  # deleted by the others: free
    assert (await mine.call("DELETE")).status_code == 204
    assert (await mine.call("PUT")).json()["code"] == "stream_exists"  # for its own tenant it is taken for an hour
    assert untouched.status_code == 201


async def test_the_name_under_which_a_feed_is_stored_is_no_way_to_it(tenants: tuple[Tenant, Tenant]) -> None:
    await tenants[0].call("PUT")
    for tenant, id in product(tenants, (STORED, f"others~{STORED}", f"~{FEED}", f"mine%7E{FEED}")):
        for method, path in (("GET", ""), ("GET", "/events"), ("POST", "/close"), ("DELETE", "")):
            assert (await tenant.call(method, f"/v1/streams/{id}{path}")).status_code == 404
        assert (await tenant.call("PUT", f"/v1/streams/{id}")).json()["code"] == "invalid_request"


async def test_no_dialect_shows_a_viewer_the_name_under_which_a_feed_is_stored(
    connection: LogConnection, services: Services, tenants: tuple[Tenant, Tenant]
) -> None:
    mine = tenants[0]
    await mine.call("PUT")
    raw = [encode_event(Start(message_id="m")), encode_event(TextDelta(id="0", delta="hello"))]
    await services.feeds.append(FEED, raw, tenant="mine")
    await services.feeds.close(FEED, encode_event(Finish()), tenant="mine")
    for dialect, query in product(DIALECTS, ("", "&replay=events", "&replay=snapshot")):
        whole = await mine.call("GET", f"{URL}/events?dialect={dialect}{query}")
        assert (whole.status_code, "~" in whole.text) == (200, False), dialect
    await connection.redis.delete(connection.keys.log(STORED))
    for dialect in DIALECTS:
        expired = await mine.call("GET", f"{URL}/events?dialect={dialect}")
        assert (expired.status_code, "~" in expired.text) == (200, False), dialect


async def test_a_library_and_a_blocking_publisher_of_the_tenant_write_to_the_feed_that_its_callers_see(
    settings: Settings, tenants: tuple[Tenant, Tenant]
) -> None:
    mine, others = tenants
    assert settings.redis_url is not None
    async with Broadcaster.from_url(settings.redis_url, tenant="mine") as broadcaster:
        async with broadcaster.feed(FEED, close=False) as feed:
            await feed.append({"type": "data-x", "data": "library"})
            assert feed.id == FEED
        assert (await others.call("GET")).status_code == 404
        with sync.Publisher.from_url(settings.redis_url, tenant="mine") as publisher:
            with publisher.feed(FEED, lease_s=15.0) as blocking:
                blocking.append({"type": "data-x", "data": "sync"})
        read = [event async for event in broadcaster.events(FEED)]
    seen = await mine.listen_to()
    assert [json.loads(data).get("data") for _, data in seen.entries] == ["library", "sync", None]
    assert len(read) == 3


async def test_a_feed_that_an_earlier_version_stored_stays_its_owners(
    connection: LogConnection, tenants: tuple[Tenant, Tenant]
) -> None:
    mine = tenants[0]
    await store_as_earlier_versions(connection, tenant="mine")
    assert (await mine.append("old")).json()["last_seq"] == 1
    assert (await mine.call("PUT")).status_code == 200
    assert (await mine.call("PUT", json={"max_events": 3})).json()["code"] == "stream_exists"
    assert (await mine.call("GET")).json()["last_seq"] == 1
    assert (await mine.call("POST", f"{URL}/close")).json()["status"] == "finished"
    assert len((await mine.listen_to()).entries) == 2
    assert (await mine.call("DELETE")).status_code == 204
    assert (await mine.call("PUT")).json()["code"] == "stream_exists"
    assert await connection.redis.exists(connection.keys.meta(STORED)) == 0


async def test_a_feed_that_an_earlier_version_stored_is_nothing_to_another_tenant(
    connection: LogConnection, tenants: tuple[Tenant, Tenant]
) -> None:
    _, others = tenants
    await store_as_earlier_versions(connection, tenant="mine")
    calls = [
        partial(others.call, "GET"),
        partial(others.append, 1),
        partial(others.call, "POST", f"{URL}/close"),
        partial(others.call, "DELETE"),
    ]
    for call in calls:
        assert (await call()).status_code == 404
    assert (await others.call("PUT")).status_code == 201
    assert (await others.append("theirs")).json()["last_seq"] == 1
    assert await connection.redis.exists(connection.keys.log(FEED)) == 0
