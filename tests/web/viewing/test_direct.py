"""A viewer that is admitted directly gets what the route answers; all other requests are answered by the route."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from typing import Annotated, Any

import httpx2
import pytest
from fastapi import Cookie, FastAPI, HTTPException

from broadcaster.core.events import Finish, TextDelta
from broadcaster.settings import Settings
from broadcaster.web.app import create_app
from broadcaster.web.route_table import MountedRoute
from broadcaster.web.services import Services, drain
from tests.support.apps.mounting import Mounted, create_host, serve_host
from tests.support.memory.memory_world import EPOCH, MemoryWorld
from tests.support.servers.front_end import DEADLINE_S, in_process, listen, own_app, served
from tests.support.whole_answers import Answered, fetch, fetch_over, scope_of

MINE, OTHERS = "the-key-of-mine-0", "the-key-of-others"
KEYED = Settings.model_validate({"auth": "keys", "api_keys": json.dumps({"local": [MINE], "others": [OTHERS]})})
URL = "/v1/streams/{}/events"
END = f"{EPOCH}-3"
# What changes nothing, but must be read.
HARMLESS = ("?dialect=native", "?replay=events", "?nobody=knows-this")


@pytest.fixture
def world() -> MemoryWorld:
    world = MemoryWorld()
    for id in ("gen_run", "gen_end", "gen_gone", "feed €%", "a" * 300):
        world.add(id, kind="feed" if id.startswith("feed") else "generation")
        world.append(id, TextDelta(id="0", delta="a"), TextDelta(id="0", delta="b"))
    world.append("gen_end", Finish())
    world.append("gen_gone", Finish())
    world.expire("gen_gone")
    world.add("feed", kind="feed", status="running")
    return world


@pytest.fixture
async def keyed(services: Services) -> AsyncIterator[httpx2.AsyncClient]:
    async with served(own_app(services, KEYED), services) as client:
        yield client


async def compare(
    client: httpx2.AsyncClient,
    taken: list[str],
    id: str,
    headers: Mapping[str, bytes] | None = None,
    *,
    is_taken: bool,
) -> Answered:
    """The answer, which is the same both ways: by the route, and directly, for the first viewer and for others."""
    url = URL.format(id)
    plain = await fetch(client, url, headers)
    for query in HARMLESS:
        assert await fetch(client, url + query, headers) == plain, query
    assert len(taken) == is_taken
    for _ in range(2):
        assert await fetch(client, url, headers) == plain
    assert len(taken) == 3 * is_taken
    return plain


@pytest.mark.parametrize(
    ("id", "cursor", "status", "holds", "is_taken"),
    [
        ("gen_run", None, 200, "event: hub.live", True),
        ("gen_run", f"{EPOCH}-1".encode(), 200, f"id: {EPOCH}-2\n", True),
        ("gen_run", b"9-99", 200, "event: hub.", True),
        ("feed", None, 200, "event: hub.live", True),
        ("gen_end", None, 200, '"type":"finish"', True),
        ("gen_end", b"", 200, f"id: {EPOCH}-1\n", True),
        ("gen_end", f"{EPOCH}-2".encode(), 200, '"type":"finish"', True),
        ("gen_end", END.encode(), 204, "", False),
        ("gen_gone", None, 200, "event: hub.gap", False),
        ("gen_gone", END.encode(), 204, "", False),
        ("gen_run", b"yesterday", 400, '"bad_cursor"', False),
        ("gen_run", b"1-1, 1-2", 400, '"bad_cursor"', False),
        ("gen_run", b"\xff\xfe\xe9", 400, '"bad_cursor"', False),
        ("gen_run", b"1-\xb2", 400, '"bad_cursor"', False),
        ("nobody", None, 404, '"unknown_stream"', False),
        ("nobody", b"yesterday", 400, '"bad_cursor"', False),
        ("%67en_run", None, 200, "event: hub.live", False),
        ("feed%20%E2%82%AC%25", None, 200, "event: hub.live", False),
        ("a" * 300, None, 200, "event: hub.live", True),
        ("gen_run%00", None, 404, '"unknown_stream"', False),
        ("%FF%FE", None, 404, '"unknown_stream"', False),
        ("gen_run;a=b", None, 404, '"unknown_stream"', False),
        ("%3Fdialect=native", None, 404, '"unknown_stream"', False),
    ],
)
async def test_a_viewer_gets_directly_what_the_route_answers(
    live_client: httpx2.AsyncClient,
    taken: list[str],
    id: str,
    cursor: bytes | None,
    status: int,
    holds: str,
    is_taken: bool,
) -> None:
    headers = {} if cursor is None else {"last-event-id": cursor}
    answered = await compare(live_client, taken, id, headers, is_taken=is_taken)
    assert answered.status == status
    assert holds in answered.body


@pytest.mark.parametrize("id", ["gen_run", "gen_end", "nobody"])
async def test_a_front_end_that_drains_responds_the_same_either_way(
    live_client: httpx2.AsyncClient, services: Services, taken: list[str], id: str
) -> None:
    await drain(services)
    answered = await compare(live_client, taken, id, is_taken=False)
    assert answered.status == (404 if id == "nobody" else 200)
    assert ("event: hub.bye" in answered.body) is (id != "nobody")


@pytest.mark.parametrize("id", ["gen_run", "gen_end", "nobody"])
async def test_a_log_that_does_not_answer_is_reported_the_same_either_way(
    live_client: httpx2.AsyncClient, world: MemoryWorld, taken: list[str], id: str
) -> None:
    world.away = True
    answered = await compare(live_client, taken, id, is_taken=False)
    assert answered.status == 200
    assert '"reason":"log_unavailable"' in answered.body


async def test_an_unexpected_error_is_the_same_500_either_way(
    live_client: httpx2.AsyncClient, services: Services, taken: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def look_up(stream_id: str, *, tenant: str) -> Any:
        raise RuntimeError("a defect")

    monkeypatch.setattr(services.feeds, "get", look_up)
    assert (await compare(live_client, taken, "gen_run", is_taken=False)).status == 500


async def test_an_app_that_was_never_opened_reports_that() -> None:
    """Its lifespan has not run."""
    app = create_app(Settings())
    async with in_process(app) as client:
        plain = await fetch_over(client, URL.format("gen_run"))
    assert (plain.status, json.loads(plain.body)["code"]) == (500, "setup_error")
    assert app.state.direct.judge(scope_of(URL.format("gen_run"))) is None


@pytest.mark.parametrize(
    ("id", "headers", "status", "code"),
    [
        ("gen_end", {}, 401, "unauthorized"),
        ("gen_end", {"x-api-key": b"nobody-has-this-key"}, 401, "unauthorized"),
        ("gen_end", {"x-api-key": b"\xff\xfe"}, 401, "unauthorized"),
        ("gen_end", {"authorization": f"Bearer {OTHERS}".encode()}, 404, "unknown_stream"),
        ("gen_end", {"x-api-key": MINE.encode()}, 200, None),
        ("gen_run", {"x-api-key": MINE.encode()}, 200, None),
        ("gen_run", {}, 401, "unauthorized"),
        ("gen_run", {"x-api-key": OTHERS.encode()}, 404, "unknown_stream"),
        ("gen_end", {"x-api-key": MINE.encode(), "last-event-id": END.encode()}, 204, None),
        ("gen_end", {"x-api-key": OTHERS.encode(), "last-event-id": END.encode()}, 404, "unknown_stream"),
    ],
)
async def test_the_direct_way_is_no_way_round_the_keys(
    keyed: httpx2.AsyncClient, taken: list[str], id: str, headers: dict[str, bytes], status: int, code: str | None
) -> None:
    plain = await compare(keyed, taken, id, headers, is_taken=status == 200)
    assert plain.status == status
    assert code is None or json.loads(plain.body)["code"] == code


async def test_one_tenants_lookup_is_not_used_for_another(keyed: httpx2.AsyncClient, taken: list[str]) -> None:
    for _ in range(2):
        for key, status in ((MINE, 200), (OTHERS, 404)):
            assert (await fetch(keyed, URL.format("gen_run"), {"x-api-key": key.encode()})).status == status
    assert len(taken) == 2


# ------------------------------------------------------------------------------------------- what is left to the route


async def test_a_query_is_read_by_the_route(live_client: httpx2.AsyncClient, taken: list[str]) -> None:
    url = URL.format("gen_end")
    for query, status, holds in (
        (f"?after={END}", 204, ""),
        ("?after=yesterday", 400, '"bad_cursor"'),
        ("?dialect=nobodys", 400, '"unknown_dialect"'),
        ("?wait_s=soon", 400, '"invalid_request"'),
        ("?replay=nothing", 400, '"invalid_request"'),
    ):
        answered = await fetch(live_client, url + query)
        assert answered.status == status, query
        assert holds in answered.body, query
    assert taken == []


async def test_two_cursors_are_for_the_route_to_judge(live_client: httpx2.AsyncClient, taken: list[str]) -> None:
    url, cursors = URL.format("gen_end"), [("last-event-id", f"{EPOCH}-1"), ("last-event-id", f"{EPOCH}-2")]
    for both in (cursors, cursors[::-1]):
        async with httpx2.AsyncClient(base_url=live_client.base_url) as first:
            bare = await first.get(url, headers=both)
        response = await live_client.get(url + HARMLESS[0], headers=both)
        assert (bare.status_code, bare.text.count("id: ")) == (response.status_code, response.text.count("id: "))
    assert taken == []


@pytest.mark.parametrize("method", ["HEAD", "OPTIONS", "DELETE"])
async def test_another_method_is_not_allowed_there(
    live_client: httpx2.AsyncClient, taken: list[str], method: str
) -> None:
    answered = await fetch(live_client, URL.format("gen_end"), method=method)
    assert answered == await fetch(live_client, URL.format("gen_end") + HARMLESS[0], method=method)
    assert answered.status == 405
    assert taken == []


@pytest.mark.parametrize(
    ("framing", "status"),
    [
        (b"Content-Length: 0\r\n\r\n", 200),
        (b"Content-Length: 2\r\n\r\n{}", 200),
        (b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n", 200),
        (b"Content-Length: 99999\r\n\r\n", 413),
    ],
)
async def test_a_request_with_a_body_is_read_by_the_route(
    live_client: httpx2.AsyncClient, taken: list[str], framing: bytes, status: int
) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", live_client.base_url.port)
    writer.write(f"GET {URL.format('gen_end')} HTTP/1.1\r\nHost: localhost\r\n".encode() + framing)
    async with asyncio.timeout(DEADLINE_S):
        head = await reader.readuntil(b"\r\n\r\n")
    writer.close()
    assert int(head.split(b" ", 2)[1]) == status
    assert taken == []


# ------------------------------------------------------------------------------------------------------ in a host's app


async def test_a_mounted_router_admits_nothing_directly_and_its_guards_run(taken: list[str]) -> None:
    response: list[str] = []

    async def signed_in(stream_id: str, session: Annotated[str, Cookie()] = "") -> bool:
        response.append(session)
        if session != "good":
            raise HTTPException(401, "sign in first")
        return True

    mounted = Mounted(can_watch=signed_in)
    mounted.world.add("job", kind="feed", status="running")
    async with serve_host(create_host(("/llm", mounted.router))) as client:
        url = "/llm" + URL.format("job")
        refused = await client.get(url)
        assert (refused.status_code, refused.json()) == (401, {"host": "sign in first"})
        client.cookies.set("session", "good")
        assert (await listen(client, url, until="hub.live")).status == 200
    assert response == ["", "good"]
    assert taken == []


def shortcuts(routes: list[Any]) -> list[str]:
    return [each.path for each in routes if isinstance(each, MountedRoute) and each.shortcut is not None]


def test_an_app_of_ours_beside_a_mounted_router_leaves_it_without_shortcuts(app: FastAPI) -> None:
    """The rows are one table; the shortcut is of the route, not of the row or its class."""
    assert shortcuts(app.routes) == [URL.format("{stream_id}")]
    assert shortcuts(Mounted().router.routes) == []
