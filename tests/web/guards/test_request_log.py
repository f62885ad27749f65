"""Each request has one line, whatever becomes of it, and the line holds nothing that could forge another."""

from __future__ import annotations

import asyncio
import json
from collections import Counter

import httpx2
import pytest
from fastapi import FastAPI
from structlog.testing import capture_logs

from broadcaster.observability.lines import showable
from broadcaster.web.guards.request_log import showable_caller
from broadcaster.web.services import Services
from tests.support.memory.memory_world import MemoryWorld
from tests.support.servers.front_end import DEADLINE_S, in_process, listen, own_app, served

LINES = ("request_ended", "request_refused", "viewer_ended")


async def line_of(client: httpx2.AsyncClient, method: str, path: str, *, status: int, **request: object) -> dict:
    """The one line of this request."""
    with capture_logs() as logged:
        response = await client.request(method, path, **request)  # type: ignore[arg-type]
        async with asyncio.timeout(DEADLINE_S):  # a line is written when the whole response is sent
            while not (found := [line for line in logged if line["event"] in LINES]):
                await asyncio.sleep(0.005)
    assert response.status_code == status, response.text
    assert len(found) == 1, logged
    return dict(found[0])


@pytest.fixture
def app(services: Services) -> FastAPI:
    return own_app(services, log_refusals_per_s=1000)


@pytest.fixture(autouse=True)
def _structured(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in our own processes: without a set-up, lines go to ``logging``, where no test sees their fields."""
    monkeypatch.setattr("structlog.is_configured", lambda: True)


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        ("/nothing", "/nothing"),
        ("/nothing?token=secret", "/nothing"),
        ("/" + "x" * 5000, "/" + "x" * 99),
        ("/forged%0A%7B%22event%22%3A1%7D", None),
        ("/forged%1B%5B2J", None),
        ("/a%20line", None),
    ],
)
async def test_a_path_that_no_route_matches_is_cut_and_can_forge_nothing(
    client: httpx2.AsyncClient, path: str, shown: str | None
) -> None:
    line = await line_of(client, "GET", path, status=404)
    assert (line["code"], line.get("path")) == ("not_found", shown)


@pytest.mark.parametrize("name", ["a\nb", "x" * 129, "a b", "", "ä", '"', 5, None])
def test_a_name_of_another_form_is_left_out(name: object) -> None:
    assert showable(name) is None


@pytest.mark.parametrize("name", ["the dashboard", "auth0|1", "a@b.c", "x" * 64, "web (2027)", "a=b;c, d~"])
def test_the_name_of_a_caller_is_shown(name: str) -> None:
    assert showable_caller(name) == name


@pytest.mark.parametrize(
    "name", ["", "a\nb", "a\n", "a\tb", "a\x1b[2J", "a\x7f", "\u00e4", 'a"b', "a'b", "a\\b", "x" * 65]
)
def test_the_name_of_a_caller_that_could_end_its_field_is_left_out(name: str) -> None:
    assert showable_caller(name) is None


async def test_the_line_of_a_request_names_the_key_that_has_a_name_with_spaces(services: Services) -> None:
    key = "a-key-of-a-caller-0123"
    keys = json.dumps({"web": [{"key": key, "name": "the dashboard"}]})
    async with in_process(own_app(services, auth="keys", api_keys=keys)) as client:
        line = await line_of(client, "GET", "/v1/streams/gen_1", status=404, headers={"authorization": f"Bearer {key}"})
    assert line["caller"] == "the dashboard"


async def test_the_stream_in_a_path_is_named_only_in_a_harmless_form(client: httpx2.AsyncClient) -> None:
    line = await line_of(client, "GET", "/v1/generations/gen_1%0Aforged", status=404)
    assert "stream" not in line
    assert line["operation"] == "get_generation"


@pytest.mark.parametrize(
    ("code", "level", "request_"),
    [
        ("invalid_request", "info", ("POST", "/v1/generations", 400)),
        ("invalid_request", "info", ("POST", "/v1/messages", 400)),
        ("unsupported_media_type", "info", ("POST", "/v1/chat/completions", 415)),
    ],
)
async def test_a_refusal_names_our_code_in_whatever_shape_it_is_sent(
    client: httpx2.AsyncClient, code: str, level: str, request_: tuple[str, str, int]
) -> None:
    method, path, status = request_
    body = {"content": b"x", "headers": {"content-type": "text/plain"}} if status == 415 else {"json": {"a": 1}}
    line = await line_of(client, method, path, status=status, **body)
    assert (line["event"], line["code"], line["log_level"]) == ("request_refused", code, level)


async def test_a_client_that_leaves_before_its_whole_answer_is_not_refused(app: FastAPI, services: Services) -> None:
    body = {"model": "local", "messages": [{"role": "user", "content": "Hi"}]}
    heads_before = Counter(app.state.request_counts.heads)
    async with served(app, services) as client, asyncio.timeout(DEADLINE_S):
        with capture_logs() as logged:
            calling = asyncio.create_task(client.post("/v1/chat/completions", json=body))
            while not services.hub.statistics().viewers:  # the answer is waited for
                await asyncio.sleep(0.001)
            calling.cancel()
            while not (found := [line for line in logged if line["event"] in LINES]):
                await asyncio.sleep(0.001)
    assert [(line["event"], line["status"], line["log_level"]) for line in found] == [("request_ended", 499, "info")]
    assert app.state.request_counts.heads - heads_before == {("openai-chat", "499"): 1}


async def test_a_viewer_that_is_sent_away_is_a_refusal_with_a_warning(services: Services, world: MemoryWorld) -> None:
    world.add("gen_1")
    app = own_app(services)
    with capture_logs() as logged:
        async with served(app, services) as http:
            await services.hub.drain(window_s=0)
            received = await listen(http, "/v1/streams/gen_1/events")
    assert received.names == ["hub.bye"]
    (line,) = [line for line in logged if line["event"] in LINES]
    assert (line["event"], line["code"], line["status"], line["log_level"]) == (
        "request_refused",
        "drain",
        200,
        "warning",
    )


async def test_an_unexpected_error_is_a_refusal_beside_its_traceback(
    services: Services, world: MemoryWorld, live_client: httpx2.AsyncClient
) -> None:
    world.refusal = RuntimeError("a defect")
    line = await line_of(live_client, "POST", "/v1/generations", status=500, json={"prompt": "x"})
    assert (line["code"], line["log_level"]) == ("internal_error", "warning")
