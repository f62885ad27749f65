"""What an SDK's API has and this server has not: the SDK reads the refusal as one of its own."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

import anthropic
import httpx2
import openai
import pytest

from tests.support.servers.front_end import DEADLINE_S
from tests.web.surfaces.calls import REQUEST

HI: Any = [{"role": "user", "content": "Hi"}]
OfOpenAI: TypeAlias = Callable[[openai.AsyncOpenAI], Awaitable[object]]
CALLS: list[tuple[str, OfOpenAI]] = [
    ("/v1/chat/completions", lambda sdk: sdk.chat.completions.create(model="local", messages=HI)),
    ("/v1/responses", lambda sdk: sdk.responses.create(model="local", input="Hi")),
    ("/v1/embeddings", lambda sdk: sdk.embeddings.create(model="local", input="Hi")),
    ("/v1/completions", lambda sdk: sdk.completions.create(model="local", prompt="Hi")),
    ("/v1/models", lambda sdk: sdk.get("/models", cast_to=object)),
]
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


@pytest.mark.parametrize("wrong", ["", "/v1/v1"])
@pytest.mark.parametrize(("path", "call"), CALLS, ids=[path for path, _ in CALLS])
async def test_openais_sdk_with_a_wrong_base_url_names_the_right_path(
    live_client: httpx2.AsyncClient, *, path: str, call: OfOpenAI, wrong: str
) -> None:
    url = str(live_client.base_url).rstrip("/") + wrong
    async with openai.AsyncOpenAI(base_url=url, api_key="any", max_retries=0, timeout=DEADLINE_S) as sdk:
        with pytest.raises(openai.NotFoundError, match=f"{path}: the base_url of OpenAI's SDKs ends with /v1"):
            await call(sdk)


@pytest.mark.parametrize("wrong", ["/v1", "/v1/v1"])
async def test_anthropics_sdk_with_a_wrong_base_url_names_the_right_path(
    live_client: httpx2.AsyncClient, wrong: str
) -> None:
    url = str(live_client.base_url).rstrip("/") + wrong
    async with anthropic.AsyncAnthropic(base_url=url, api_key="any", max_retries=0, timeout=DEADLINE_S) as sdk:
        with pytest.raises(anthropic.NotFoundError, match=r"/v1/messages: .* that of Anthropic's does not"):
            await sdk.messages.create(model="local", max_tokens=9, messages=HI)


@pytest.mark.parametrize("path", ["/v1/v1/foo", "/foo", "/v1", "/v1/v1", "/modelsx"])
async def test_a_path_that_is_near_no_other_has_no_remedy(client: httpx2.AsyncClient, path: str) -> None:
    answer = await client.get(path)
    assert answer.status_code == 404
    assert "nothing is served at this path" in answer.text
    assert "base_url" not in answer.text
