"""Viewer tokens at the front-end: where they may stand, what they allow, and how every other one is refused."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import httpx2
import pytest
from fastapi import FastAPI

from broadcaster.core.access.callers import Action
from broadcaster.core.access.token_setup import read_token_keys
from broadcaster.core.access.token_signatures import TokenSigner
from broadcaster.web.guards.callers import actions_for
from broadcaster.web.guards.tokens.mint import TokenMint
from broadcaster.web.guards.tokens.presented import QueryToken, query_tokens
from broadcaster.web.services import Services
from tests.support.access import token_kit as kit
from tests.support.memory.memory_world import MemoryWorld
from tests.support.servers.front_end import in_process, listen, own_app, served, until_watched

KEY, WATCHER, OTHER = "web-key-0123456789", "watcher-key-0123456789", "other-key-0123456789"
KEYS = json.dumps({"web": [KEY, {"key": WATCHER, "rights": ["watch"]}], "other": [OTHER]})
EVENTS = "/v1/streams/gen_1/events"
PAGE = "https://app.example.com"
COOKIE = "__Host-broadcaster-token"
ALL = [{"prefix": "gen_", "actions": ["watch", "stop", "append"]}]


@pytest.fixture
def services(services: Services) -> Services:
    signer = TokenSigner(read_token_keys(kit.TOKEN_KEYS))
    return replace(services, mint=TokenMint(signer, ttl_s=900, max_s=3600))


@pytest.fixture
def app(services: Services, world: MemoryWorld) -> FastAPI:
    world.add("gen_1", tenant="web")
    world.append_raw("gen_1", b'{"type":"finish"}')
    world.add("gen_2", tenant="web")
    world.add("gen_9", tenant="other")
    return own_app(
        services,
        host="0.0.0.0",
        auth="keys",
        api_keys=KEYS,
        token_keys=kit.TOKEN_KEYS,
        token_issuers=kit.issuers(),
        token_max_s=3600,
        cors_origins=[PAGE],
    )


@pytest.fixture
async def client(app: FastAPI) -> AsyncIterator[httpx2.AsyncClient]:
    async with in_process(app) as opened:
        yield opened


def bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


def token(**changes: Any) -> str:
    return kit.own_token(time.time(), **changes)


def refused(response: httpx2.Response) -> tuple[int, str]:
    return response.status_code, response.json()["code"]


@pytest.mark.parametrize("make", [kit.own_token, kit.foreign_token])
async def test_a_token_watches_its_stream_from_header_query_and_cookie(client: httpx2.AsyncClient, make: Any) -> None:
    text = make(time.time(), grants=[{"stream": "gen_1", "actions": ["watch"]}])
    own_page = {"cookie": f"a=b; {COOKIE}={text}", "sec-fetch-site": "same-origin"}
    for headers, query in ((bearer(text), ""), ({"x-api-key": text}, ""), ({}, f"?token={text}"), (own_page, "")):
        for path in (EVENTS, "/v1/streams/gen_1", "/v1/generations/gen_1"):
            response = await client.get(path + query, headers=headers)
            assert response.status_code == 200, (path, response.text)
            assert text not in response.text
            assert text not in str(response.headers)
    everywhere = await client.get(f"{EVENTS}?token={text}", headers={**bearer(text), **own_page})
    assert everywhere.status_code == 200  # the same one


EXPIRED: dict[str, Any] = {"iat": time.time() - 700, "exp": time.time() - 100}


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (kit.own_token(time.time(), **EXPIRED), "token_expired"),
        (kit.foreign_token(time.time(), **EXPIRED), "token_expired"),
        (kit.own_token(time.time(), aud="other"), "token_invalid"),
        (kit.own_token(time.time(), secret="another-" + kit.SECRET), "token_invalid"),
        (kit.own_token(time.time(), exp=time.time() + 4000), "token_invalid"),
        (kit.own_token(time.time(), grants=[{"prefix": "", "actions": ["watch"]}]), "token_invalid"),
        (kit.forged({"alg": "none"}, kit.own_claims(time.time())), "token_invalid"),
        (kit.forged({"alg": "none", "kid": "new"}, kit.own_claims(time.time())), "token_invalid"),
        (
            kit.forged(
                {"alg": "HS256", "kid": "k1"}, kit.foreign_claims(time.time()), secret=kit.public_pem("EdDSA").encode()
            ),
            "token_invalid",
        ),
        (kit.own_token(time.time(), x="a" * 9000), "token_invalid"),
    ],
)
async def test_any_other_token_is_refused_with_a_stable_code_before_a_body_is_read(
    client: httpx2.AsyncClient, app: FastAPI, text: str, code: str
) -> None:
    own_page = {"cookie": f"{COOKIE}={text}", "sec-fetch-site": "same-origin"}
    for stream in ("gen_1", "gen_9", "gen_unknown"):
        url = f"/v1/streams/{stream}/events"
        for response in (
            await client.get(url, headers=bearer(text)),
            await client.get(f"{url}?token={text}"),
            await client.get(url, headers=own_page),
        ):
            assert refused(response) == (401, code)
            assert response.headers["www-authenticate"] == 'Bearer realm="broadcaster", error="invalid_token"'
            assert text[:40] not in response.text
            assert stream not in response.text
    assert await status_without_body(app, "/v1/generations/gen_1/stop", text) == 401


async def status_without_body(app: FastAPI, path: str, text: str) -> int:
    """The status of a POST whose body must not be read."""
    sent: list[Any] = []

    async def receive() -> Any:
        raise AssertionError("the body was read")

    async def send(message: Any) -> None:
        sent.append(message)

    headers = [(b"content-type", b"application/json"), (b"authorization", b"Bearer " + text.encode())]
    scope = {
        "type": "http", "method": "POST", "path": path, "query_string": b"", "http_version": "1.1", "scheme": "http",
        "headers": [*headers, (b"content-length", b"9")], "root_path": "",
    }  # fmt: skip
    await app(scope, receive, send)
    return int(sent[0]["status"])


async def test_another_stream_or_action_is_403_whether_the_stream_exists_or_not(
    client: httpx2.AsyncClient, app: FastAPI
) -> None:
    text = token(grants=[{"stream": "gen_1", "actions": ["watch"]}])
    headers = {**bearer(text), "x-request-id": "same"}
    refusals = [
        await client.get(f"/v1/streams/{id}/events", headers=headers) for id in ("gen_2", "gen_9", "gen_unknown")
    ]
    assert {refused(each) for each in refusals} == {(403, "forbidden")}
    assert len({each.content for each in refusals}) == 1
    assert await status_without_body(app, "/v1/generations/gen_1/stop", text) == 403
    assert await status_without_body(app, "/v1/streams/gen_2/events", text) == 403


async def test_a_token_reads_nothing_of_another_tenant(client: httpx2.AsyncClient) -> None:
    for text in (token(grants=ALL), kit.foreign_token(time.time(), grants=ALL)):
        assert refused(await client.get("/v1/streams/gen_9/events", headers=bearer(text))) == (404, "unknown_stream")
    of_other = kit.own_token(time.time(), broadcaster={"v": 1, "tenant": "other", "grants": ALL})
    assert refused(await client.get(EVENTS, headers=bearer(of_other))) == (404, "unknown_stream")


async def test_a_token_acts_on_its_streams_and_does_nothing_that_needs_a_key(app: FastAPI) -> None:
    text = token(grants=[{"prefix": "g", "actions": ["watch", "stop", "append"]}])
    names = {"stream_id": "gen_2", "generation_id": "gen_2", "response_id": "resp_gen_2", "chat_id": "c"}
    allowed = set()
    async with in_process(app) as client:
        # Its stream is stopped first: the response to a viewer ends.
        for path, operations in sorted(app.openapi()["paths"].items(), key=lambda each: not each[0].endswith("/stop")):
            for method, operation in operations.items():
                url = path.format_map(
                    names | {"letter_id": "gen_2", "id": "gen_2", "model": "m", "provider": "p", "model_id": "m"}
                )
                response = await client.request(method, url, headers=bearer(text), json={})
                if response.status_code != 403:
                    allowed.add(operation["operationId"])
    assert allowed == {
        "health", "readiness", "stream_events", "stream_ws", "get_stream", "get_generation", "get_response",
        "list_response_input_items", "cancel_response", "stop_generation", "create_stream", "append_events",
        "close_stream", "get_caller",
    }  # fmt: skip
    assert all(Action.START not in actions_for(name) for name in allowed)


@pytest.mark.parametrize("credential", [KEY, WATCHER])
async def test_a_key_counts_in_headers_alone(client: httpx2.AsyncClient, credential: str) -> None:
    cookie = {"cookie": f"{COOKIE}={credential}", "sec-fetch-site": "same-origin"}
    assert refused(await client.get(f"{EVENTS}?token={credential}")) == (401, "token_invalid")
    assert refused(await client.get(EVENTS, headers=cookie)) == (401, "token_invalid")


async def test_two_credentials_that_differ_are_refused(client: httpx2.AsyncClient) -> None:
    one, two = token(), token(jti="t-2")
    own_page = {"cookie": f"{COOKIE}={one}", "sec-fetch-site": "same-origin"}
    for query, headers in (
        (f"?token={one}&token={two}", {}),
        (f"?token={one}", bearer(two)),
        (f"?token={one}", bearer(KEY)),
        (f"?token={two}", own_page),
        ("", {**own_page, **bearer(KEY)}),
        ("", {**own_page, "cookie": f"{COOKIE}={one}; {COOKIE}={two}"}),
    ):
        response = await client.get(EVENTS + query, headers=headers)
        assert refused(response) == (401, "unauthorized")
        assert 'error="invalid_request"' in response.headers["www-authenticate"]


@pytest.mark.parametrize(
    ("method", "headers", "counts"),
    [
        ("GET", {"origin": "https://127.0.0.1:8000"}, True),
        ("GET", {"origin": "http://127.0.0.1:8000"}, True),
        ("GET", {"origin": "https://front.example", "host": "front.example"}, True),
        ("GET", {"origin": "https://front.example", "host": "front.example:443"}, True),
        ("GET", {"origin": "http://front.example", "host": "front.example"}, False),
        ("GET", {"origin": "https://front.example:8443", "host": "front.example"}, False),
        ("GET", {"origin": "https://evil.example", "host": "front.example"}, False),
        ("GET", {"origin": "https://evil.example", "sec-fetch-site": "same-origin"}, False),
        ("GET", {"origin": "null"}, False),
        ("GET", {"origin": PAGE}, True),
        ("GET", {"sec-fetch-site": "same-origin"}, True),
        ("GET", {"sec-fetch-site": "same-site"}, False),
        ("GET", {"sec-fetch-site": "cross-site"}, False),
        ("GET", {"sec-fetch-site": "none"}, False),
        ("GET", {}, False),
        ("POST", {"sec-fetch-site": "same-origin"}, False),
        ("POST", {"origin": "https://127.0.0.1:8000"}, True),
        ("POST", {"origin": "https://evil.example"}, False),
    ],
)
async def test_a_cookie_counts_only_where_one_of_our_pages_sends_it(
    client: httpx2.AsyncClient, method: str, headers: dict[str, str], counts: bool
) -> None:
    text = token(grants=ALL)
    path = EVENTS if method == "GET" else "/v1/generations/gen_2/stop"
    given = {**headers, "cookie": f"{COOKIE}={text}", "content-type": "application/json"}
    response = await client.request(method, path, headers=given)
    if counts:
        assert response.status_code in (200, 202), response.text
    else:
        assert refused(response) == (403, "forbidden_origin")
        beside = await client.request(method, path, headers={**given, **bearer(KEY)})
        assert beside.status_code in (200, 202)  # a cookie that does not count is no credential


async def test_a_handshake_of_a_websocket_with_the_cookie_is_refused(app: FastAPI) -> None:
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "websocket.connect"}

    async def send(message: Any) -> None:
        sent.append(message)

    cookie = f"{COOKIE}={token(grants=ALL)}".encode()
    scope = {
        "type": "websocket", "path": "/v1/streams/gen_1/ws", "query_string": b"", "http_version": "1.1", "scheme": "ws",
        "extensions": {"websocket.http.response": {}},
        "headers": [(b"cookie", cookie), (b"sec-fetch-site", b"same-origin")], "root_path": "", "subprotocols": [],
    }  # fmt: skip
    await app(scope, receive, send)
    assert (sent[0]["type"], sent[0]["status"]) == ("websocket.http.response.start", 403)


@pytest.mark.parametrize(
    ("query", "rest", "tokens"),
    [
        (b"token=a.b.c", b"", {b"a.b.c"}),
        (b"after=1-2&token=a&dialect=native", b"after=1-2&dialect=native", {b"a"}),
        (b"%74oken=a%2Eb&token=c", b"", {b"a.b", b"c"}),
        (b"tokens=a&my_token=b&Token=c", b"tokens=a&my_token=b&Token=c", frozenset()),
        (b"", b"", frozenset()),
    ],
)
async def test_nothing_behind_the_first_layer_and_no_log_of_the_server_sees_the_token_of_the_query(
    query: bytes, rest: bytes, tokens: set[bytes]
) -> None:
    seen: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append((scope["query_string"], query_tokens(scope), query_tokens(scope)))

    scope = {"type": "http", "query_string": query, "headers": []}
    await QueryToken(app)(scope, None, None)  # type: ignore[arg-type]
    assert seen == [(rest, tokens, frozenset())]
    assert scope["query_string"] == rest  # a server writes its log from the same scope


async def test_the_query_is_read_without_the_token_and_the_referrer_is_withheld(client: httpx2.AsyncClient) -> None:
    text = token(grants=ALL)
    response = await client.get(f"{EVENTS}?dialect=unheard&token={text}")
    assert refused(response) == (400, "unknown_dialect")
    assert response.headers["referrer-policy"] == "no-referrer"
    encoded = await client.get(f"{EVENTS}?%74oken={text}")
    assert encoded.status_code == 200
    created = await client.put(
        f"/v1/streams/gjob?token={token(grants=[{'prefix': 'g', 'actions': ['append', 'watch']}])}"
    )
    assert created.status_code == 201
    assert "token" not in created.text + str(created.headers)


async def test_the_surface_of_an_sdk_refuses_a_token_in_its_own_shape(client: httpx2.AsyncClient) -> None:
    expired = kit.own_token(time.time() - 700)
    error = (await client.get("/v1/responses/resp_gen_1", headers=bearer(expired))).json()["error"]
    assert (error["type"], error["code"]) == ("authentication_error", "token_expired")
    narrow = token(grants=[{"stream": "gen_2", "actions": ["watch"]}])
    refusal = await client.get("/v1/responses/resp_gen_1", headers=bearer(narrow))
    assert (refusal.status_code, refusal.json()["error"]["type"]) == (403, "permission_error")


async def test_a_page_of_a_listed_origin_reads_refusals_too_and_a_preflight_needs_no_token(
    client: httpx2.AsyncClient,
) -> None:
    request = {"origin": PAGE, "access-control-request-method": "GET"}
    preflight = await client.options(f"{EVENTS}?token=anything", headers=request)
    assert (preflight.status_code, preflight.headers["access-control-allow-origin"]) == (200, PAGE)
    for text, status in ((token(), 200), (kit.own_token(time.time() - 700), 401)):
        response = await client.get(f"{EVENTS}?token={text}", headers={"origin": PAGE})
        assert (response.status_code, response.headers["access-control-allow-origin"]) == (status, PAGE)
        assert "access-control-allow-credentials" not in response.headers


async def test_without_keys_a_token_is_neither_needed_nor_read(services: Services, world: MemoryWorld) -> None:
    world.add("gen_1")
    world.append_raw("gen_1", b'{"type":"finish"}')
    async with in_process(own_app(services)) as client:
        assert (await client.get(f"{EVENTS}?token=anything")).status_code == 200


async def test_a_viewer_is_notified_before_its_token_expires_and_ends_then(
    app: FastAPI, services: Services, world: MemoryWorld
) -> None:
    """On a real socket, live and behind: the notice, then a farewell without an invitation, then a clean end."""
    world.append_raw("gen_2", b'{"type":"text-delta","id":"0","delta":"a"}')
    expires_s = round(time.time() + 2.5, 3)
    text = token(exp=expires_s)
    async with served(app, services) as live:
        received = await listen(live, f"/v1/streams/gen_2/events?token={text}")
        assert -0.1 < time.time() - expires_s < 5
        assert received.names == ["hub.hello", "message", "hub.live", "hub.expiring", "hub.bye"] or received.names == [
            "hub.hello", "hub.expiring", "message", "hub.live", "hub.bye"
        ]  # fmt: skip
        notices = {message.event: json.loads(message.data) for message in received.messages if message.data}
        assert notices["hub.expiring"] == {"expires_at": expires_s}
        assert notices["hub.bye"] == {"reason": "token_expired", "reconnect": False}
        back = await live.get(f"/v1/streams/gen_2/events?token={text}")
        assert refused(back) == (401, "token_expired")


async def test_in_another_dialect_the_end_is_an_error_and_no_notice_is_sent(
    app: FastAPI, services: Services, world: MemoryWorld
) -> None:
    world.append_raw("gen_2", b'{"type":"text-start","id":"0"}', b'{"type":"text-delta","id":"0","delta":"a"}')
    async with served(app, services) as live:
        url = f"/v1/streams/gen_2/events?dialect=ai-sdk&token={token(exp=time.time() + 1.5)}"
        received = await listen(live, url)
        assert "token_expired" in received.messages[-2].data + received.messages[-1].data
        assert "expiring" not in str(received.messages)


async def test_a_long_poll_does_not_outlive_its_token(app: FastAPI, services: Services) -> None:
    async with served(app, services) as live:
        begun = time.monotonic()
        response = await live.get(
            "/v1/generations/gen_2", params={"wait_s": 10, "token": token(exp=time.time() + 1, grants=ALL)}
        )
        assert time.monotonic() - begun < 8
        # The memory world admits every caller; the wait itself has ended.
        assert response.status_code == 200
        await until_watched(services, "gen_2", 0)
