"""The error shape of the OpenAI surfaces, as a pure function and through the SDK's own classes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import httpx2
import openai
import pytest

from broadcaster.web.documents.problem_table import PROBLEMS, ProblemType
from broadcaster.web.surfaces.openai_errors import SHOULD_RETRY_HEADER, openai_error, param_of


def problem(code: str, **changes: Any) -> dict[str, Any]:
    row = PROBLEMS[code]
    return {"status": row.status, "code": code, "detail": row.example, "retry": row.retry, **changes}


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("invalid_request", openai.BadRequestError),
        ("unauthorized", openai.AuthenticationError),
        ("forbidden_host", openai.PermissionDeniedError),
        ("unknown_model", openai.NotFoundError),
        ("unknown_stream", openai.NotFoundError),
        ("idempotency_mismatch", openai.UnprocessableEntityError),
        ("rate_limited", openai.RateLimitError),
        ("queue_full", openai.InternalServerError),
        ("internal_error", openai.InternalServerError),
    ],
)
def test_the_sdk_raises_the_class_of_the_problem(code: str, expected: type[openai.APIStatusError]) -> None:
    status, body, headers = openai_error(problem(code))

    raised = _raised(status, body, headers)

    assert type(raised) is expected
    assert raised.code == body["error"]["code"]
    assert raised.type == body["error"]["type"]


def test_the_codes_that_programs_branch_on_have_the_apis_own_values() -> None:
    texts = {
        code: openai_error(problem(code)).body["error"]["code"]
        for code in ("unknown_model", "unauthorized", "rate_limited")
    }

    assert texts == {
        "unknown_model": "model_not_found",
        "unauthorized": "invalid_api_key",
        "rate_limited": "rate_limit_exceeded",
    }
    assert openai_error(problem("unknown_model")).body["error"]["param"] == "model"


@pytest.mark.parametrize(("code", "row"), PROBLEMS.items())
def test_every_problem_states_whether_a_retry_is_of_use(code: str, row: ProblemType) -> None:
    status, body, headers = openai_error(problem(code))

    assert headers[SHOULD_RETRY_HEADER] == ("true" if row.retry else "false")
    assert set(body["error"]) == {"message", "type", "param", "code"}
    assert 400 <= status < 600


@pytest.mark.parametrize(
    ("pointer", "param"),
    [("#/messages/0/role", "messages[0].role"), ("#/tools/2", "tools[2]"), ("#/a~1b/c~0d", "a/b.c~d"), ("#", None)],
)
def test_a_pointer_becomes_the_name_of_a_parameter(pointer: str, param: str | None) -> None:
    assert param_of(pointer) == param


def test_the_first_fault_is_the_param() -> None:
    faults = [{"in": "body", "pointer": "#/n", "detail": "…"}, {"in": "query", "name": "limit", "detail": "…"}]

    assert openai_error(problem("invalid_request", errors=faults)).body["error"]["param"] == "n"
    assert openai_error(problem("invalid_request", errors=faults[1:])).body["error"]["param"] == "limit"
    assert openai_error(problem("invalid_request", errors=[])).body["error"]["param"] is None


def _raised(status: int, body: Any, headers: Mapping[str, str]) -> openai.APIStatusError:
    transport = httpx2.MockTransport(lambda _: httpx2.Response(status, json=body, headers=headers))
    client = openai.OpenAI(
        api_key="k", base_url="http://surface/v1", max_retries=0, http_client=httpx2.Client(transport=transport)
    )
    with pytest.raises(openai.APIStatusError) as raised:
        client.models.list()
    return raised.value
