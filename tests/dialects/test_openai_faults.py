"""OpenAI errors: every code and status of theirs has one stable reason of ours."""

from typing import Any

import pytest

from broadcaster.dialects.errors import (
    AUTH,
    BAD_REQUEST,
    DENIED,
    ERROR,
    OVERLOADED,
    RATE_LIMITED,
    TIMEOUT,
    ProviderFault,
)
from broadcaster.dialects.openai.errors import fault_of, known_code, reported_failure


@pytest.mark.parametrize(
    ("status", "fault"),
    [
        (400, BAD_REQUEST),
        (401, AUTH),
        (402, DENIED),
        (403, DENIED),
        (404, BAD_REQUEST),
        (408, TIMEOUT),
        (409, ERROR),
        (413, BAD_REQUEST),
        (422, BAD_REQUEST),
        (429, RATE_LIMITED),
        (500, ERROR),
        (502, ERROR),
        (503, OVERLOADED),
        (504, TIMEOUT),
        (529, OVERLOADED),
    ],
)
def test_a_status_alone_has_its_meaning(status: int, fault: ProviderFault):
    assert fault_of(None, status=status) == fault
    assert fault_of({"message": "no words that we know", "type": "mood", "code": None}, status=status) == fault


@pytest.mark.parametrize(
    ("error", "status", "fault"),
    [
        ({"code": "insufficient_quota", "type": "insufficient_quota"}, 429, AUTH),
        ({"code": "rate_limit_exceeded", "type": "tokens"}, 429, RATE_LIMITED),
        ({"code": "invalid_api_key", "type": "invalid_request_error"}, 401, AUTH),
        ({"code": None, "type": "invalid_request_error"}, 401, AUTH),
        ({"code": "context_length_exceeded", "type": "invalid_request_error"}, 400, BAD_REQUEST),
        ({"code": "content_filter", "type": None}, 400, BAD_REQUEST),
        ({"code": None, "type": "server_error"}, 500, ERROR),
        ({"code": None, "type": "server_error"}, 503, OVERLOADED),
        ({"code": "server_overloaded", "type": "server_error"}, 500, OVERLOADED),
        ({"code": "a new one", "type": "permission_error"}, 400, DENIED),
    ],
)
def test_the_code_decides_then_the_type_then_the_status(error: dict[str, Any], status: int, fault: ProviderFault):
    assert fault_of(error, status=status) == fault


@pytest.mark.parametrize(
    ("error", "fault"),
    [
        ({"type": "server_error"}, ERROR),
        ({"type": "invalid_request_error"}, BAD_REQUEST),
        ({"code": "vector_store_timeout"}, TIMEOUT),
        ({"code": "rate_limit_exceeded", "type": "server_error"}, RATE_LIMITED),
        ({"code": "server_error", "type": "insufficient_quota"}, AUTH),
        ({"object": "error", "type": "BadRequestError", "code": 400}, BAD_REQUEST),
        ({"type": "Too many", "code": 429}, RATE_LIMITED),
        ({"code": "503"}, OVERLOADED),
        ({"code": 200}, ERROR),
        ({"code": True}, ERROR),
        ({"code": {"a": 1}, "type": ["b"]}, ERROR),
        ({}, ERROR),
        (None, ERROR),
    ],
)
def test_in_a_stream_the_error_carries_its_own_status(error: dict[str, Any] | None, fault: ProviderFault):
    assert fault_of(error) == fault
    # The stream's own status shows that the request was taken, and nothing of what came later.
    assert fault_of(error, status=200) == fault
    failure = reported_failure(error)
    assert (failure.reason, failure.retryable) == (fault.reason, fault.retryable)


@pytest.mark.parametrize(
    "error",
    [
        {"message": "secret prompt", "type": "server_error", "param": "secret", "code": None},
        {"message": "secret prompt", "type": "secret type", "code": "secret code"},
        {"message": "secret prompt", "code": 429},
        "secret prompt",
        ["secret prompt"],
        None,
    ],
)
def test_a_failure_repeats_nothing_but_known_codes(error: object):
    assert "secret" not in reported_failure(error).detail


def test_a_failure_names_the_code_that_decided():
    assert reported_failure({"code": "rate_limit_exceeded", "type": "tokens"}).detail == (
        "the provider's rate limit is reached (rate_limit_exceeded)"
    )
    assert reported_failure({"code": 503}).detail == "the provider is overloaded (code 503)"
    assert reported_failure("what is this").detail == "the provider reported an error of its own"
    assert known_code({"code": "x", "type": "server_error"}) == "server_error"
    assert known_code("server_error") is None
