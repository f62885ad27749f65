"""Every error is a problem document: a stable code, the right status, a place, and nothing of our insides."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx2
import pytest
from fastapi import FastAPI
from starlette.types import Message, Receive, Scope, Send
from structlog.testing import capture_logs

from broadcaster import errors
from broadcaster.settings import Settings
from broadcaster.web.app import create_app
from broadcaster.web.documents.problem_table import PROBLEMS
from broadcaster.web.documents.problems import MEDIA_TYPE, UnexpectedErrors, error_response
from broadcaster.web.services import Services
from tests.support.memory.memory_world import MemoryWorld
from tests.support.servers.front_end import in_process
from tests.web.conftest import MAX_BODY_BYTES

GOOD = {"prompt": "why?"}
JSON = {"content-type": "application/json"}


def problem(response: httpx2.Response) -> dict[str, Any]:
    """The response's document, with what must hold for every one of them."""
    document: dict[str, Any] = response.json()
    row = PROBLEMS[document["code"]]
    assert response.headers["content-type"] == MEDIA_TYPE
    assert response.headers["x-request-id"]
    assert document["type"] == f"about:blank#{document['code']}"
    assert document["title"] == row.title
    assert document["status"] == response.status_code
    assert document["retry"] is row.retry
    assert ("retry-after" in response.headers) is row.retry
    assert isinstance(document["detail"], str)
    return document


# They end a generation, and are reported in its stream.
OF_WORKERS = (errors.UnknownTool, errors.ToolOutcomeUnknown)


def leaves(tree: type[errors.BroadcasterError]) -> Iterator[type[errors.BroadcasterError]]:
    """The errors that a front-end may meet; the command line and the client have some of their own."""
    if tree.__module__ in ("broadcaster.errors", "broadcaster.web.documents.problems") and tree not in OF_WORKERS:
        yield tree
    for branch in tree.__subclasses__():
        yield from leaves(branch)


@pytest.mark.parametrize("error", list(leaves(errors.BroadcasterError)))
def test_every_error_of_the_tree_has_its_row_in_the_table(error: type[errors.BroadcasterError]) -> None:
    row = PROBLEMS[error.code]
    assert (row.status, row.retry) == (error.status, error.retry)
    assert error_response(error("what happened")).status_code == error.status


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({}, "#"),
        ({"prompt": "a", "messages": [{"role": "user", "content": "b"}]}, "#"),
        ({"prompt": ""}, "#/prompt"),
        ({"prompt": 5}, "#/prompt"),
        ({"messages": []}, "#/messages"),
        ({"messages": [{"role": "robot", "content": "a"}]}, "#/messages/0/role"),
        ({"messages": [{"role": "user"}]}, "#/messages/0/content"),
        ({"messages": [{"role": "user", "content": 5}]}, "#/messages/0/content"),
        ({"messages": [{"role": "user", "content": [{"text": "a"}]}]}, "#/messages/0/content/0/type"),
        ({"messages": [{"role": "user", "content": "a", "name": "b"}]}, "#/messages/0/name"),
        (GOOD | {"max_tokens": 0}, "#/max_tokens"),
        (GOOD | {"max_tokens": "5"}, "#/max_tokens"),
        (GOOD | {"max_tokens": True}, "#/max_tokens"),
        (GOOD | {"temperature": 3}, "#/temperature"),
        (GOOD | {"metadata": []}, "#/metadata"),
        (GOOD | {"on_abandon": "wait"}, "#/on_abandon"),
        (GOOD | {"retention_s": 0}, "#/retention_s"),
        (GOOD | {"wish/1~": 1}, "#/wish~11~0"),
        ([], "#"),
        ("text", "#"),
    ],
)
async def test_a_body_that_does_not_fit_is_refused_with_a_pointer_to_the_fault(
    client: httpx2.AsyncClient, body: object, pointer: str
) -> None:
    response = await client.post("/v1/generations", json=body)
    document = problem(response)
    assert (response.status_code, document["code"]) == (400, "invalid_request")
    assert pointer in [fault.get("pointer") for fault in document["errors"]]


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"",
        b"\xff\xfe",
        b'{"prompt": "a", "temperature": NaN}',
        b'{"prompt": "a", "metadata": {"a": Infinity}}',
        b'{"prompt": "a", "metadata": {"a": "\\ud800"}}',
        b'{"prompt": "\\udfff"}',
        b'{"prompt": "a", "metadata": {"a": ' + b"[" * 1500 + b"]" * 1500 + b"}}",
    ],
)
async def test_a_body_that_cannot_be_kept_is_refused(client: httpx2.AsyncClient, body: bytes) -> None:
    document = problem(await client.post("/v1/generations", content=body, headers=JSON))
    assert document["code"] == "invalid_request"


async def test_a_faulty_value_that_should_be_no_word_of_a_list_is_never_echoed(client: httpx2.AsyncClient) -> None:
    secret = "sk-do-not-show-me"
    response = await client.post("/v1/generations", json={"prompt": "a", "model": {"key": secret}, secret[:2]: 1})
    assert problem(response)["code"] == "invalid_request"
    assert secret not in response.text


async def test_a_list_of_faults_is_left_at_the_first_and_few_unknown_fields_are_listed(
    client: httpx2.AsyncClient,
) -> None:
    faults = problem(await client.post("/v1/generations", json={"messages": [{}] * 50}))["errors"]
    assert {fault["pointer"] for fault in faults} == {"#/messages/0/role", "#/messages/0/content"}
    unknown = problem(await client.post("/v1/generations", json={"prompt": "a", **{f"x{at}": 1 for at in range(90)}}))
    assert [fault["pointer"] for fault in unknown["errors"]] == [f"#/x{at}" for at in range(20)]


@pytest.mark.parametrize(
    ("method", "path", "code"),
    [
        ("GET", "/v1/generations/gen_unknown", "unknown_stream"),
        ("GET", "/v1/generations/{bad id}", "unknown_stream"),
        ("GET", "/v1/generations/gen_unknown?wait_s=-1", "invalid_request"),
        ("GET", "/v1/generations/gen_unknown?wait_s=nan", "invalid_request"),
        ("GET", "/v1/generations/gen_unknown?wait_s=soon", "invalid_request"),
        ("POST", "/v1/generations/gen_unknown/stop", "unknown_stream"),
        ("GET", "/v1/streams/gen_unknown/events", "unknown_stream"),
        ("GET", "/v1/streams/gen_unknown/events?after=5", "bad_cursor"),
        ("GET", "/v1/streams/gen_unknown/events?after=1-01", "bad_cursor"),
        ("GET", "/v1/streams/gen_unknown/events?dialect=morse", "unknown_dialect"),
        ("GET", "/v2/generations", "not_found"),
        ("GET", "/v1/generations/", "not_found"),
        ("GET", "/console/../app.py", "not_found"),
        ("PATCH", "/healthz", "method_not_allowed"),
        ("DELETE", "/v1/generations", "method_not_allowed"),
    ],
)
async def test_every_wrong_request_has_its_code(client: httpx2.AsyncClient, method: str, path: str, code: str) -> None:
    response = await client.request(method, path)
    document = problem(response)
    assert (document["code"], response.status_code) == (code, PROBLEMS[code].status)


async def test_a_wrong_method_receives_the_allowed_ones(client: httpx2.AsyncClient) -> None:
    response = await client.delete("/v1/generations/gen_1/stop")
    assert response.status_code == 405
    assert response.headers["allow"] == "POST"


async def test_a_bad_parameter_is_named_with_the_part_it_is_in(client: httpx2.AsyncClient) -> None:
    (fault,) = problem(await client.get("/v1/generations/gen_1?wait_s=soon"))["errors"]
    assert (fault["in"], fault["name"]) == ("query", "wait_s")
    (fault,) = problem(await client.post("/v1/generations", json=GOOD, headers={"idempotency-key": "k" * 257}))[
        "errors"
    ]
    assert (fault["in"], fault["name"]) == ("header", "Idempotency-Key".lower())


async def test_a_model_that_no_route_serves_is_unknown(client: httpx2.AsyncClient) -> None:
    document = problem(await client.post("/v1/generations", json=GOOD | {"model": "no-such-model"}))
    assert document["code"] == "unknown_model"
    assert "no-such-model" not in document["detail"]
    assert "GET /v1/models" in document["detail"]


async def test_an_announced_body_over_the_limit_is_refused_unread(client: httpx2.AsyncClient) -> None:
    response = await client.post("/v1/generations", json={"prompt": "a" * MAX_BODY_BYTES})
    assert problem(response)["code"] == "body_too_large"


async def test_an_unannounced_body_over_the_limit_is_refused_when_it_crosses_it(
    live_client: httpx2.AsyncClient,
) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(4):
            yield b" " * (MAX_BODY_BYTES // 2)

    response = await live_client.post("/v1/generations", content=chunks(), headers=JSON)
    assert problem(response)["code"] == "body_too_large"


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "application/jsonp", "json", ""])
async def test_a_body_of_another_type_is_refused(client: httpx2.AsyncClient, kind: str) -> None:
    response = await client.post("/v1/generations", content=b'{"prompt": "a"}', headers={"content-type": kind})
    assert problem(response)["code"] == "unsupported_media_type"


async def test_json_with_a_charset_is_json(client: httpx2.AsyncClient) -> None:
    kind = {"content-type": "Application/JSON; charset=utf-8"}
    assert (await client.post("/v1/generations", content=b'{"prompt": "a"}', headers=kind)).status_code == 202


@pytest.mark.parametrize(
    "error",
    [errors.QueueFull("full"), errors.LogUnavailable("away"), errors.SetupError("no")],
    ids=lambda error: error.code,
)
async def test_an_error_from_below_keeps_its_code(
    client: httpx2.AsyncClient, world: MemoryWorld, error: errors.BroadcasterError
) -> None:
    world.refusal = error
    document = problem(await client.post("/v1/generations", json=GOOD))
    assert (document["code"], document["detail"]) == (error.code, error.detail)


async def test_an_unexpected_error_is_logged_once_and_reported_without_its_internals(
    client: httpx2.AsyncClient, world: MemoryWorld
) -> None:
    world.refusal = ZeroDivisionError("the secret is 42")
    with capture_logs() as logged:
        response = await client.post("/v1/generations", json=GOOD)
    assert problem(response)["code"] == "internal_error"
    assert "42" not in response.text
    assert "ZeroDivision" not in response.text
    (line,) = (each for each in logged if "exc_info" in each)
    assert (line["event"], line["log_level"], line["exc_info"]) == ("request_failed", "error", world.refusal)
    assert line["request_id"] == response.headers["x-request-id"]


async def test_an_error_of_ours_outside_the_table_is_our_mistake(
    client: httpx2.AsyncClient, world: MemoryWorld
) -> None:
    class Unlisted(errors.InvalidInput):
        code = "unlisted"

    world.refusal = Unlisted("what now?")
    with capture_logs() as logged:
        assert problem(await client.post("/v1/generations", json=GOOD))["code"] == "internal_error"
    assert [line["code"] for line in logged if line["log_level"] == "error"] == ["unlisted"]


async def test_an_error_after_the_response_began_goes_on_to_the_server() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        raise ZeroDivisionError

    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    async def receive() -> Message:
        return {"type": "http.disconnect"}

    with pytest.raises(ZeroDivisionError):
        await UnexpectedErrors(app)({"type": "http", "method": "GET", "path": "/"}, receive, send)
    assert len(sent) == 1


async def test_being_cancelled_is_no_error() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        raise asyncio.CancelledError

    async def unused(*_: object) -> Any:
        raise AssertionError

    with capture_logs() as logged, pytest.raises(asyncio.CancelledError):
        await UnexpectedErrors(app)({"type": "http", "method": "GET", "path": "/"}, unused, unused)
    assert not logged


def test_the_openapi_document_shows_only_problems_and_every_code(app: FastAPI) -> None:
    document = app.openapi()
    schema = document["components"]["schemas"]["Problem"]
    assert schema["properties"]["code"]["enum"] == list(PROBLEMS)
    assert all(f"| `{code}` | {row.status} |" in schema["description"] for code, row in PROBLEMS.items())
    assert "HTTPValidationError" not in json.dumps(document)
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            for status, response in operation["responses"].items():
                for code, example in response.get("content", {}).get(MEDIA_TYPE, {}).get("examples", {}).items():
                    assert str(PROBLEMS[code].status) == status, (path, method, code)
                    assert example["value"]["code"] == code


async def test_the_documentation_is_served(client: httpx2.AsyncClient) -> None:
    assert (await client.get("/docs")).status_code == 200
    assert (await client.get("/openapi.json")).json()["info"]["title"] == "Broadcaster"


async def test_the_openapi_document_is_encoded_once(services: Services) -> None:
    app = create_app(Settings(), services=services)
    async with in_process(app) as client:
        first = await client.get("/openapi.json")
        assert first.json() == app.openapi()
        app.openapi = None  # type: ignore[assignment,method-assign]  # a call of it would fail
        assert (await client.get("/openapi.json")).content == first.content


def test_every_route_that_names_its_errors_names_the_limits_of_requests_and_of_json(app: FastAPI) -> None:
    operations = [each for methods in app.openapi()["paths"].values() for each in methods.values()]
    named = {each["operationId"]: set(each["responses"]) for each in operations if "500" in each["responses"]}
    assert len(named) > len(operations) - 5  # some APIs of SDKs have one shape for all errors
    assert not {id for id, statuses in named.items() if not statuses >= {"429", "503"}}
    listed = app.openapi()["paths"]["/v1/streams"]["get"]["responses"]
    assert {"rate_limited", "tenant_limit"} <= listed["429"]["content"][MEDIA_TYPE]["examples"].keys()
    assert "busy" in listed["503"]["content"][MEDIA_TYPE]["examples"]
