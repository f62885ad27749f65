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
