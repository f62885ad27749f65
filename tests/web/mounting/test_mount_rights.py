"""Two users of a host with a mounted router: the second gets nothing of the first's, by whatever route."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Annotated, Any, NamedTuple

import httpx2
import pytest
from fastapi import Cookie, Depends, FastAPI, HTTPException, Request

from broadcaster.core.events import DataEvent, Finish, TextDelta, TextEnd, TextStart
from broadcaster.dialects.passed.decode import CARRIED_TYPE
from broadcaster.web.guards.rights import OF_NO_STREAM, RIGHTS, Right
from broadcaster.web.route_table import MountedRoute
from tests.support.apps.mounting import EVERYTHING, Mounted, create_host, every_stream
from tests.support.servers.front_end import DEADLINE_S

SECRET = "the swordfish"
MESSAGES = [{"role": "user", "content": "why?"}]
VOLATILE = frozenset({"date", "x-tenant"})  # differs in every answer, or is the server's


class Call(NamedTuple):
    """One request; ``{id}`` stands for a stream."""

    method: str
    path: str
    body: Any = None


CALLS: Mapping[str, Call] = {
    "stream_events": Call("GET", "/v1/streams/{id}/events"),
    "stream_ws": Call("GET", "/v1/streams/{id}/ws"),
    "get_stream": Call("GET", "/v1/streams/{id}"),
    "get_generation": Call("GET", "/v1/generations/{id}"),
    "get_response": Call("GET", "/v1/responses/resp_{id}"),
    "list_response_input_items": Call("GET", "/v1/responses/{id}/input_items"),
    "ai_sdk_resume": Call("GET", "/api/chat/chat-{id}/stream?ended=true"),
    "join_run": Call("GET", "/agui?runId=run-{id}&offset=-1"),
    "list_generations": Call("GET", "/v1/generations"),
    "list_streams": Call("GET", "/v1/streams"),
    "create_generation": Call("POST", "/v1/generations", {"prompt": "why?", "stream": True}),
    "create_chat_completion": Call("POST", "/v1/chat/completions", {"model": "local", "messages": MESSAGES}),
    "create_message": Call("POST", "/v1/messages", {"model": "local", "max_tokens": 9, "messages": MESSAGES}),
    "create_response": Call("POST", "/v1/responses", {"model": "local", "input": "why?"}),
    "create_embeddings": Call("POST", "/v1/embeddings", {"model": "gpt-e", "input": "why?"}),
    "create_completion": Call("POST", "/v1/completions", {"model": "local", "prompt": "why?"}),
    "count_message_tokens": Call("POST", "/v1/messages/count_tokens", {"model": "claude-x", "messages": MESSAGES}),
    "count_response_tokens": Call("POST", "/v1/responses/input_tokens", {"model": "resp-x", "input": "why?"}),
    "ai_sdk_send": Call(
        "POST",
        "/api/chat",
        {
            "id": "chat-{id}",
            "trigger": "submit-message",
            "messages": [{"id": "m1", "role": "user", "parts": [{"type": "text", "text": "why?"}]}],
        },
    ),
    "run_agent": Call(
        "POST",
        "/agui",
        {
            "threadId": "thread-{id}",
            "runId": "run-{id}",
            "messages": [{"id": "m1", "role": "user", "content": "why?"}],
            "tools": [],
            "context": [],
            "state": {},
            "forwardedProps": {},
        },
    ),
    "list_models": Call("GET", "/v1/models"),
    "get_model": Call("GET", "/v1/models/local"),
    "stop_generation": Call("POST", "/v1/generations/{id}/stop"),
    "ai_sdk_stop": Call("POST", "/api/chat/chat-{id}/stop"),
    "cancel_response": Call("POST", "/v1/responses/resp_{id}/cancel"),
    "create_stream": Call("PUT", "/v1/streams/{id}", {}),
    "append_events": Call("POST", "/v1/streams/{id}/events", {"type": "data-a", "data": 1}),
    "close_stream": Call("POST", "/v1/streams/{id}/close", {}),
    "delete_generation": Call("DELETE", "/v1/generations/{id}"),
    "delete_response": Call("DELETE", "/v1/responses/{id}"),
    "delete_stream": Call("DELETE", "/v1/streams/{id}"),
}
CREATING = [name for name, call in CALLS.items() if call.method == "POST" and RIGHTS[name] == (Right.GENERATE,)]
COUNTS = ["count_message_tokens", "count_response_tokens"]
DELETED = ["create_embeddings", "create_completion", *COUNTS]  # once they are answered
OF_STREAMS = [name for name in CALLS if not OF_NO_STREAM & set(RIGHTS[name])]


class Host:
    """The host's own table of the owners of streams, filled by ``on_generate``; ``ada`` and ``bob`` are signed in."""

    def __init__(self, *, refuses_by_raising: bool = False, **guards: Any) -> None:
        self.owners: dict[str, str] = {}
        self._raises = refuses_by_raising

        async def owns(stream_id: str, user: Annotated[str, Depends(signed_in)]) -> bool:
            if self.owners.get(stream_id) == user:
                return True
            if self._raises:
                raise HTTPException(404, "not yours")
            return False

        def may_generate(user: Annotated[str, Depends(signed_in)]) -> bool:
            return user in ("ada", "bob")

        def is_admin(user: Annotated[str, Depends(signed_in)]) -> bool:
            return user == "root"

        async def remember(stream_id: str, user: Annotated[str, Depends(signed_in)]) -> None:
            self.owners[stream_id] = user

        ours = {right.value: owns for right in Right} | {"can_generate": may_generate, "can_list": is_admin}
        self.mounted = Mounted(**{**ours, "websockets": True, "on_generate": remember, **guards})
        self.world = self.mounted.world
        self.world.on_create = lambda id: self.world.append(
            id,
            *(TextStart(id="0"), TextDelta(id="0", delta=SECRET), TextEnd(id="0")),
            DataEvent(type=CARRIED_TYPE, data=f'{{"secret":"{SECRET}"}}'),
            Finish(),
        )

    async def begin(self) -> None:
        """Ada has an answer and a feed, both running."""
        for id, changes in (("gen_ada", {}), ("ada-job", {"kind": "feed", "status": "running"})):
            self.world.add(id, **changes)
            self.world.append(id, TextStart(id="0"), TextDelta(id="0", delta=SECRET))
            self.owners[id] = "ada"

    def state(self) -> Mapping[str, Any]:
        """All that a user could have changed."""
        return {id: (stream.meta, list(stream.entries)) for id, stream in self.world.streams.items()}

    def serve(self) -> AbstractAsyncContextManager[httpx2.AsyncClient]:
        return without_sockets(create_host(("", self.mounted.router)))


@asynccontextmanager
async def without_sockets(app: FastAPI) -> AsyncIterator[httpx2.AsyncClient]:
    """A client of the app without sockets; every answer here ends by itself."""
    transport = httpx2.ASGITransport(app=app, raise_app_exceptions=False)
    async with app.router.lifespan_context(app), httpx2.AsyncClient(transport=transport, base_url="http://host") as it:
        yield it


def signed_in(user: Annotated[str, Cookie()] = "") -> str:
    if not user:
        raise HTTPException(401, "sign in first")
    return user


async def call(
    client: httpx2.AsyncClient,
    name: str,
    *,
    id: str = "gen_none",
    user: str = "bob",
    prompt: str = "why?",
    headers: Mapping[str, str] | None = None,
) -> httpx2.Response:
    method, path, body = CALLS[name]
    typed = {} if body is None else {"content-type": "application/json"}
    given = {"cookie": f"user={user}" if user else "", **(headers or {}), **typed}
    content = None if body is None else json.dumps(body).replace("{id}", id).replace("why?", prompt).encode()
    async with asyncio.timeout(DEADLINE_S):
        return await client.request(method, path.replace("{id}", id), content=content, headers=given)


def whole(response: httpx2.Response) -> tuple[int, dict[str, str], bytes]:
    headers = {name: value for name, value in response.headers.items() if name not in VOLATILE}
    return response.status_code, headers, response.content


# ------------------------------------------------------------------------------------------------- what is mounted


def operations(mounted: Mounted) -> set[str]:
    """Those of a router, by the names that our own document gives them."""
    return {route.operation for route in mounted.router.routes if isinstance(route, MountedRoute)}


def test_every_operation_has_its_rights_and_is_tried_here() -> None:
    assert operations(Mounted()) == RIGHTS.keys() == CALLS.keys()


async def test_a_router_reads_one_stream_at_a_time_and_does_nothing_else() -> None:
    mounted = Mounted(can_watch=every_stream)
    assert operations(mounted) == {name for name, rights in RIGHTS.items() if rights == (Right.WATCH,)} - {"stream_ws"}
    app = create_host(("", mounted.router))
    documented = {(method, path) for path, each in app.openapi()["paths"].items() for method in each}
    assert {method for method, _ in documented} == {"get"}
    assert len(documented) == 1 + len(operations(mounted))
    mounted.world.add("gen_1")
    before = dict(mounted.world.streams)
    async with without_sockets(app) as client:
        for name in CALLS.keys() - operations(mounted):
            response = await call(client, name, id="gen_1")
            assert response.json() in ({"host": "Not Found"}, {"host": "Method Not Allowed"}), name
    assert (mounted.world.streams, mounted.world.requests) == (before, [])


@pytest.mark.parametrize("right", [right for right in Right if right is not Right.WATCH])
def test_each_argument_adds_its_own_operations_and_no_others(right: Right) -> None:
    mounted = Mounted(can_watch=every_stream, **{right.value: EVERYTHING[right.value]})
    assert operations(mounted) == {name for name, of in RIGHTS.items() if {*of} <= {Right.WATCH, right}} - {"stream_ws"}


# ------------------------------------------------------------------------------------------------------ two users


@pytest.mark.parametrize("refuses_by_raising", [False, True])
async def test_another_users_stream_is_indistinguishable_from_one_that_does_not_exist(refuses_by_raising: bool) -> None:
    host = Host(refuses_by_raising=refuses_by_raising)
    async with host.serve() as client:
        await host.begin()
        assert (await call(client, "ai_sdk_send", id="gen_ada", user="ada")).status_code == 200
        before = host.state()
        for name in OF_STREAMS:
            for id in ("gen_ada", "ada-job"):
                refused, unknown = [whole(await call(client, name, id=each)) for each in (id, "gen_none")]
                assert refused == unknown, (name, id)
                assert refused[0] in (404, 200, 204), (name, id)
                assert SECRET.encode() not in refused[2]
        assert host.state() == before
        assert (await call(client, "get_generation", id="gen_ada", user="ada")).json()["text"] == SECRET


async def test_without_a_grant_a_user_can_neither_list_nor_generate() -> None:
    host = Host(can_generate=no_caller)
    async with host.serve() as client:
        await host.begin()
        before = host.state()
        for name in ("list_generations", *CREATING, "list_models", "get_model"):
            response = await call(client, name)
            assert response.status_code == 403, name
            assert SECRET not in response.text
        assert (host.state(), host.world.requests) == (before, [])


async def no_caller() -> bool:
    return False


async def test_a_refusal_to_generate_has_the_surfaces_own_shape() -> None:
    async with Host(can_generate=no_caller).serve() as client:
        assert (await call(client, "create_generation")).json()["code"] == "forbidden"
        assert (await call(client, "create_chat_completion")).json()["error"]["type"] == "permission_error"
        assert (await call(client, "create_message")).json()["error"]["type"] == "permission_error"


async def test_a_caller_that_is_not_signed_in_is_answered_by_the_host_everywhere() -> None:
    host = Host()
    async with host.serve() as client:
        await host.begin()
        host.world.away = True  # a read of the log would be 503; chats are looked up by theirs
        for name in CALLS.keys() - {"ai_sdk_resume", "ai_sdk_stop", "join_run"}:
            response = await call(client, name, id="gen_ada", user="")
            assert (response.status_code, response.json()) == (401, {"host": "sign in first"}), name
        host.world.away = False
        await call(client, "ai_sdk_send", id="gen_ada", user="ada")
        for name in ("ai_sdk_resume", "ai_sdk_stop", "join_run"):
            for id in ("gen_ada", "gen_none"):
                assert (await call(client, name, id=id, user="")).status_code == 401, (name, id)


# ------------------------------------------------------------------- ids in bodies and headers, and what they lead to


@pytest.mark.parametrize("name", [name for name in CREATING if name not in COUNTS])
async def test_an_idempotency_key_of_another_user_gives_nothing_of_the_answer(name: str) -> None:
    host = Host()
    async with host.serve() as client:
        key = {"idempotency-key": "a-key"}
        first = await call(client, name, user="ada", headers=key)
        assert SECRET in first.text
        repeated = await call(client, name, user="ada", headers=key)
        assert repeated.headers["broadcaster-generation-id"] == first.headers["broadcaster-generation-id"]
        stolen = await call(client, name, user="bob", headers=key)
        assert stolen.status_code == 422
        assert SECRET not in stolen.text
        mismatch = await call(client, name, user="bob", prompt="other", headers=key)
        assert whole(mismatch) == whole(stolen)
        assert len(host.world.requests) == 1


@pytest.mark.parametrize("prefix", ["", "resp_"])
async def test_another_users_response_cannot_be_built_upon(prefix: str) -> None:
    host = Host()

    async def build(user: str, earlier: str) -> httpx2.Response:
        body = {"model": "local", "input": "and then?", "previous_response_id": prefix + earlier}
        return await client.post("/v1/responses", json=body, headers={"cookie": f"user={user}"})

    async with host.serve() as client:
        earlier = (await call(client, "create_response", user="ada")).headers["broadcaster-generation-id"]
        stolen, unknown = await build("bob", earlier), await build("bob", "gen_none")
        assert whole(stolen) == whole(unknown)
        assert stolen.json()["error"]["code"] == "previous_response_not_found"
        assert len(host.world.requests) == 1
        assert (await build("ada", earlier)).status_code == 200
        assert SECRET in str(host.world.requests[-1].request)


@pytest.mark.parametrize("refuses_by_raising", [False, True])
async def test_another_users_chat_can_be_neither_resumed_stopped_nor_taken_over(refuses_by_raising: bool) -> None:
    host = Host(refuses_by_raising=refuses_by_raising)
    async with host.serve() as client:
        hers = (await call(client, "ai_sdk_send", id="x", user="ada")).headers["broadcaster-generation-id"]
        await call(client, "run_agent", id="x", user="ada")
        for name in ("ai_sdk_resume", "ai_sdk_stop", "join_run"):
            assert whole(await call(client, name, id="x")) == whole(await call(client, name, id="y")), name
        his = await call(client, "ai_sdk_send", id="x", user="bob")
        assert his.headers["broadcaster-generation-id"] != hers
        resumed = await call(client, "ai_sdk_resume", id="x", user="ada")
        assert (resumed.status_code, resumed.headers["broadcaster-generation-id"]) == (200, hers)
        assert SECRET in resumed.text
        hers = (await call(client, "ai_sdk_send", id="x", user="ada")).headers["broadcaster-generation-id"]
        resumed = await call(client, "ai_sdk_resume", id="x", user="ada")
        assert resumed.headers["broadcaster-generation-id"] == hers


async def test_a_chat_whose_latest_answer_is_gone_is_free() -> None:
    host = Host()
    async with host.serve() as client:
        hers = (await call(client, "ai_sdk_send", id="x", user="ada")).headers["broadcaster-generation-id"]
        del host.world.streams[hers], host.owners[hers]
        his = (await call(client, "ai_sdk_send", id="x", user="bob")).headers["broadcaster-generation-id"]
        assert (await call(client, "ai_sdk_resume", id="x")).headers["broadcaster-generation-id"] == his


async def test_a_cancel_answers_with_the_text_so_only_a_viewer_may_cancel() -> None:
    async with (host := Host(can_watch=no_stream, can_stop=every_stream)).serve() as client:
        await host.begin()
        before = host.state()
        assert (await call(client, "cancel_response", id="gen_ada")).status_code == 404
        assert host.state() == before
        assert (await call(client, "stop_generation", id="gen_ada")).status_code == 202


def no_stream(stream_id: str) -> bool:
    return False


# ------------------------------------------------------------------------------------------------- whose it becomes


@pytest.mark.parametrize("name", CREATING)
async def test_the_host_knows_a_new_generation_before_its_caller_does(name: str) -> None:
    host = Host()
    async with host.serve() as client:
        response = await call(client, name, user="bob")
        id = response.headers["broadcaster-generation-id"]
        assert host.owners == {id: "bob"}
        kept = await call(client, "get_generation", id=id, user="bob")
        assert kept.status_code == 404 if name in DELETED else kept.json()["text"] == SECRET
        assert (await call(client, "get_generation", id=id, user="ada")).status_code == 404


@pytest.mark.parametrize("name", CREATING)
async def test_a_generation_that_the_host_could_not_note_is_stopped(name: str) -> None:
    async def fails(stream_id: str, request: Request) -> None:
        raise HTTPException(507, f"no room for {request.method}")

    host = Host(on_generate=fails)
    host.world.on_create = lambda id: None
    async with host.serve() as client:
        response = await call(client, name)
        assert (response.status_code, response.json()) == (507, {"host": "no room for POST"})
        assert [stream.meta.stop for stream in host.world.streams.values()] == ["stopped"]


# ------------------------------------------------------------------------------------------------- what grants


async def test_only_true_grants() -> None:
    values: list[object] = [None, "ada", 1, 0, [], object()]

    def returns_the_next(stream_id: str) -> Any:
        return values.pop()

    host = Host(can_watch=returns_the_next)
    async with host.serve() as client:
        await host.begin()
        while values:
            response = await call(client, "get_generation", id="gen_ada")
            assert (response.status_code, SECRET in response.text) == (500, False)


async def test_the_apps_overrides_of_dependencies_hold_for_guards() -> None:
    host = Host()
    apps = [create_host(("", host.mounted.router)) for _ in range(2)]
    apps[0].dependency_overrides[signed_in] = lambda: "ada"
    for app, status in zip(apps, (200, 404), strict=True):
        async with without_sockets(app) as client:
            await host.begin()
            assert (await call(client, "get_generation", id="gen_ada")).status_code == status
