"""Who may do what through a mounted router: the host's dependencies, and what a page of another origin may not send."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from typing import Annotated, Any

import httpx2
import pytest
from fastapi import Cookie, Depends, Header, HTTPException, Request, Security
from fastapi.security import APIKeyHeader, SecurityScopes

from broadcaster.errors import LogUnavailable
from broadcaster.web.problems import MEDIA_TYPE
from tests.support.front_end import listen
from tests.support.mounting import Mounted, create_host, serve_host

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


async def nobody() -> None:
    raise HTTPException(403, "reading only")


async def send(client: httpx2.AsyncClient, method: str, path: str, body: Any, **options: Any) -> httpx2.Response:
    return await client.request(method, path, **({} if body is None else {"json": body}), **options)


async def test_who_is_refused_is_answered_by_the_host_before_any_look_at_the_log() -> None:
    mounted = Mounted(auth=signed_in)
    mounted.world.away = True  # a look would be 503
    async with serve_host(create_host(("/llm", mounted.router))) as client:
        for method, path, body in (*(("GET", path, None) for path in READS), *WRITES):
            response = await send(client, method, path, body)
            assert (response.status_code, response.json()) == (401, {"host": "sign in first"}), path
            assert response.headers["www-authenticate"] == "Cookie"
        client.cookies.set("session", "good")
        assert (await client.get(JOB)).json()["code"] == "log_unavailable"


async def test_a_refusal_leaves_no_trace() -> None:
    mounted = Mounted(auth=signed_in)
    async with serve_host(create_host(("/llm", mounted.router))) as client:
        for method, path, body in WRITES:
            await send(client, method, path, body)
        assert (mounted.world.streams, mounted.world.requests) == ({}, [])
        assert mounted.hub is not None
        assert mounted.hub.statistics()[:2] == (0, 0)


async def test_writing_may_have_a_guard_of_its_own() -> None:
    mounted = Mounted(auth=None, write_auth=nobody)
    mounted.world.add("job", kind="feed", status="running")
    mounted.world.add("gen_1")
    async with serve_host(create_host(("/llm", mounted.router))) as client:
        for method, path, body in WRITES:
            assert (await send(client, method, path, body)).json() == {"host": "reading only"}, path
        for path in READS[:-1]:
            assert (await client.get(path)).status_code == 200, path
        await listen(client, READS[-1], until="hub.live")


async def test_rights_on_single_streams_are_the_guards_own() -> None:
    async def owns(request: Request) -> None:
        if not request.path_params.get("stream_id", "mine").startswith("mine"):
            raise HTTPException(404, "no such stream of yours")

    async with serve_host(create_host(("/llm", Mounted(auth=owns).router))) as client:
        assert (await client.put("/llm/v1/streams/mine-1", json={})).status_code == 201
        assert (await client.put("/llm/v1/streams/theirs", json={})).json() == {"host": "no such stream of yours"}


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

        async def of_session(session: str = Depends(self.get)) -> None:
            assert self.seen[-1:] == ["open"], session

        async def of_thread(session: str = Depends(self.get_in_a_thread)) -> None:
            assert self.seen[-1:] == ["open"], session

        async def of_function(session: str = Depends(self.get, scope="function")) -> AsyncIterator[None]:
            yield
            assert self.seen[-1:] == ["open"], "a guard is left before what it depends on"

        async def yields_over(session: str = Depends(self.get)) -> AsyncIterator[None]:
            yield
            assert self.seen[-1:] == ["open"], "a guard is left before what it depends on"

        return {
            "a function": self.get,
            "a function in a thread": self.get_in_a_thread,
            "Depends": Depends(self.get),
            "a dependency of the guard": of_session,
            "one in a thread": of_thread,
            "one with a scope": of_function,
            "one of a guard that yields": yields_over,
        }


@pytest.mark.parametrize("shape", Sessions().guards())
async def test_a_guard_that_yields_is_left_before_the_stream_begins(shape: str) -> None:
    sessions = Sessions()
    mounted = Mounted(auth=sessions.guards()[shape])
    mounted.world.add("job", kind="feed", status="running")
    async with serve_host(create_host(("/llm", mounted.router))) as client:
        async with client.stream("GET", f"{JOB}/events") as response:
            assert response.status_code == 200
            await anext(response.aiter_bytes())
            assert sessions.seen == ["open", "closed"]


@pytest.mark.parametrize("shape", ["a function", "Depends", "a dependency of the guard"])
async def test_what_a_guard_raises_when_it_is_left_is_answered_by_the_host_in_place_of_the_stream(shape: str) -> None:
    sessions = Sessions(at_exit=HTTPException(409, "not committed"))
    mounted = Mounted(auth=sessions.guards()[shape])
    mounted.world.add("job", kind="feed", status="running")
    async with serve_host(create_host(("/llm", mounted.router))) as client:
        response = await client.get(f"{JOB}/events")
        assert (response.status_code, response.json()) == (409, {"host": "not committed"})
        assert mounted.hub is not None
        assert mounted.hub.statistics().viewers == 0


async def test_a_session_under_a_guard_sees_its_refusal_and_not_ours() -> None:
    sessions = Sessions()

    async def owns(request: Request, session: str = Depends(sessions.get)) -> None:
        if request.path_params["stream_id"] == "theirs":
            raise HTTPException(403, f"not of your {session}")

    async with serve_host(create_host(("/llm", Mounted(auth=owns).router))) as client:
        assert (await client.get("/llm/v1/streams/theirs")).json() == {"host": "not of your session"}
        assert (await client.get("/llm/v1/streams/mine")).json()["code"] == "unknown_stream"
    assert sessions.seen == ["open", "rolled back 403", "closed", "open", "closed"]


async def test_a_refusal_that_a_session_swallows_lets_nobody_in() -> None:
    async def swallowing() -> AsyncIterator[None]:
        with suppress(HTTPException):
            yield

    async def refuses(_: None = Depends(swallowing)) -> None:
        raise HTTPException(401, "sign in first")

    mounted = Mounted(auth=refuses)
    mounted.world.add("job", kind="feed", status="running")
    async with serve_host(create_host(("/llm", mounted.router))) as client:
        assert (await client.get(f"{JOB}/events")).status_code == 500


async def test_what_depends_and_security_give_is_a_guard_and_documented_as_the_hosts_are() -> None:
    async def scoped(scopes: SecurityScopes, given: Annotated[str, Depends(HOST_KEY)]) -> None:
        if given not in scopes.scopes:
            raise HTTPException(403, "another scope is needed")

    app = create_host(("/llm", Mounted(auth=Security(scoped, scopes=["watch"])).router))
    operation = app.openapi()["paths"]["/llm/v1/streams/{stream_id}/events"]["get"]
    assert [list(each) for each in operation["security"]] == [["APIKeyHeader"]]
    async with serve_host(app) as client:
        assert (await client.get(JOB, headers={"x-host-key": "other"})).status_code == 403
        assert (await client.get(JOB, headers={"x-host-key": "watch"})).json()["code"] == "unknown_stream"


async def test_a_parameter_of_the_guard_that_is_missing_is_a_fault_of_the_request() -> None:
    async def named(x_name: Annotated[str, Header()]) -> None:
        """Whoever gives a name."""

    mounted = Mounted(auth=named)
    mounted.world.away = True  # a look would be 503
    async with serve_host(create_host(("/llm", mounted.router))) as client:
        problem = (await client.get(JOB)).json()
    assert (problem["status"], problem["errors"][0]["name"]) == (400, "x-name")


async def test_a_refusal_that_the_guard_made_of_one_of_our_errors_is_the_hosts() -> None:
    async def asks_the_log() -> None:
        raise HTTPException(418, "not now") from LogUnavailable("the log does not answer")

    async with serve_host(create_host(("/llm", Mounted(auth=asks_the_log).router))) as client:
        response = await client.get(JOB)
        assert (response.status_code, response.json()) == (418, {"host": "not now"})


# ----------------------------------------------------------------------------------------- pages of another origin

FORM = {"content-type": "text/plain", "origin": "https://evil.example", "sec-fetch-site": "cross-site"}
BARE = {"origin": "https://evil.example", "sec-fetch-site": "cross-site"}
OLD_BROWSER = {"origin": "https://evil.example"}
SUBDOMAIN = {"origin": "https://other.host.example", "sec-fetch-site": "same-site"}


@pytest.mark.parametrize("headers", [FORM, BARE, OLD_BROWSER, SUBDOMAIN, {"origin": "null"}, {"origin": "http://[::1"}])
@pytest.mark.parametrize("path", ["/llm/v1/generations/gen_1/stop", f"{JOB}/close", f"{JOB}/events"])
async def test_the_users_cookie_does_not_make_another_pages_post_ours(path: str, headers: dict[str, str]) -> None:
    """Such requests need no preflight: their browser sends them, cookie and all, and asks nobody."""
    mounted = Mounted(auth=signed_in)
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
        {"content-type": "application/json", **BARE},  # a preflight has been asked for
    ],
)
async def test_a_stop_without_a_body_is_fine_from_wherever_it_cannot_be_forged(headers: dict[str, str]) -> None:
    mounted = Mounted(auth=signed_in)
    mounted.world.add("gen_1")
    async with serve_host(create_host(("/llm", mounted.router))) as client:
        client.cookies.set("session", "good")
        assert (await client.post("/llm/v1/generations/gen_1/stop", headers=headers)).status_code == 202
