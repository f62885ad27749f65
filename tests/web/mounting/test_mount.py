"""The router in a user's app: everything works under its prefix, and nothing of the host is touched."""

from __future__ import annotations

import asyncio
import sys
from contextlib import asynccontextmanager
from functools import partial
from types import FrameType
from typing import Any

import pytest
from fastapi import APIRouter, FastAPI
from starlette.responses import HTMLResponse, JSONResponse
from starlette.routing import Match
from starlette.testclient import TestClient

from broadcaster.client import AsyncClient
from broadcaster.core.events import Finish, TextDelta
from broadcaster.errors import SetupError
from broadcaster.settings import Settings
from broadcaster.web.documents.problems import MEDIA_TYPE
from broadcaster.web.mount import create_router
from broadcaster.web.route_table import base_of
from broadcaster.web.routes import feeds, generations, streams
from broadcaster.web.surfaces.table import SURFACES
from broadcaster.web.wiring import open_services
from tests.support.apps.mounting import HOSTS_TENANT, Mounted, create_host, every_stream, serve_host
from tests.support.servers.front_end import DEADLINE_S, listen
from tests.web.bad_requests import KNOWN, MARK, TABLE, WRONG_WORD

DELTA = {"type": "data-note", "data": 1}


async def test_a_feed_is_created_appended_to_watched_and_closed_under_the_prefix() -> None:
    async with serve_host(create_host(("/llm", Mounted().router))) as client:
        created = await client.put("/llm/v1/streams/job", json={})
        assert (created.status_code, created.headers["location"]) == (201, "/llm/v1/streams/job")
        events_url = created.json()["events_url"]
        assert events_url == "/llm/v1/streams/job/events"
        assert (await client.post(events_url, json=[DELTA, DELTA])).json()["last_seq"] == 2
        assert (await client.get("/llm/v1/streams/job")).json()["events_url"] == events_url
        assert (await client.post("/llm/v1/streams/job/close")).json()["events_url"] == events_url
        received = await listen(client, events_url)
        assert [data for _, data in received.entries][-1] == '{"type":"finish"}'
        assert received.headers["x-tenant"] == HOSTS_TENANT
        done = await client.get(events_url, headers={"last-event-id": received.entries[-1][0]})
        assert done.status_code == 204


async def test_a_generation_is_requested_watched_listed_stopped_and_deleted_under_the_prefix() -> None:
    mounted = Mounted()
    async with serve_host(create_host(("/llm", mounted.router))) as client:
        created = await client.post("/llm/v1/generations", json={"prompt": "why?"})
        link = created.headers["location"]
        assert link == f"/llm/v1/generations/{created.json()['id']}"
        events_url = f"/llm/v1/streams/{created.json()['id']}/events"
        visible = [created.json(), (await client.get(link)).json(), (await client.get(f"{link}?parts=false")).json()]
        visible += (await client.get("/llm/v1/generations")).json()["generations"]
        visible.append((await client.post(f"{link}/stop")).json())
        assert [each["events_url"] for each in visible] == [events_url] * 5
        assert (await listen(client, events_url)).entries[-1][1].startswith('{"type":"abort"')
        assert (await client.delete(link)).status_code == 204
        assert (await client.get(link)).json()["code"] == "unknown_stream"


async def test_an_answer_that_is_streamed_at_once_has_its_link() -> None:
    mounted = Mounted()
    mounted.world.on_create = lambda id: mounted.world.append(id, TextDelta(id="0", delta="hi"), Finish())
    async with serve_host(create_host(("/llm", mounted.router))) as client:
        body = {"prompt": "a", "stream": True}
        received = await listen(client, "/llm/v1/generations", method="POST", json=body)
        assert received.headers["location"] == f"/llm/v1/generations/{received.headers['broadcaster-generation-id']}"
        assert len(received.entries) == 2


async def test_our_own_client_works_with_a_prefix() -> None:
    async with (
        serve_host(create_host(("/llm", Mounted().router))) as host,
        AsyncClient(str(host.base_url.join("/llm"))) as client,
    ):
        assert (await client.create_stream("job")).events_url == "/llm/v1/streams/job/events"
        assert (await client.stream("job")).id == "job"


# ------------------------------------------------------------------------------------------------------ what is whose


async def test_the_hosts_routes_states_and_refusals_stay_its_own() -> None:
    async with serve_host(create_host(("/llm", Mounted().router))) as client:
        hello = (await client.get("/hello/5")).json()
        assert hello == {"number": 5, "greeting": "hello", "tenant": HOSTS_TENANT}
        for method, path, status, content in (
            ("GET", "/hello/five", 422, "invalid"),
            ("GET", "/nowhere", 404, "Not Found"),
            ("GET", "/llm/v1/nowhere", 404, "Not Found"),
            ("PATCH", "/llm/v1/generations", 405, "Method Not Allowed"),
        ):
            response = await client.request(method, path)
            assert (response.status_code, response.json()) == (status, {"host": content})


async def test_every_bad_request_to_a_route_is_refused_as_in_our_own_app() -> None:
    mounted = Mounted()
    mounted.changes = {"max_body_bytes": 2**20}
    rows = [row for row in TABLE if row.route is not None and row.status != 403]
    assert len(rows) > 200
    async with serve_host(create_host(("/llm", mounted.router))) as client:
        for row in rows:
            mounted.world.clear()
            mounted.world.add(KNOWN)
            mounted.world.append(KNOWN, Finish())
            if row.before is not None:
                await client.post("/llm/v1/generations", json=row.before, headers=dict(row.headers))
            row.prepare(mounted.world)
            response = await client.request(
                row.method, f"/llm{row.url}", content=row.content, headers=dict(row.headers)
            )
            problem = response.json()
            assert response.headers["content-type"] == MEDIA_TYPE, row.name
            assert (response.status_code, problem["code"]) == (row.status, row.code), row.name
            places = [fault.get("pointer", fault.get("name")) for fault in problem.get("errors", ())]
            assert (row.place in places) if row.place else not places, row.name
            assert MARK not in response.text.replace(WRONG_WORD, "")


async def test_an_unexpected_error_reaches_the_hosts_own_handler() -> None:
    mounted = Mounted()
    mounted.world.refusal = ZeroDivisionError("a defect")
    app = create_host(("/llm", mounted.router))
    seen: list[Exception] = []

    async def track(_: object, error: Exception) -> JSONResponse:
        seen.append(error)
        return JSONResponse({"host": "tracked"}, status_code=500)

    app.add_exception_handler(Exception, track)
    async with serve_host(app) as client:
        response = await client.post("/llm/v1/generations", json={"prompt": "a"})
    assert (response.status_code, response.json()) == (500, {"host": "tracked"})
    assert [type(error) for error in seen] == [ZeroDivisionError]


async def test_a_viewer_that_leaves_through_the_hosts_middleware_is_noticed() -> None:
    mounted = Mounted()
    mounted.world.add("job", kind="feed", status="running")
    async with serve_host(create_host(("/llm", mounted.router))) as client:
        hub = mounted.hub
        assert hub is not None
        await listen(client, "/llm/v1/streams/job/events", until="hub.live")
        async with asyncio.timeout(DEADLINE_S):
            while hub.viewers():
                await asyncio.sleep(0.01)


# ---------------------------------------------------------------------------------------- where it may be mounted


async def test_two_routers_in_one_app_share_nothing(redis_url: str) -> None:
    names = ("one", "two")
    settings = {name: Settings(redis_url=redis_url, key_prefix=f"mount-{name}") for name in names}
    guards: dict[str, Any] = {"can_watch": every_stream, "can_write": every_stream}
    routers = [(f"/{name}", create_router(partial(open_services, settings[name]), **guards)) for name in names]
    async with serve_host(create_host(*routers)) as client:
        for name in names:
            created = await client.put("/one/v1/streams/same".replace("one", name), json={"metadata": {"of": name}})
            assert created.headers["location"] == f"/{name}/v1/streams/same"
        await client.post("/one/v1/streams/same/events", json=[DELTA])
        states = [(await client.get(f"/{name}/v1/streams/same")).json() for name in names]
        assert [(each["metadata"]["of"], each["last_seq"]) for each in states] == [("one", 1), ("two", 0)]
        await client.put("/one/v1/streams/only", json={})
        assert (await client.get("/two/v1/streams/only")).status_code == 404


async def test_the_tenant_is_the_routers_and_not_what_the_host_calls_so() -> None:
    mounted, other = Mounted(tenant="team-a"), Mounted(tenant="team-b")
    other.world = mounted.world
    async with serve_host(create_host(("/a", mounted.router), ("/b", other.router))) as client:
        await client.put("/a/v1/streams/job", json={})
        assert mounted.world.streams["job"].meta.tenant == "team-a"
        assert (await client.get("/b/v1/streams/job")).status_code == 404


async def test_a_router_that_is_included_twice_is_opened_once_and_links_to_the_path_that_was_called() -> None:
    mounted = Mounted()
    outer = APIRouter(prefix="/deep")
    outer.include_router(mounted.router, prefix="/er")
    async with serve_host(create_host(("/llm", mounted.router), ("/tenants/{name}", outer))) as client:
        await client.put("/llm/v1/streams/job", json={})
        visible = (await client.get("/tenants/an%20other/deep/er/v1/streams/job")).json()
        assert visible["events_url"] == "/tenants/an%20other/deep/er/v1/streams/job/events"
        assert (await client.get(visible["events_url"], headers={"last-event-id": "x"})).json()["code"] == "bad_cursor"
    assert mounted.opened == 1


async def test_links_lead_through_a_mounted_app_and_a_root_path() -> None:
    mounted = Mounted()
    sub = FastAPI()
    sub.include_router(mounted.router, prefix="/llm")

    @asynccontextmanager
    async def lifespan(_: FastAPI):
        async with sub.router.lifespan_context(sub):
            yield

    host = FastAPI(lifespan=lifespan)
    host.mount("/ai", sub)
    async with serve_host(host, root_path="/proxied") as client:
        created = await client.put("/ai/llm/v1/streams/job", json={})
        assert created.headers["location"] == "/proxied/ai/llm/v1/streams/job"
        assert created.json()["events_url"] == "/proxied/ai/llm/v1/streams/job/events"


@pytest.mark.parametrize(
    ("root_path", "path", "base"),
    [
        ("", "/v1/streams/job", ""),
        ("", "/llm/v1/streams/job", "/llm"),
        ("/proxied", "/proxied/llm/v1/streams/job", "/proxied/llm"),
        ("/proxied/", "/llm/v1/streams/job", "/proxied/llm"),
        ("/llm", "/llmore/v1/streams/job", "/llm/llmore"),
        ("", "/v1/streams/v1/streams/job", "/v1/streams"),
        ("", "/a b/é/v1/streams/job", "/a%20b/%C3%A9"),
    ],
)
def test_a_link_holds_root_path_once_and_every_prefix(root_path: str, path: str, base: str) -> None:
    assert base_of({"root_path": root_path, "path": path}, "/v1/streams/{stream_id}".count("/")) == base


async def test_a_mounted_app_whose_lifespan_does_not_run_reports_the_remedy() -> None:
    sub, host = FastAPI(), FastAPI()
    sub.include_router(Mounted().router)
    host.mount("/ai", sub)
    async with serve_host(host) as client:
        problem = (await client.get("/ai/v1/generations")).json()
    assert (problem["status"], problem["code"]) == (500, "setup_error")
    assert "sub.router.lifespan_context(sub)" in problem["detail"]
    for way_of_a_test in ("with TestClient(app)", "ASGITransport inside: async with app.router.lifespan_context(app)"):
        assert way_of_a_test in problem["detail"]


async def test_a_router_that_is_open_on_another_event_loop_is_refused_there() -> None:
    app = create_host(("/llm", Mounted().router))

    async def enter() -> None:
        async with app.router.lifespan_context(app):
            """Never reached while the first loop has it."""

    async with app.router.lifespan_context(app):
        with pytest.raises(SetupError, match="another event loop"):
            await asyncio.to_thread(asyncio.run, enter())
    await asyncio.to_thread(asyncio.run, enter())


async def test_the_hosts_default_response_class_does_not_change_our_wire() -> None:
    app = FastAPI(default_response_class=HTMLResponse)
    app.include_router(Mounted().router)
    async with serve_host(app) as client:
        created = await client.put("/v1/streams/job", json={"metadata": {"a": "\u00e9"}})
    assert created.headers["content-type"] == "application/json"
    assert created.json()["metadata"] == {"a": "\u00e9"}


def test_a_host_may_be_tested_repeatedly_by_the_usual_client() -> None:
    mounted = Mounted()
    app = create_host(("/llm", mounted.router))
    for _ in range(2):
        with TestClient(app) as client:
            assert client.put("/llm/v1/streams/job", json={}).status_code == 201
            assert client.get("/llm/v1/streams/job").json()["viewers"] == 0
        mounted.world.clear()
    assert mounted.opened == 2


# ------------------------------------------------------------------------------------------------- what it documents


def test_the_hosts_document_has_our_routes_and_no_reference_leads_nowhere() -> None:
    document = create_host(("/llm", Mounted().router), ("/two", Mounted().router)).openapi()
    ours = {f"{prefix}/v1/streams/{{stream_id}}/events" for prefix in ("/llm", "/two")}
    assert ours | {"/hello/{number}"} <= set(document["paths"])
    references = list(_references(document))
    assert "#/components/schemas/GenerationState" in references
    for reference in references:
        found = document
        for step in reference.removeprefix("#/").split("/"):
            found = found[step]
    operations = [each for path in document["paths"].values() for each in path.values()]
    ids = [operation["operationId"] for operation in operations]
    tables = (generations.routes, streams.routes, feeds.routes, *SURFACES)
    documented = [row for rows in tables for row in rows if row.options.get("include_in_schema", True)]
    assert len(ids) == len(set(ids)) == 1 + 2 * len(documented)


def test_responses_that_only_our_own_app_gives_are_not_documented_in_anothers() -> None:
    document = create_host(("/llm", Mounted().router)).openapi()
    text = str(document)
    assert "forbidden_origin" not in text
    assert "components/schemas/Problem" not in text
    responses = document["paths"]["/llm/v1/streams/{stream_id}"]["get"]["responses"]
    schema = responses["404"]["content"][MEDIA_TYPE]["schema"]
    assert schema["properties"]["code"]["enum"] == ["unknown_stream"]
    assert "422" not in responses


def _references(tree: object):
    if isinstance(tree, dict):
        if isinstance(tree.get("$ref"), str):
            yield tree["$ref"]
        for branch in tree.values():
            yield from _references(branch)
    elif isinstance(tree, list):
        for branch in tree:
            yield from _references(branch)


# --------------------------------------------------------------------------------------------------- what is made when


async def test_no_request_has_to_wait_until_the_routes_are_made() -> None:
    app = create_host(("/llm", Mounted().router))
    async with app.router.lifespan_context(app):
        first, second = _calls_to_match(app), _calls_to_match(app)
    assert first < 2 * second


def _calls_to_match(app: FastAPI) -> int:
    """How many Python functions are called until the app knows that no route has this path."""
    calls = 0

    def count(_frame: FrameType, event: str, _argument: object) -> None:
        nonlocal calls
        calls += event == "call"

    scope = {"type": "http", "method": "GET", "path": "/none", "root_path": "", "query_string": b"", "headers": []}
    sys.setprofile(count)
    try:
        assert all(route.matches(dict(scope))[0] is Match.NONE for route in app.routes)
    finally:
        sys.setprofile(None)
    return calls
