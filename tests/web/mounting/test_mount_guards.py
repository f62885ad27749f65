"""The guards of a mounted router: when they are called, what they keep, and what other pages may not send."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import suppress
from typing import Annotated, Any

import httpx2
import pytest
from fastapi import Cookie, Depends, Header, HTTPException, Request, Security
from fastapi.security import APIKeyHeader, SecurityScopes
from starlette.types import Message, Receive, Scope, Send

from broadcaster.errors import LogUnavailable
from broadcaster.web.documents.problems import MEDIA_TYPE
from tests.support.apps.mounting import EVERYTHING, Mounted, create_host, serve_host
from tests.support.servers.front_end import DEADLINE_S

JOB = "/llm/v1/streams/job"
READS = ("/llm/v1/generations", "/llm/v1/generations/gen_1", "/llm/v1/generations/gen_1?wait_s=1", JOB, f"{JOB}/events")
WRITES: tuple[tuple[str, str, Any], ...] = (
    ("POST", "/llm/v1/generations", {"prompt": "a"}),
    ("POST", "/llm/v1/generations/gen_1/stop", {}),
    ("DELETE", "/llm/v1/generations/gen_1", None),
    ("PUT", JOB, {}),
    ("POST", f"{JOB}/events", {"type": "data-a", "data": 1}),
    ("POST", f"{JOB}/close", {}),
)
HOST_KEY = APIKeyHeader(name="x-host-key")


async def signed_in(session: Annotated[str, Cookie()] = "") -> str:
    if session != "good":
        raise HTTPException(401, "sign in first", headers={"www-authenticate": "Cookie"})
    return session


def behind(dependency: Callable[..., Any]) -> Mapping[str, Any]:
    """Guards that grant everything to callers that this dependency of the host admits."""

    async def to_stream(stream_id: str, passed: Any = Depends(dependency)) -> bool:
        return True

    async def to_caller(passed: Any = Depends(dependency)) -> bool:
        return True

    return {name: to_caller if name in ("can_list", "can_generate") else to_stream for name in EVERYTHING}


async def send(client: httpx2.AsyncClient, method: str, path: str, body: Any, **options: Any) -> httpx2.Response:
    return await client.request(method, path, **({} if body is None else {"json": body}), **options)


async def test_a_refused_caller_is_answered_by_the_host_before_the_log_is_read() -> None:
    mounted = Mounted(**behind(signed_in))
    mounted.world.away = True  # a read of the log would be 503
    async with serve_host(create_host(("/llm", mounted.router))) as client:
        for method, path, body in (*(("GET", path, None) for path in READS), *WRITES):
            response = await send(client, method, path, body)
            assert (response.status_code, response.json()) == (401, {"host": "sign in first"}), path
            assert response.headers["www-authenticate"] == "Cookie"
        client.cookies.set("session", "good")
        assert (await client.get(JOB)).json()["code"] == "log_unavailable"


async def test_a_refusal_leaves_no_trace() -> None:
    mounted = Mounted(**behind(signed_in))
    async with serve_host(create_host(("/llm", mounted.router))) as client:
        for method, path, body in WRITES:
            await send(client, method, path, body)
        assert (mounted.world.streams, mounted.world.requests) == ({}, [])
        assert mounted.hub is not None
        assert mounted.hub.statistics()[:2] == (0, 0)


class Sessions:
    """The host's pool: what was opened and closed, in order, and what its sessions saw or raised."""

    def __init__(self, *, at_exit: Exception | None = None) -> None:
        self.seen: list[str] = []
        self._at_exit = at_exit

    async def get(self) -> AsyncIterator[str]:
        """The usual dependency."""
        self.seen.append("open")
        try:
            yield "session"
        except HTTPException as error:
            self.seen.append(f"rolled back {error.status_code}")
            raise
        finally:
            self.seen.append("closed")
        if self._at_exit is not None:
            raise self._at_exit

    def get_in_a_thread(self) -> Iterator[str]:
        """The same, as hosts without async write it."""
        self.seen.append("open")
        try:
            yield "session"
        finally:
            self.seen.append("closed")

    def guards(self) -> dict[str, Any]:
        """Every shape in which a guard may hold a session."""

        async def depends(stream_id: str, session: str = Depends(self.get)) -> bool:
            return self.seen[-1:] == ["open"]

        def depends_in_a_thread(stream_id: str, session: str = Depends(self.get_in_a_thread)) -> bool:
            return self.seen[-1:] == ["open"]

        async def depends_with_a_scope(
            stream_id: str, session: str = Depends(self.get, scope="function")
        ) -> AsyncIterator[bool]:
            yield True
            assert self.seen[-1:] == ["open"], "a guard is left before what it depends on"

        async def yields_over(stream_id: str, session: str = Depends(self.get)) -> AsyncIterator[bool]:
            yield True
            assert self.seen[-1:] == ["open"], "a guard is left before what it depends on"

        def yields_in_a_thread(stream_id: str) -> Iterator[bool]:
            self.seen.append("open")
            yield True
            self.seen.append("closed")

        shapes = (depends, depends_in_a_thread, depends_with_a_scope, yields_over, yields_in_a_thread)
        return {shape.__name__: shape for shape in shapes}


@pytest.mark.parametrize("shape", Sessions().guards())
async def test_a_guard_that_yields_is_left_before_the_stream_begins(shape: str) -> None:
    sessions = Sessions()
    mounted = Mounted(can_watch=sessions.guards()[shape])
    mounted.world.add("job", kind="feed", status="running")
    async with serve_host(create_host(("/llm", mounted.router))) as client:
        async with client.stream("GET", f"{JOB}/events") as response:
            assert response.status_code == 200
            await anext(response.aiter_bytes())
            assert sessions.seen == ["open", "closed"]


@pytest.mark.parametrize("shape", ["depends", "yields_over"])
async def test_an_error_that_a_guard_raises_at_its_exit_is_answered_by_the_host_in_place_of_the_stream(
    shape: str,
) -> None:
    sessions = Sessions(at_exit=HTTPException(409, "not committed"))
    mounted = Mounted(can_watch=sessions.guards()[shape])
    mounted.world.add("job", kind="feed", status="running")
    async with serve_host(create_host(("/llm", mounted.router))) as client:
        response = await client.get(f"{JOB}/events")
        assert (response.status_code, response.json()) == (409, {"host": "not committed"})
        assert mounted.hub is not None
        assert mounted.hub.statistics().viewers == 0


async def test_a_session_under_a_guard_sees_its_refusal_and_not_ours() -> None:
    sessions = Sessions()

    async def owns(stream_id: str, session: str = Depends(sessions.get)) -> bool:
        if stream_id == "theirs":
            raise HTTPException(403, f"not of your {session}")
        return True

    async with serve_host(create_host(("/llm", Mounted(can_watch=owns).router))) as client:
        assert (await client.get("/llm/v1/streams/theirs")).json() == {"host": "not of your session"}
        assert (await client.get("/llm/v1/streams/mine")).json()["code"] == "unknown_stream"
    assert sessions.seen == ["open", "rolled back 403", "closed", "open", "closed"]


async def test_a_refusal_that_a_session_swallows_admits_no_caller() -> None:
    async def swallowing() -> AsyncIterator[None]:
        with suppress(HTTPException):
            yield

    async def refuses(stream_id: str, _: None = Depends(swallowing)) -> bool:
        raise HTTPException(401, "sign in first")

    mounted = Mounted(can_watch=refuses)
    mounted.world.add("job", kind="feed", status="running")
    async with serve_host(create_host(("/llm", mounted.router))) as client:
        assert (await client.get(f"{JOB}/events")).status_code == 500


async def test_a_security_scheme_under_a_guard_is_documented_as_the_hosts_are() -> None:
    async def scoped(scopes: SecurityScopes, given: Annotated[str, Depends(HOST_KEY)]) -> None:
        if given not in scopes.scopes:
            raise HTTPException(403, "another scope is needed")

    async def may_watch(stream_id: str, passed: None = Security(scoped, scopes=["watch"])) -> bool:
        return True

    app = create_host(("/llm", Mounted(can_watch=may_watch).router))
    document = app.openapi()
    operation = document["paths"]["/llm/v1/streams/{stream_id}/events"]["get"]
    assert [list(each) for each in operation["security"]] == [["APIKeyHeader"]]
    assert document["components"]["securitySchemes"]["APIKeyHeader"]["name"] == "x-host-key"
    async with serve_host(app) as client:
        assert (await client.get(JOB, headers={"x-host-key": "other"})).status_code == 403
        assert (await client.get(JOB, headers={"x-host-key": "watch"})).json()["code"] == "unknown_stream"


async def test_a_parameter_of_the_guard_that_is_missing_is_a_fault_of_the_request() -> None:
    async def named(stream_id: str, x_name: Annotated[str, Header()]) -> bool:
        return True

    mounted = Mounted(can_watch=named)
    mounted.world.away = True  # a read of the log would be 503
    async with serve_host(create_host(("/llm", mounted.router))) as client:
        problem = (await client.get(JOB)).json()
    assert (problem["status"], problem["errors"][0]["name"]) == (400, "x-name")


async def test_a_refusal_that_the_guard_made_of_one_of_our_errors_is_the_hosts() -> None:
    async def reads_the_log(stream_id: str) -> bool:
        raise HTTPException(418, "not now") from LogUnavailable("the log does not answer")

    async with serve_host(create_host(("/llm", Mounted(can_watch=reads_the_log).router))) as client:
        response = await client.get(JOB)
        assert (response.status_code, response.json()) == (418, {"host": "not now"})


async def test_a_guard_knows_the_stream_and_what_stands_in_the_prefix() -> None:
    response: list[tuple[str, str]] = []

    async def of_team(stream_id: str, request: Request) -> bool:
        response.append((request.path_params["team"], stream_id))
        return True

    mounted = Mounted(can_watch=of_team)
    async with serve_host(create_host(("/teams/{team}", mounted.router))) as client:
        for path in ("streams/job", "streams/job/events", "generations/gen_1", "responses/resp_gen_1"):
            await client.get(f"/teams/a%20b/v1/{path}")
    assert response == [("a b", "job"), ("a b", "job"), ("a b", "gen_1"), ("a b", "gen_1")]


# ------------------------------------------------------------------------------------------- before the body is read

HALF_SENT = b'{"a":[' + b"{}," * 700_000  # 2 MB of the 4 MB that the head announces
WITH_BODY = [each for each in WRITES if each[2] is not None] + [
    ("POST", f"/llm{path}", {})
    for path in ("/v1/chat/completions", "/v1/messages", "/v1/responses", "/api/chat", "/agui")
]


def head_of(method: str, path: str) -> bytes:
    length = 4 * 2**20 - 1
    lines = (f"{method} {path} HTTP/1.1", "host: h", "content-type: application/json", f"content-length: {length}")
    return "\r\n".join((*lines, "", "")).encode()


@pytest.mark.parametrize(("refusal", "status"), [(HTTPException(401, "sign in first"), 401), (None, 404)])
async def test_a_refused_caller_is_answered_while_half_of_the_body_is_on_its_way(
    refusal: HTTPException | None, status: int
) -> None:
    async def refuses(stream_id: str) -> bool:
        if refusal is not None:
            raise refusal
        return False

    async def refuses_all() -> bool:
        if refusal is not None:
            raise refusal
        return False

    guards: dict[str, Any] = {
        name: refuses_all if name in ("can_list", "can_generate") else refuses for name in EVERYTHING
    }
    async with serve_host(create_host(("/llm", Mounted(**guards).router))) as client:
        for method, path, _ in WITH_BODY:
            reader, writer = await asyncio.open_connection("127.0.0.1", client.base_url.port)
            writer.write(head_of(method, path) + HALF_SENT)
            async with asyncio.timeout(DEADLINE_S):
                result = int((await reader.readuntil(b"\r\n")).split(b" ")[1])
            writer.close()
            assert result == (status if refusal or "streams" in path or "stop" in path else 403), path


async def test_a_refused_body_is_not_even_read() -> None:
    app = create_host(("/llm", Mounted(**behind(signed_in)).router))
    app.user_middleware.clear()  # the host's own reads ahead
    reads = 0

    async def counting(scope: Scope, receive: Receive, send: Send) -> None:
        async def read() -> Message:
            nonlocal reads
            reads += 1
            return await receive()

        await app(scope, read if scope["type"] == "http" else receive, send)

    transport = httpx2.ASGITransport(app=counting)
    async with app.router.lifespan_context(app), httpx2.AsyncClient(transport=transport, base_url="http://h") as client:
        for method, path, body in WITH_BODY:
            assert (await send(client, method, path, body)).status_code == 401, path
    assert reads == 0


async def test_no_session_of_the_host_is_open_while_a_body_comes_slowly() -> None:
    sessions = Sessions()

    async def may_write(stream_id: str, session: str = Depends(sessions.get)) -> bool:
        return True

    mounted = Mounted(can_watch=may_write, can_write=may_write)
    async with serve_host(create_host(("/llm", mounted.router))) as client:
        _, writer = await asyncio.open_connection("127.0.0.1", client.base_url.port)
        writer.write(head_of("POST", f"{JOB}/events") + HALF_SENT)
        async with asyncio.timeout(DEADLINE_S):
            while sessions.seen != ["open", "closed"]:
                await asyncio.sleep(0.01)
        writer.close()


async def test_a_guard_that_reads_the_body_fails_and_lets_nothing_pass() -> None:
    async def reads(stream_id: str, request: Request) -> bool:
        return bool(await request.body())

    mounted = Mounted(can_watch=reads, can_write=reads)
    async with serve_host(create_host(("/llm", mounted.router))) as client:
        assert (await client.put(JOB, json={})).status_code == 500
    assert mounted.world.streams == {}


# ----------------------------------------------------------------------------------------- pages of another origin

FORM = {"content-type": "text/plain", "origin": "https://evil.example", "sec-fetch-site": "cross-site"}
BARE = {"origin": "https://evil.example", "sec-fetch-site": "cross-site"}
OLD_BROWSER = {"origin": "https://evil.example"}
SUBDOMAIN = {"origin": "https://other.host.example", "sec-fetch-site": "same-site"}


@pytest.mark.parametrize("headers", [FORM, BARE, OLD_BROWSER, SUBDOMAIN, {"origin": "null"}, {"origin": "http://[::1"}])
@pytest.mark.parametrize("path", ["/llm/v1/generations/gen_1/stop", f"{JOB}/close", f"{JOB}/events"])
async def test_the_users_cookie_does_not_make_another_pages_post_ours(path: str, headers: dict[str, str]) -> None:
    """Such requests need no preflight: their browser sends them, cookie and all."""
    mounted = Mounted(**behind(signed_in))
    mounted.world.add("gen_1")
    mounted.world.add("job", kind="feed", status="running")
    content = b'{"type": "data-a", "data": 1}' if "content-type" in headers else None
    async with serve_host(create_host(("/llm", mounted.router))) as client:
        client.cookies.set("session", "good")
        response = await client.post(path, content=content, headers=headers)
        assert (response.status_code, response.headers["content-type"]) == (415, MEDIA_TYPE)
    assert not any(stream.entries or stream.meta.stop for stream in mounted.world.streams.values())


@pytest.mark.parametrize(
    "headers",
    [
        {"sec-fetch-site": "same-origin", "origin": "https://seen.by.the.proxy"},
        {"sec-fetch-site": "none"},
        {},  # no browser
        {"origin": "http://HOST.example:8000", "host": "host.example:8000"},
        {"content-type": "application/json", **BARE},  # a preflight has been requested
    ],
)
async def test_a_stop_without_a_body_is_fine_from_wherever_it_cannot_be_forged(headers: dict[str, str]) -> None:
    mounted = Mounted(**behind(signed_in))
    mounted.world.add("gen_1")
    async with serve_host(create_host(("/llm", mounted.router))) as client:
        client.cookies.set("session", "good")
        assert (await client.post("/llm/v1/generations/gen_1/stop", headers=headers)).status_code == 202
