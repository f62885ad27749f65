"""Our problems in the shape of the OpenAI API: the error shape of chat completions and of Responses.

    {"error": {"message": "…", "type": "invalid_request_error", "param": "messages[0].role", "code": "invalid_request"}}

Rules
1. The status decides which class of the SDK is raised. It is ours, except for a model without a route: 404 in this API.
2. ``code`` is the API's own code where it has one (programs for that API branch on it), else our stable code.
3. ``param`` names the first part of the request that is at fault, in the API's way: ``messages[0].role``.
4. ``x-should-retry`` says whether the same request may succeed later. Without it the SDKs repeat every 408, 409, 429
   and 5xx twice, however useless that is.

Source: platform.openai.com, "Error codes"; the openai package's ``_should_retry`` and ``_make_status_error``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from fastapi import Response

from broadcaster.core import events as ev
from broadcaster.core.entry import Entry
from broadcaster.core.providers.refusals import TOO_LONG, refusal_of
from broadcaster.log.streams.reader import Meta
from broadcaster.web.documents.problem_shapes import ShapedError
from broadcaster.web.documents.problems import CodedResponse
from broadcaster.web.surfaces.answering import FAILED_FOR_GOOD, naming_headers, retry_after

SHOULD_RETRY_HEADER: Final = "x-should-retry"

_INVALID: Final = "invalid_request_error"
_SERVER: Final = "server_error"

_API_CODES: Final = {
    "unauthorized": "invalid_api_key",
    "unknown_model": "model_not_found",
    "rate_limited": "rate_limit_exceeded",
    "tenant_limit": "rate_limit_exceeded",
    "budget_spent": "insufficient_quota",
    "queue_full": "slow_down",
    "busy": "slow_down",
    "internal_error": "server_error",
}
"""Our codes → the API's (rule 2)."""

_TYPES: Final = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}
_STATUSES: Final = {"unknown_model": 404}
_BAD_GATEWAY: Final = 502
_STATUS_OF_FAILURE: Final = {
    "provider_bad_request": 400,
    "unknown_tool": 400,
    "provider_rate_limited": 429,
    "provider_overloaded": 503,
    "provider_timeout": 504,
    "generation_timeout": 504,
}
"""Codes of failed generations whose status is not 502."""
_PARAMS: Final = {"unknown_model": "model"}


def openai_error(problem: Mapping[str, Any]) -> ShapedError:
    """The response to a problem document (web/documents/problems.py): ``status``, ``code``, ``detail``, ``retry`` and
    ``errors``.

    ``param`` of the document wins over its ``errors``, and ``api_code`` over ``code``, which may be the API's own too.
    """
    code = str(problem.get("api_code") or problem["code"])
    status = _STATUSES.get(code, int(problem["status"]))
    param = problem.get("param") or _PARAMS.get(code) or _param_in(problem)
    error = {
        "message": problem.get("detail") or problem.get("title") or code,
        "type": problem.get("error_type") or _TYPES.get(status, _SERVER if status >= 500 else _INVALID),
        "param": param,
        "code": _API_CODES.get(code, code),
    }
    headers = {SHOULD_RETRY_HEADER: "true" if problem.get("retry") else "false"}
    return ShapedError(status, {"error": error}, {**headers, **retry_after(problem.get("retry_after_s"))})


def openai_error_response(
    problem: Mapping[str, Any], *, code: str, headers: Mapping[str, str] | None = None
) -> Response:
    """The problem as a response, with these headers beside those of the error; ``code`` is ours."""
    status, body, own = openai_error(problem)
    return CodedResponse(body, code=code, status_code=status, headers={**own, **(headers or {})})


def failed_response(meta: Meta, entries: Sequence[Entry], *, is_repeatable: bool) -> Response:
    """The error of a generation that failed; ``is_repeatable``: see `failure`."""
    end = ev.read_event(entries[-1].event)
    code = end.code if isinstance(end, ev.Error) else "provider_failed"
    problem = failure(end, is_repeatable=is_repeatable)
    return openai_error_response(problem, code=code, headers=naming_headers(meta, entries))


def failure(end: ev.Event, *, is_repeatable: bool) -> Mapping[str, Any]:
    """A failed generation as a problem: ``status``, ``code``, ``detail``, ``param`` and ``retry``.

    Where the provider refused the request, status and text are the provider's; only the Messages API's text for a
    request that is too long follows OpenAI's, by which clients recognize it (litellm).
    ``is_repeatable``: the same request begins another generation; one with an Idempotency-Key does not.
    """
    code, detail = (end.code, end.error_text) if isinstance(end, ev.Error) else ("error", "")
    if (refusal := refusal_of(end)) is not None:
        return {
            "status": refusal.status,
            "code": refusal.code or code,
            "detail": _worded(refusal.message or detail, refusal.code),
            "param": refusal.param,
            "error_type": refusal.type,
            "retry": is_repeatable and refusal.retryable,
            "retry_after_s": refusal.retry_after_s,
        }
    return {
        "status": _STATUS_OF_FAILURE.get(code, _BAD_GATEWAY),
        "code": code,
        "detail": detail,
        "param": "tools" if code == "unknown_tool" else None,
        "retry": is_repeatable and code not in FAILED_FOR_GOOD,
    }


def _worded(message: str, code: str | None) -> str:
    if code == TOO_LONG and "prompt is too long" in message:
        return f"This model's maximum context length is exceeded: {message}"
    return message


def is_refusal(end: ev.Event) -> bool:
    """Whether a generation ended because its request was refused, or could not be accepted."""
    is_listed = isinstance(end, ev.Error) and (end.code in _STATUS_OF_FAILURE or end.code in FAILED_FOR_GOOD)
    return is_listed or refusal_of(end) is not None


def param_of(pointer: str) -> str | None:
    """A JSON pointer into the body as the API names a parameter (rule 3); None for the body as a whole.

    >>> param_of("#/messages/0/role")
    'messages[0].role'
    """
    steps = [step.replace("~1", "/").replace("~0", "~") for step in pointer.removeprefix("#").split("/")[1:]]
    named = "".join(f"[{step}]" if step.isdecimal() else f".{step}" for step in steps)
    return named.removeprefix(".") or None


def _param_in(problem: Mapping[str, Any]) -> str | None:
    match problem.get("errors"):
        case [{"pointer": str(pointer)}, *_]:
            return param_of(pointer)
        case [{"name": str(name)}, *_]:
            return name
        case _:
            return None
