"""What an SDK's API has and this server has not: the SDK reads the refusal as one of its own."""

from __future__ import annotations

import httpx2
import pytest

from tests.web.surfaces.calls import REQUEST

RERANK = {"model": "local", "query": "Hi"}
UNSERVED = [
    ("POST", "/v1/rerank", 404),
    ("POST", "/v1/foo", 404),
    ("GET", "/v1", 404),
    ("DELETE", "/v1/models", 405),
    ("PUT", "/v1/chat/completions", 405),
]


@pytest.mark.parametrize(("method", "path", "status"), UNSERVED)
async def test_an_unserved_path_or_method_is_refused_in_the_shape_of_the_openai_api(
    client: httpx2.AsyncClient, *, method: str, path: str, status: int
) -> None:
    answer = await client.request(method, path, json=RERANK)
    assert answer.status_code == status
    error = answer.json()["error"]
    assert (error["type"], error["param"]) == ("invalid_request_error", None)
    assert error["code"] in ("not_found", "method_not_allowed")
    assert answer.headers["x-should-retry"] == "false"


@pytest.mark.parametrize("header", [{"anthropic-version": "2023-06-01"}, {"x-api-key": "any"}], ids=str)
async def test_a_client_of_anthropics_api_is_refused_in_its_shape(
    client: httpx2.AsyncClient, header: dict[str, str]
) -> None:
    answer = await client.post("/v1/complete", json={"messages": REQUEST}, headers=header)
    assert answer.status_code == 404
    assert (answer.json()["type"], answer.json()["error"]["type"]) == ("error", "not_found_error")


@pytest.mark.parametrize("path", ["/v1/generations/x/foo", "/v1/streams", "/foo", "/v10/foo"])
async def test_paths_of_our_own_and_of_no_api_answer_with_a_problem(client: httpx2.AsyncClient, path: str) -> None:
    answer = await client.delete(path)
    assert answer.headers["content-type"] == "application/problem+json"
