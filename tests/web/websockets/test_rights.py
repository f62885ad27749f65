"""Which credentials open a WebSocket of a stream in our own app, and how it ends with its credential."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import jwt
import pytest
from fastapi import FastAPI

from broadcaster.hub.limits import HubLimits
from broadcaster.hub.stop_reasons import StopReason
from broadcaster.settings import Settings
from broadcaster.web.services import Services
from tests.support.access import token_kit as kit
from tests.support.memory.memory_world import MemoryWorld, memory_services
from tests.support.servers.front_end import own_app, served, until_watched
from tests.support.servers.websocket_client import conversation, follow_over_websocket, refusal_of

KEY, OTHER = "web-key-0123456789", "other-key-0123456789"
COOKIE = "__Host-broadcaster-token"
PAGE = "https://app.example.com"


def token(**changes: Any) -> str:
    return jwt.encode(kit.own_claims(time.time(), **changes), kit.SECRET, "HS256", headers={"kid": "new"})


@asynccontextmanager
async def keyed(world: MemoryWorld, **limits: Any) -> AsyncIterator[tuple[Services, str, FastAPI]]:
    """The services, the URL of the WebSocket, and the app."""
    world.add("gen_1", tenant="web")
    settings = Settings.model_validate(
        {
            "auth": "keys",
            "host": "0.0.0.0",
            "api_keys": json.dumps({"web": [KEY], "other": [OTHER]}),
            "token_keys": kit.TOKEN_KEYS,
            "cors_origins": [PAGE],
        }
    )
    async with memory_services(world, limits=HubLimits(retry_ms=100, **limits)) as services:
        app = own_app(services, settings)
        async with served(app, services) as client:
            yield services, f"{client.base_url}".rstrip("/") + "/v1/streams/gen_1/ws", app


async def is_served(url: str, **options: Any) -> bool:
    async with conversation(url, **options) as talk:
        await talk.until_live()
    return True


def bearer(key: str) -> dict[str, Any]:
    return {"additional_headers": {"authorization": f"Bearer {key}"}}


async def test_keys_and_tokens_count_where_they_count_for_any_request(world: MemoryWorld) -> None:
    async with keyed(world) as (_, url, _app):
        assert await is_served(url, **bearer(KEY))
        assert await is_served(url, additional_headers={"x-api-key": KEY})
        assert await is_served(url, **bearer(token()))
        assert await is_served(f"{url}?token={token()}")
        assert await refusal_of(url) == (401, "unauthorized")
        assert await refusal_of(url, **bearer("nobodys")) == (401, "unauthorized")
        assert await refusal_of(f"{url}?token={KEY}") == (401, "token_invalid")
        assert await refusal_of(url, **bearer(OTHER)) == (404, "unknown_stream")
        assert await refusal_of(f"{url}?token={token(iat=time.time() - 3600, exp=time.time() - 1800)}") == (
            401,
            "token_expired",
        )
        foreign = token(grants=[{"prefix": "job_", "actions": ["watch"]}])
        assert await refusal_of(f"{url}?token={foreign}") == (403, "forbidden")


@pytest.mark.parametrize(
    ("origin", "counts"),
    [(PAGE, True), ("https://front.example", False), ("own", True), (None, False)],
)
async def test_a_cookie_counts_only_for_pages_of_this_host_and_listed_ones(
    world: MemoryWorld, origin: str | None, counts: bool
) -> None:
    async with keyed(world) as (_, url, _app):
        page = url.rpartition("/v1")[0] if origin == "own" else origin
        options: dict[str, Any] = {"additional_headers": {"cookie": f"{COOKIE}={token()}"}, "origin": page}
        if counts:
            assert await is_served(url, **options)
        else:
            assert await refusal_of(url, **options) == (403, "forbidden_origin")


async def test_a_token_that_expires_is_announced_and_ends_its_connection_with_1008(world: MemoryWorld) -> None:
    async with keyed(world) as (services, url, _app):
        talk = await follow_over_websocket(f"{url}?token={token(exp=time.time() + 2)}")
        assert talk.notice("hub.expiring")["data"].keys() == {"expires_at"}
        assert talk.notice("hub.bye")["data"] == {"reason": "token_expired", "reconnect": False}
        assert (talk.code, talk.reason) == (1008, "token_expired")
        await until_watched(services, "gen_1", 0)


async def test_a_revocation_ends_open_connections_with_1008(world: MemoryWorld) -> None:
    async with keyed(world) as (services, url, _app):
        async with conversation(f"{url}?token={token()}") as talk:
            await talk.until_live()
            services.hub.stop_where(lambda place: place.visitor.caller is not None, StopReason.REVOKED)
            await talk.until_over()
    assert (talk.notice("hub.bye")["data"]["reason"], talk.code) == ("revoked", 1008)


@pytest.mark.parametrize("bound", ["credential_viewers", "address_viewers", "max_viewers"])
async def test_viewers_of_websockets_and_of_sse_share_their_bounds(world: MemoryWorld, bound: str) -> None:
    async with keyed(world, **{bound: 1}) as (_, url, _app):
        async with conversation(f"{url}?token={token()}") as talk:
            await talk.until_live()
            refused = await follow_over_websocket(f"{url}?token={token()}")
            assert (refused.notice("hub.bye")["data"]["reason"], refused.code) == ("limit", 1013)


async def handshake_without_http_refusals(app: FastAPI, path: str) -> list[Any]:
    """What the app sends to a server that cannot refuse a handshake by HTTP."""
    sent: list[Any] = []
    received = asyncio.Queue[Any]()
    received.put_nowait({"type": "websocket.connect"})

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "websocket", "path": path, "query_string": b"", "http_version": "1.1", "scheme": "ws",
        "headers": [(b"host", b"a")], "root_path": "", "subprotocols": [],
    }  # fmt: skip
    await app(scope, received.get, send)
    return sent


async def test_a_server_without_http_refusals_accepts_and_closes_with_the_problems_code(world: MemoryWorld) -> None:
    async with keyed(world) as (_, _url, app):
        sent = await handshake_without_http_refusals(app, "/v1/streams/gen_1/ws")
    assert [message["type"] for message in sent] == ["websocket.accept", "websocket.close"]
    assert (sent[1]["code"], sent[1]["reason"]) == (1008, "unauthorized")


async def test_the_token_of_the_query_stands_in_no_line_of_the_servers_log(
    world: MemoryWorld, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    async with keyed(world) as (_, url, _app):
        text = token()
        assert await is_served(f"{url}?token={text}")
    assert text.rpartition(".")[2] not in "".join(
        record.getMessage() for record in caplog.records if not record.name.startswith("websockets.client")
    )
