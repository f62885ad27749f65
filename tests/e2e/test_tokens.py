"""Viewer tokens on real front-ends: revoked everywhere within a second, and in no line of any log."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any
from urllib.parse import urlsplit

import httpx2

from tests.support.access import token_kit as kit
from tests.support.servers.processes import Running, Stack

KEY = "key-of-the-backend-7f3a"
DEADLINE_S = 20.0
WITHIN_S = 3.0  # a second, and what a busy machine adds
EVENTS = "/v1/streams/job/events"
KEYED = {
    "auth": "keys",
    "host": "0.0.0.0",
    "log_level": "debug",
    "api_keys": json.dumps({"web": [KEY]}),
    "token_keys": kit.TOKEN_KEYS,
}


def caller(front_end: Running) -> httpx2.AsyncClient:
    return httpx2.AsyncClient(base_url=front_end.url, timeout=DEADLINE_S, headers={"x-api-key": KEY})


async def minted(client: httpx2.AsyncClient, **body: Any) -> dict[str, Any]:
    response = await client.post("/v1/streams/job/tokens", json=body)
    assert response.status_code == 201, response.text
    found: dict[str, Any] = response.json()
    return found


async def watch(front_end: Running, events_url: str, opened: asyncio.Event) -> str:
    """What a browser's EventSource receives until its front-end closes it."""
    text = ""
    async with (
        httpx2.AsyncClient(base_url=front_end.url, timeout=DEADLINE_S) as client,
        client.stream("GET", events_url) as response,
    ):
        assert response.status_code == 200
        async for chunk in response.aiter_text():
            text += chunk
            if "hub.live" in text:
                opened.set()
    return text


async def test_a_revocation_ends_open_viewers_of_that_token_on_every_front_end_within_a_second(stack: Stack) -> None:
    front_ends = [await stack.front_end(**KEYED), await stack.front_end(**KEYED)]
    async with caller(front_ends[0]) as client:
        assert (await client.put("/v1/streams/job", json={})).status_code == 201
        tokens = [await minted(client, sub=sub) for sub in ("ann", "bob", "bob", "eve")]
        events = [asyncio.Event() for _ in range(8)]
        pairs = [(front_end, token["events_url"]) for token in tokens for front_end in front_ends]
        viewers = [asyncio.create_task(watch(*pair, event)) for pair, event in zip(pairs, events, strict=True)]
        async with asyncio.timeout(DEADLINE_S):
            await asyncio.gather(*(event.wait() for event in events))

        for ended, body in ((viewers[:2], {"jti": tokens[0]["jti"]}), (viewers[2:6], {"sub": "bob"})):
            begun = time.monotonic()
            assert (await client.post("/v1/tokens/revoke", json=body)).status_code == 204
            closed, _ = await asyncio.wait(ended, timeout=DEADLINE_S)
            assert time.monotonic() - begun < WITHIN_S
            assert len(closed) == len(ended)
            for viewer in closed:
                farewell = json.loads(viewer.result().rpartition("data: ")[2])
                assert farewell == {"reason": "revoked", "reconnect": False}
        for front_end, events_url in pairs[:6]:
            async with httpx2.AsyncClient(base_url=front_end.url) as viewer_client:
                refusal = await viewer_client.get(events_url)
            assert (refusal.status_code, refusal.json()["code"]) == (401, "token_revoked")

        assert not any(viewer.done() for viewer in viewers[6:])
        for viewer in viewers[6:]:
            viewer.cancel()
        await asyncio.wait(viewers)


async def test_a_long_poll_whose_token_is_revoked_gets_nothing(stack: Stack) -> None:
    front_end = await stack.front_end(**KEYED)
    async with caller(front_end) as client:
        generation = (await client.post("/v1/generations", json={"prompt": "x"})).json()["id"]
        path = f"/v1/generations/{generation}"
        token = (await client.post(f"/v1/streams/{generation}/tokens", json={})).json()
        async with httpx2.AsyncClient(base_url=front_end.url, timeout=DEADLINE_S) as viewer:
            poll = asyncio.create_task(viewer.get(path, params={"token": token["token"], "wait_s": 15}))
            async with asyncio.timeout(DEADLINE_S):
                while (await client.get(f"/v1/streams/{generation}")).json()["viewers"] == 0:
                    await asyncio.sleep(0.02)
            begun = time.monotonic()
            await client.post("/v1/tokens/revoke", json={"jti": token["jti"]})
            refusal = await poll
            assert time.monotonic() - begun < WITHIN_S
        assert (refusal.status_code, refusal.json()["code"]) == (401, "token_revoked")


async def raw(front_end: Running, request: str) -> bytes:
    """The response to a request written by hand."""
    parts = urlsplit(front_end.url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    writer.write(request.encode())
    await writer.drain()
    async with asyncio.timeout(DEADLINE_S):
        response = await reader.read(65536)
    writer.close()
    return response


async def test_no_log_of_a_front_end_has_a_token_whatever_becomes_of_the_request(stack: Stack) -> None:
    front_end = await stack.front_end(**KEYED)
    now_s = time.time()
    async with caller(front_end) as client:
        assert (await client.put("/v1/streams/job", json={})).status_code == 201
        good = (await minted(client))["token"]
        assert (await client.post("/v1/streams/job/close")).status_code == 200
    expired, forged = kit.own_token(now_s - 700), kit.own_token(now_s, secret="wrong-" + kit.SECRET)
    async with httpx2.AsyncClient(base_url=front_end.url, timeout=DEADLINE_S) as client:
        for text in (good, expired, forged):
            cookie = {"cookie": f"__Host-broadcaster-token={text}", "sec-fetch-site": "same-origin"}
            for path in (EVENTS, "/v1/streams/other/events", "/v1/nowhere", "/", "/v1/responses/resp_gen_1"):
                for response in (
                    await client.get(path, params={"token": text}),
                    await client.post(path, params={"token": text}, json={}),
                    await client.get(path, headers={"authorization": f"Bearer {text}"}),
                    await client.get(path, headers=cookie),
                    await client.get(path, params={"token": text, "after": "no cursor"}),
                ):
                    assert text not in response.text + str(response.headers)
            upgrade = "host: a\r\nupgrade: websocket\r\nconnection: upgrade\r\nsec-websocket-key: a\r\n"
            for head in (upgrade, "host: a\r\nbad header\r\n", "host: a\r\ncontent-length: x\r\n"):
                answer = await raw(front_end, f"GET {EVENTS}?token={text} HTTP/1.1\r\n{head}\r\n")
                assert text.encode() not in answer
    await front_end.end()
    logged = front_end.log.read_text("utf-8", "replace")
    assert "credentials_read" in logged
    for secret in (good, expired, forged, kit.SECRET, KEY):
        assert secret[-20:] not in logged
        assert secret[:60] not in logged


async def test_a_changed_file_of_an_issuers_keys_replaces_the_ones_before_and_ends_their_viewers(stack: Stack) -> None:
    path = stack.folder / "app.jwks"
    path.write_text(kit.jwks("EdDSA", kid="k1"))
    issuer = {kit.ISSUER: {"tenant": "web", "jwks_file": str(path)}}
    front_end = await stack.front_end(**(KEYED | {"token_issuers": json.dumps(issuer)}))
    grants = [{"stream": "job", "actions": ["watch"]}]
    old = kit.foreign_token(time.time(), grants=grants)
    new = kit.foreign_token(time.time(), grants=grants, kind="ES256", kid="k2")

    async def until(text: str, status: int) -> None:
        async with httpx2.AsyncClient(base_url=front_end.url) as client, asyncio.timeout(DEADLINE_S):
            while (await client.get("/v1/streams/job", params={"token": text})).status_code != status:
                await asyncio.sleep(0.02)

    def replace_keys(*kinds: tuple[str, str]) -> None:
        keys = [key for kind, kid in kinds for key in json.loads(kit.jwks(kind, kid=kid))["keys"]]
        path.with_suffix(".new").write_text(json.dumps({"keys": keys}))
        path.with_suffix(".new").rename(path)

    async with caller(front_end) as client:
        assert (await client.put("/v1/streams/job", json={})).status_code == 201
    await until(old, 200)
    await until(new, 401)
    opened = asyncio.Event()
    viewer = asyncio.create_task(watch(front_end, f"{EVENTS}?token={old}", opened))
    async with asyncio.timeout(DEADLINE_S):
        await opened.wait()
    replace_keys(("EdDSA", "k1"), ("ES256", "k2"))
    await until(new, 200)
    assert not viewer.done()
    replace_keys(("ES256", "k2"))
    begun = time.monotonic()
    farewell = json.loads((await viewer).rpartition("data: ")[2])
    assert time.monotonic() - begun < WITHIN_S
    assert farewell == {"reason": "revoked", "reconnect": False}
    await until(old, 401)
    path.write_text("no key set")
    await front_end.logged("token_issuer_unusable")
    await until(new, 200)
