"""Keys with rights: a caller does what its key allows, and is refused before its body is read."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx2
import pytest
from fastapi import FastAPI, Request

from broadcaster.core import events as ev
from broadcaster.core.access.callers import CALLER_KEY, Action, Caller, StreamGrant
from broadcaster.errors import Forbidden, Unauthorized
from broadcaster.log.feeds.durable_streams import DurableAppend, DurableConfig, DurableCreation, DurableOutcome
from broadcaster.log.jobs.lists.chats import Chat
from broadcaster.web.guards.callers import actions_for, check_caller
from broadcaster.web.routes import admin, feeds, generations, health, streams
from broadcaster.web.services import Services
from broadcaster.web.surfaces.table import SURFACES
from tests.support.memory.memory_world import NOW_MS, MemoryWorld, memory_services
from tests.support.memory.unserved_durable import UnservedDurable
from tests.support.servers.front_end import in_process, own_app
from tests.web.surfaces.calls import RUN

KEYS = {action.value: f"{action.value}-key-0123456789" for action in Action}
SETTING = json.dumps({"web": [{"key": key, "rights": [name], "name": name} for name, key in KEYS.items()]})
SECRET = "the secret of another caller"
ANSWER: list[ev.KnownEvent] = [
    ev.Start(message_id="m"),
    ev.TextStart(id="0"),
    ev.TextDelta(id="0", delta="Sunny."),
    ev.TextEnd(id="0"),
    ev.Finish(finish_reason="stop"),
]
CALLS = [
    ("POST", "/v1/generations", "start"),
    ("POST", "/v1/chat/completions", "start"),
    ("GET", "/v1/models", "start"),
    ("GET", "/v1/generations", "watch"),
    ("GET", "/v1/generations/gen_1", "watch"),
    ("GET", "/v1/streams/gen_1/events", "watch"),
    ("GET", "/v1/streams/gen_1/events?wait_s=0", "watch"),
    ("GET", "/v1/responses/resp_gen_1", "watch"),
    ("POST", "/v1/generations/gen_1/stop", "stop"),
    ("DELETE", "/v1/generations/gen_1", "stop"),
    ("PUT", "/v1/streams/job:1", "append"),
    ("POST", "/v1/streams/job:1/events", "append"),
    ("POST", "/v1/streams/job:1/close", "append"),
    ("GET", "/v1/admin/workers", "admin"),
    ("GET", "/v1/admin/queue", "admin"),
    ("GET", "/v1/admin/front-end", "admin"),
    ("GET", "/v1/admin/redis", "admin"),
    ("GET", "/v1/admin/dead-letters", "admin"),
    ("POST", "/v1/admin/dead-letters/1-0/requeue", "admin"),
    ("GET", "/v1/admin/generations/gen_1/timeline", "admin"),
]


@pytest.fixture
def app(services: Services) -> FastAPI:
    return own_app(services, host="0.0.0.0", auth="keys", api_keys=SETTING)


@pytest.fixture
async def client(app: FastAPI) -> AsyncIterator[httpx2.AsyncClient]:
    async with in_process(app) as opened:
        yield opened


@pytest.mark.parametrize(("method", "path", "right"), CALLS)
async def test_an_operation_needs_its_right_and_no_other(
    client: httpx2.AsyncClient, method: str, path: str, right: str
) -> None:
    for name, key in KEYS.items():
        response = await client.request(method, path, headers={"x-api-key": key}, json={})
        if name == right:
            assert response.status_code != 403, response.text
        else:
            assert response.status_code == 403, (name, response.text)
            assert right in response.text
            assert name in response.text
            assert key not in response.text


@pytest.mark.parametrize(("choice", "right"), [("replace", "stop"), ("join", "watch")])
async def test_a_creation_that_deletes_or_reads_a_stream_needs_that_right_too(
    services: Services, choice: str, right: str
) -> None:
    keys: list[dict[str, Any]] = [
        {"key": f"both-key-0123456789-{name}", "rights": ["append", *name.split()]} for name in ("", right)
    ]
    app = own_app(services, host="0.0.0.0", auth="keys", api_keys=json.dumps({"web": keys}))
    async with in_process(app) as client:
        for query in (
            f"if_exists={choice}",
            f"if_exists={choice}&if_exists=fail",
            f"if_exists=fail&if_exists={choice}",
        ):
            alone, both = [
                await client.put(f"/v1/streams/job:1?{query}", headers={"x-api-key": key["key"]}, json={})
                for key in keys
            ]
            assert (alone.status_code, alone.json()["code"]) == (403, "forbidden")
            assert right in alone.text
            assert both.status_code != 403, both.text
        fails = await client.put("/v1/streams/job:2?if_exists=fail", headers={"x-api-key": keys[0]["key"]}, json={})
        assert fails.status_code == 201


async def test_a_refusal_is_the_same_for_streams_that_exist_and_others(
    client: httpx2.AsyncClient, world: MemoryWorld
) -> None:
    world.add("gen_1", tenant="web")
    world.add("gen_2", tenant="jobs")
    headers = {"x-api-key": KEYS["start"], "x-request-id": "same"}
    refusals = [await client.get(f"/v1/generations/{each}", headers=headers) for each in ("gen_1", "gen_2", "gen_3")]
    assert len({response.content for response in refusals}) == 1
    assert refusals[0].json()["code"] == "forbidden"


@pytest.fixture
async def earlier(services: Services, world: MemoryWorld) -> None:
    """A run of another caller of the tenant, which is over."""
    request = {"messages": [{"role": "user", "content": SECRET}], "metadata": {"threadId": RUN["threadId"]}}
    world.add("gen_0009", tenant="web", request=request)
    world.append("gen_0009", *ANSWER)
    chat = Chat(created_ms=NOW_MS, generation_id="gen_0009", run_id=str(RUN["runId"]))
    await services.chats.remember(f"agui-run:{RUN['runId']}", chat, tenant="web", retention_ms=1)


@pytest.mark.usefixtures("earlier")
async def test_a_key_without_watch_follows_no_run_of_another_caller(client: httpx2.AsyncClient) -> None:
    headers = {"x-api-key": KEYS["start"], "last-event-id": "0-0"}
    for run in (RUN, {**RUN, "runId": "unknown"}):
        refused = await client.post("/agui", headers=headers, json=run)
        assert (refused.status_code, refused.json()["code"]) == (403, "forbidden")
        assert "watch" in refused.json()["error"]


NAMING: list[Callable[[str], dict[str, Any]]] = [
    lambda id: {"model": "local", "input": "And?", "previous_response_id": f"resp_{id}"},
    lambda id: {"model": "local", "input": [{"type": "item_reference", "id": f"msg_{id}_0"}]},
]


@pytest.mark.usefixtures("earlier")
@pytest.mark.parametrize("naming", NAMING)
@pytest.mark.parametrize("path", ["/v1/responses", "/v1/responses/input_tokens"])
async def test_a_key_without_watch_builds_on_no_answer_of_another_caller(
    client: httpx2.AsyncClient, world: MemoryWorld, path: str, naming: Callable[[str], dict[str, Any]]
) -> None:
    world.on_create = lambda id: world.append(id, *ANSWER)
    for id in ("gen_0009", "gen_0010"):
        refused = await client.post(path, headers={"x-api-key": KEYS["start"]}, json=naming(id))
        assert refused.status_code == 403, refused.text
        assert refused.json()["error"]["code"] == "forbidden"
        assert "watch" in refused.json()["error"]["message"]
    assert not world.requests


@pytest.mark.usefixtures("earlier")
async def test_a_key_with_watch_follows_runs_and_builds_on_answers_of_its_tenant(
    services: Services, world: MemoryWorld
) -> None:
    both = {"key": "both-key-0123456789", "rights": ["start", "watch"]}
    app = own_app(services, host="0.0.0.0", auth="keys", api_keys=json.dumps({"web": [both]}))
    world.on_create = lambda id: world.append(id, *ANSWER)
    headers = {"x-api-key": "both-key-0123456789"}
    async with in_process(app) as client:
        joined = await client.post("/agui", headers={**headers, "last-event-id": "0-0"}, json=RUN)
        assert (joined.status_code, joined.headers["broadcaster-generation-id"]) == (200, "gen_0009")
        for naming in NAMING:
            built = await client.post("/v1/responses", headers=headers, json=naming("gen_0009"))
            assert built.status_code == 200, built.text
    previous, referenced = (each.request["messages"] for each in world.requests)
    assert previous[0]["content"] == SECRET
    assert "Sunny." in str(referenced)


async def test_a_refused_body_is_not_read(app: FastAPI) -> None:
    sent: list[Any] = []

    async def receive() -> Any:
        raise AssertionError("the body was read")

    async def send(message: Any) -> None:
        sent.append(message)

    headers = [
        (b"content-type", b"application/json"),
        (b"x-api-key", KEYS["watch"].encode()),
        (b"content-length", b"9"),
    ]
    scope = {
        "type": "http", "method": "POST", "path": "/v1/generations", "query_string": b"", "http_version": "1.1",
        "scheme": "http", "headers": headers, "root_path": "",
    }  # fmt: skip
    await app(scope, receive, send)
    assert sent[0]["status"] == 403


@pytest.mark.parametrize("path", ["/v1/streams/gen_1/events", "/v1/streams/gen_1/events?wait_s=1"])
async def test_a_key_that_was_revoked_while_its_request_was_on_the_way_opens_no_stream(
    world: MemoryWorld, path: str
) -> None:
    world.add("gen_1", tenant="web")
    async with memory_services(world, check_admitted=_refuse) as services:
        async with in_process(own_app(services, host="0.0.0.0", auth="keys", api_keys=SETTING)) as client:
            response = await client.get(path, headers={"x-api-key": KEYS["watch"]})
    assert (response.status_code, response.json()["code"]) == (401, "unauthorized")


async def test_a_key_that_was_revoked_while_its_body_was_on_the_way_starts_nothing(world: MemoryWorld) -> None:
    response = await _revoked_meanwhile(
        world, "POST", "/v1/generations", right="start", content_type="application/json", body=b'{"prompt": "x"}'
    )
    assert (response.status_code, response.json()["code"]) == (401, "unauthorized")
    assert not world.requests


@pytest.mark.parametrize("method", ["PUT", "POST"])
async def test_a_key_that_was_revoked_while_its_body_was_on_the_way_writes_no_durable_stream(
    world: MemoryWorld, method: str
) -> None:
    durable = _WrittenDurable()
    response = await _revoked_meanwhile(
        world, method, "/ds/job", right="append", content_type="text/plain", body=b"a line", durable=durable
    )
    assert (response.status_code, response.json()["code"]) == (401, "unauthorized")
    assert not durable.written


class _WrittenDurable(UnservedDurable):
    """Notes what reaches it."""

    def __init__(self) -> None:
        self.written: list[DurableAppend] = []

    async def create(
        self, stream_id: str, config: DurableConfig, *, tenant: str, content: DurableAppend
    ) -> DurableCreation:
        self.written.append(content)
        return await super().create(stream_id, config, tenant=tenant, content=content)

    async def append(self, stream_id: str, content: DurableAppend, *, tenant: str) -> DurableOutcome:
        self.written.append(content)
        return await super().append(stream_id, content, tenant=tenant)


async def _revoked_meanwhile(
    world: MemoryWorld, method: str, path: str, *, right: str, content_type: str, body: bytes, **changes: Any
) -> httpx2.Response:
    """The response to a request whose key is revoked when half of its body has arrived."""
    is_revoked = asyncio.Event()

    async def slow_body() -> AsyncIterator[bytes]:
        yield body[:5]
        is_revoked.set()
        yield body[5:]

    def check(caller: Caller) -> None:
        if is_revoked.is_set():
            _refuse(caller)

    headers = {"x-api-key": KEYS[right], "content-type": content_type, "content-length": str(len(body))}
    async with memory_services(world, check_admitted=check, **changes) as services:
        async with in_process(own_app(services, host="0.0.0.0", auth="keys", api_keys=SETTING)) as client:
            return await client.request(method, path, headers=headers, content=slow_body())


@pytest.mark.parametrize(("method", "path", "right", "status"), [
    ("PUT", "/v1/streams/job:1", "append", 201),
    ("GET", "/v1/generations/gen_1", "watch", 401),
])  # fmt: skip
async def test_a_credential_that_ends_meanwhile_hides_what_was_read_and_not_that_something_was_changed(
    world: MemoryWorld, method: str, path: str, right: str, status: int
) -> None:
    world.add("gen_1", tenant="web")
    checks: list[Caller] = []

    def check(caller: Caller) -> None:
        checks.append(caller)
        if len(checks) > 1:
            _refuse(caller)

    async with memory_services(world, check_admitted=check) as services:
        async with in_process(own_app(services, host="0.0.0.0", auth="keys", api_keys=SETTING)) as client:
            assert (await client.request(method, path, headers={"x-api-key": KEYS[right]})).status_code == status


@pytest.mark.parametrize("settings", [{}, {"host": "0.0.0.0", "auth": "keys", "api_keys": SETTING}])
async def test_a_caller_of_a_host_that_mounts_our_app_is_none_of_ours(
    services: Services, settings: dict[str, str]
) -> None:
    host = FastAPI()
    host.mount("/ours", own_app(services, **settings))

    @host.middleware("http")
    async def signed_in(request: Request, call_next: Any) -> Any:
        request.state.caller = "alice"
        return await call_next(request)

    async with in_process(host) as client:
        assert (await client.get("/ours/healthz")).status_code == 200
        listed = await client.get("/ours/v1/generations", headers={"x-api-key": KEYS["watch"]})
        assert listed.status_code == 200


def test_every_operation_needs_a_right_except_the_health_of_the_process() -> None:
    rows = [
        row
        for table in (generations.routes, streams.routes, feeds.routes, health.routes, admin.routes, *SURFACES)
        for row in table
    ]
    assert len(rows) > 25
    assert {row.operation for row in rows if not actions_for(row.operation)} == {
        *("health", "readiness"),
        "get_caller",  # what its caller may do: nothing but its own rights
    }


def test_a_token_replaces_no_stream_even_if_it_may_stop_it() -> None:
    grant = StreamGrant("job:1", frozenset({Action.APPEND, Action.STOP}))
    scope = {CALLER_KEY: Caller("web", grants=(grant,)), "path_params": {"stream_id": "job:1"}}
    check_caller(scope, "create_stream")
    with pytest.raises(Forbidden, match="a token does not allow it"):
        check_caller({**scope, "query_string": b"if_exists=replace"}, "create_stream")


def _refuse(caller: Caller) -> None:
    raise Unauthorized("the key of this request was revoked")


@pytest.mark.parametrize("operation", ["get_timeline", "list_workers", "requeue_dead_letter"])
def test_no_token_operates_even_if_it_names_the_right(operation: str) -> None:
    grant = StreamGrant("gen_1", frozenset({Action.ADMIN, Action.WATCH}))
    scope = {CALLER_KEY: Caller("web", grants=(grant,)), "path_params": {"generation_id": "gen_1"}}
    with pytest.raises(Forbidden, match="a token does not allow it"):
        check_caller(scope, operation)
