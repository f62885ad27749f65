"""Minting and revoking viewer tokens."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import httpx2
import pytest
from fastapi import FastAPI

from broadcaster.core.access.token_setup import read_token_keys
from broadcaster.core.access.token_signatures import TokenSigner
from broadcaster.web.guards.tokens.mint import TokenMint
from broadcaster.web.services import Services
from tests.support.access import token_kit as kit
from tests.support.memory.memory_world import MemoryWorld
from tests.support.servers.front_end import in_process, own_app

KEY, WATCHER, OTHER = "web-key-0123456789", "watcher-key-0123456789", "other-key-0123456789"
STOPPER = "stopper-key-0123456789"
KEYS = json.dumps(
    {"web": [KEY, {"key": WATCHER, "rights": ["watch"]}, {"key": STOPPER, "rights": ["stop"]}], "other": [OTHER]}
)
SETTINGS = {"host": "0.0.0.0", "auth": "keys", "api_keys": KEYS, "token_keys": kit.TOKEN_KEYS}
MINT = "/v1/streams/gen_1/tokens"
REVOKE = "/v1/tokens/revoke"


@pytest.fixture
def revoked() -> list[tuple[str, str, str]]:
    return []


@pytest.fixture
def services(services: Services, revoked: list[tuple[str, str, str]]) -> Services:
    async def revoke(tenant: str, *, token_id: str = "", subject: str = "") -> None:
        revoked.append((tenant, token_id, subject))

    signer = TokenSigner(read_token_keys(kit.TOKEN_KEYS))
    return replace(services, mint=TokenMint(signer, ttl_s=900, max_s=3600), revoke_tokens=revoke)


@pytest.fixture
def app(services: Services) -> FastAPI:
    return own_app(services, **SETTINGS)


@pytest.fixture
async def client(app: FastAPI) -> AsyncIterator[httpx2.AsyncClient]:
    async with in_process(app) as opened:
        yield opened


def key(text: str) -> dict[str, str]:
    return {"authorization": f"Bearer {text}"}


async def test_a_token_is_minted_for_a_stream_that_need_not_exist_and_watches_it(
    client: httpx2.AsyncClient, world: MemoryWorld
) -> None:
    response = await client.post(MINT, headers=key(WATCHER))
    assert response.status_code == 201
    minted = response.json()
    assert 890 < minted["expires_at"] - time.time() <= 900
    assert minted["events_url"] == f"/v1/streams/gen_1/events?token={minted['token']}"
    assert (await client.get(minted["events_url"])).json()["code"] == "unknown_stream"
    world.add("gen_1", tenant="web")
    world.append_raw("gen_1", b'{"type":"finish"}')
    assert (await client.get(minted["events_url"])).status_code == 200
    assert (await client.get("/v1/streams/gen_2", headers=key(minted["token"]))).status_code == 403
    second = (await client.post(MINT, headers=key(WATCHER))).json()
    assert second["jti"] != minted["jti"]


async def test_the_body_names_actions_life_subject_and_prefix(client: httpx2.AsyncClient, world: MemoryWorld) -> None:
    body = {"actions": ["watch", "append"], "ttl_s": 60, "sub": "user-7", "prefix": True}
    minted = (await client.post("/v1/streams/job:42:/tokens", headers=key(KEY), json=body)).json()
    assert (minted["events_url"], 50 < minted["expires_at"] - time.time() <= 60.001) == (None, True)
    holder = key(minted["token"])
    assert (await client.put("/v1/streams/job:42:a", headers=holder)).status_code == 201
    assert (await client.get("/v1/streams/job:42:a", headers=holder)).status_code == 200
    assert (await client.put("/v1/streams/job:43:a", headers=holder)).status_code == 403
    only_stop = await client.post(MINT, headers=key(KEY), json={"actions": ["stop"]})
    assert only_stop.json()["events_url"] is None


async def test_a_key_mints_no_more_than_it_may_do_itself_and_a_token_mints_nothing(client: httpx2.AsyncClient) -> None:
    refusal = await client.post(MINT, headers=key(WATCHER), json={"actions": ["watch", "stop"]})
    assert (refusal.status_code, refusal.json()["code"]) == (403, "forbidden")
    grants = [{"prefix": "gen_", "actions": ["watch", "stop", "append"]}]
    holder = key(kit.own_token(time.time(), grants=grants))
    for path, body in ((MINT, {}), (REVOKE, {"jti": "t-1"})):
        response = await client.post(path, headers=holder, json=body)
        assert response.status_code == 403, response.text
        assert response.json()["code"] == "forbidden"
    assert (await client.post(MINT)).status_code == 401


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"actions": []}, "#/actions"),
        ({"actions": ["start"]}, "#/actions/0"),
        ({"actions": ["watch", "watch"]}, None),
        ({"actions": "watch"}, "#/actions"),
        ({"ttl_s": 0}, "#/ttl_s"),
        ({"ttl_s": 3601}, "#/ttl_s"),
        ({"ttl_s": "60"}, "#/ttl_s"),
        ({"sub": ""}, "#/sub"),
        ({"sub": "a\nb"}, "#/sub"),
        ({"sub": "a" * 257}, "#/sub"),
        ({"prefix": "yes"}, "#/prefix"),
        ({"tenant": "other"}, "#/tenant"),
    ],
)
async def test_a_body_that_makes_no_token_is_refused_by_its_field(
    client: httpx2.AsyncClient, body: dict[str, Any], pointer: str | None
) -> None:
    response = await client.post(MINT, headers=key(KEY), json=body)
    assert (response.status_code, response.json()["code"]) == (400, "invalid_request")
    if pointer is not None:
        assert response.json()["errors"][0]["pointer"] == pointer


async def test_an_id_that_no_stream_has_is_refused(client: httpx2.AsyncClient) -> None:
    response = await client.post("/v1/streams/web~job/tokens", headers=key(KEY))
    assert (response.status_code, response.json()["errors"][0]["name"]) == (400, "stream_id")


async def test_a_revocation_counts_for_the_tenant_of_its_key(
    client: httpx2.AsyncClient, revoked: list[tuple[str, str, str]]
) -> None:
    assert (await client.post(REVOKE, headers=key(KEY), json={"jti": "t-1"})).status_code == 204
    assert (await client.post(REVOKE, headers=key(OTHER), json={"sub": "ann"})).status_code == 204
    assert revoked == [("web", "t-1", ""), ("other", "", "ann")]
    for body in ({}, {"jti": "a", "sub": "b"}, {"jti": ""}, {"jti": None}, {"tenant": "web", "jti": "a"}):
        assert (await client.post(REVOKE, headers=key(KEY), json=body)).status_code == 400


async def test_a_revocation_needs_a_key_with_the_right_to_stop(
    client: httpx2.AsyncClient, revoked: list[tuple[str, str, str]]
) -> None:
    refusal = await client.post(REVOKE, headers=key(WATCHER), json={"jti": "t-1"})
    assert (refusal.status_code, refusal.json()["code"]) == (403, "forbidden")
    assert "does not allow stop" in refusal.json()["detail"]
    assert revoked == []
    assert (await client.post(REVOKE, headers=key(STOPPER), json={"jti": "t-1"})).status_code == 204


async def test_where_no_key_is_needed_tokens_are_revoked_without_one(
    services: Services, revoked: list[tuple[str, str, str]]
) -> None:
    async with in_process(own_app(services)) as client:
        assert (await client.post(REVOKE, json={"jti": "t-1"})).status_code == 204
    assert revoked == [("local", "t-1", "")]


async def test_a_server_without_a_key_to_sign_with_mints_nothing(services: Services) -> None:
    unsigned = replace(services, mint=TokenMint(None, ttl_s=900, max_s=3600))
    async with in_process(own_app(unsigned)) as client:
        response = await client.post(MINT)
    assert (response.status_code, response.json()["code"]) == (400, "tokens_off")
    assert "BROADCASTER_TOKEN_KEYS" in response.json()["detail"]
