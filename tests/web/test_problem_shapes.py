"""Problems leave a surface's paths in its own shape, wherever they arose; everything else stays as it is."""

from __future__ import annotations

from typing import Any

import httpx2
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from broadcaster.errors import QueueFull, UnknownModel
from broadcaster.web.documents.problem_shapes import ShapedError, ShapedProblems, is_below, reshape
from broadcaster.web.documents.problems import MEDIA_TYPE, error_response
from tests.support.memory.memory_world import MemoryWorld, memory_services
from tests.support.servers.front_end import in_process, own_app


def shape(problem: Any) -> ShapedError:
    return ShapedError(418, {"said": problem["code"], "of": problem["status"]}, {"x-own": "1"})


async def busy(_: Request) -> Response:
    return error_response(QueueFull("full"))


async def in_pieces(_: Request) -> Response:
    body = bytes(error_response(UnknownModel("none")).body)
    return StreamingResponse(iter([body[:5], body[5:]]), status_code=400, media_type=MEDIA_TYPE)


async def fine(_: Request) -> Response:
    return JSONResponse({"code": "fine"})


@pytest.fixture
def client() -> httpx2.AsyncClient:
    app = Starlette(
        routes=[
            Route(f"/{name}", each)
            for name, each in (("own", busy), ("own/a", in_pieces), ("own/b", fine), ("owner", busy))
        ]
    )
    shaped = ShapedProblems(app, shape_of=lambda path, headers: shape if is_below(path, "/own") else None)
    return httpx2.AsyncClient(transport=httpx2.ASGITransport(app=shaped), base_url="http://here")


async def test_a_problem_below_the_path_has_its_shape_and_keeps_its_retry_delay(client):
    answer = await client.get("/own")
    assert (answer.status_code, answer.json()) == (418, {"said": "queue_full", "of": 503})
    assert (answer.headers["content-type"], answer.headers["x-own"]) == ("application/json", "1")
    assert answer.headers["retry-after"] == "1"
    assert answer.headers["cache-control"] == "no-store"


async def test_a_problem_that_comes_in_pieces_is_held_until_it_is_whole(client):
    assert (await client.get("/own/a")).json() == {"said": "unknown_model", "of": 400}


@pytest.mark.parametrize(("path", "code"), [("/own/b", "fine"), ("/owner", "queue_full")])
async def test_a_response_that_is_not_a_problem_or_lies_elsewhere_stays_as_it_is(client, path, code):
    assert (await client.get(path)).json()["code"] == code


def test_a_response_is_reshaped_only_if_it_is_a_problem() -> None:
    plain = JSONResponse({"a": 1})
    assert reshape(plain, shape) is plain
    assert reshape(error_response(QueueFull("full")), shape).status_code == 418


def _calls(role: object) -> dict[str, dict[str, Any]]:
    """On each surface a request whose only message has this role."""
    message = {"role": role, "content": "hi"}
    run = {"threadId": "t", "runId": "r", "tools": [], "context": [], "state": {}, "forwardedProps": {}}
    return {
        "/v1/generations": {"messages": [message]},
        "/v1/chat/completions": {"model": "local", "messages": [message]},
        "/v1/messages": {"model": "local", "max_tokens": 9, "messages": [message]},
        "/v1/responses": {"model": "local", "input": [message]},
        "/api/chat": {"id": "c", "messages": [{"id": "1", "role": role, "parts": [{"type": "text", "text": "hi"}]}]},
        "/agui": {**run, "messages": [{"id": "1", **message}]},
    }


@pytest.mark.parametrize("path", _calls(None))
async def test_on_every_surface_a_wrong_role_is_named_with_its_place_and_the_allowed_ones(path: str) -> None:
    async with memory_services(MemoryWorld()) as services, in_process(own_app(services)) as client:
        for role, named in (("robot", "'robot'"), ("x" * 5000, f"'{'x' * 80}…'"), ("robot\n", r"'robot\\n'")):
            response = await client.post(path, json=_calls(role)[path])
            assert response.status_code == 400
            for each in (named, "role: ", "user", "assistant", "system"):
                assert each in response.text
            assert "x" * 81 not in response.text
        for hidden in (7, {"key": "sk-secret"}, ["sk-secret"]):
            response = await client.post(path, json=_calls(hidden)[path])
            assert response.status_code == 400
            assert "sk-secret" not in response.text


async def test_a_message_of_a_run_without_a_role_is_refused_at_that_field() -> None:
    body = {**_calls("user")["/agui"], "messages": [{"id": "1"}]}
    async with memory_services(MemoryWorld()) as services, in_process(own_app(services)) as client:
        response = await client.post("/agui", json=body)
    assert response.json() == {"error": "body #/messages/0/role: Field required", "code": "invalid_request"}
