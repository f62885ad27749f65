"""Problems: every error leaves this server as one RFC 9457 document with a stable ``code``.

    {"type": "about:blank#queue_full", "title": "The queue is full", "status": 503,
     "detail": "…what happened, for people…", "code": "queue_full", "retry": true}

Programs branch on ``code``; ``retry`` is whether the same call may succeed later unchanged.
``PROBLEMS`` (problem_table.py) is the one table of codes; the OpenAPI document is generated from it.
A ``400 invalid_request`` or ``invalid_event`` also carries ``errors``: one object per fault, with a JSON pointer into
the body (``{"in": "body", "pointer": "#/messages/0/role", "detail": …}``) or the name of a header, query or path
parameter (``{"in": "query", "name": "wait_s", "detail": …}``). The offending values are never echoed.

Source: RFC 9457 "Problem Details for HTTP APIs", 3.1 (members) and 3.2 (extension members).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple, Self

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse, Response
from starlette.routing import Match, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from broadcaster.core.requests.excerpts import excerpt_of
from broadcaster.dialects.openai.parameters import BadParameter
from broadcaster.errors import BroadcasterError, InvalidInput, RateLimited
from broadcaster.observability.logs import get_logger
from broadcaster.web.documents.problem_table import PROBLEMS
from broadcaster.web.guards.request_log import CLIENT_LEFT, record_of

GENERATION_ID_HEADER: Final = "Broadcaster-Generation-Id"
PROVIDER_REQUEST_ID_HEADER: Final = "Broadcaster-Provider-Request-Id"
MEDIA_TYPE: Final = "application/problem+json"
# What OpenAI's SDKs have in their base_url, and Anthropic's in their paths.
_SDK_PREFIX: Final = "/v1"
# One second is long enough for a failover's first moments and short enough for people.
RETRY_AFTER_S: Final = 1
# A body can break a rule in as many places as it has bytes.
MAX_LISTED_FAULTS: Final = 20
# Several may be one: each branch of a union reports on its own.
MAX_READ_FAULTS: Final = 200

_log = get_logger(__name__)


class BodyRefused(HTTPException):
    """Takes one of our errors through FastAPI, which lets nothing else through while it reads a body."""

    def __init__(self, refusal: BroadcasterError) -> None:
        super().__init__(refusal.status, refusal.detail)
        self.refusal = refusal


CREATION_CODES: Final = (
    *("invalid_request", "unknown_model", "unsupported_media_type", "idempotency_mismatch"),
    *("tenant_limit", "budget_spent", "queue_full", "busy", "log_unavailable"),
)
"""The codes of every route that creates a generation."""

# Codes of the layers of our own app. In a host's app its own layers take their place.
_OWN_LAYERS: Final = ("unauthorized", "forbidden_host", "forbidden_origin", "internal_error")
_ANYWHERE: Final = (
    *(*_OWN_LAYERS, "forbidden", "body_too_large", "too_many_values"),
    *("rate_limited", "tenant_limit", "busy"),  # the rate of a tenant, and the bytes of JSON (json_ledger.py)
)

_CODE_OF_STATUS: Final = {
    404: "not_found",
    405: "method_not_allowed",
    413: "body_too_large",
    415: "unsupported_media_type",
}


_TAG_FAULTS: Final = ("union_tag_invalid", "union_tag_not_found")
_MISSING: Final = ("missing", "union_tag_not_found")


class RequestFault(NamedTuple):
    """One fault of a request: the part it is in, where in that part, and what is wrong."""

    part: str
    place: str
    detail: str

    def document(self) -> dict[str, str]:
        """The fault as a member of ``errors``; only the body has pointers, the other parts have names."""
        return {"in": self.part, "pointer" if self.part == "body" else "name": self.place, "detail": self.detail}


class InvalidRequest(InvalidInput):
    """``400 invalid_request`` with its list of faults, for rules that the schema cannot express."""

    def __init__(self, detail: str, *, faults: Sequence[RequestFault] = ()) -> None:
        super().__init__(detail)
        self.faults = tuple(faults)

    @classmethod
    def of(cls, *faults: RequestFault) -> Self:
        """The error that names the first of these faults, and lists ``MAX_LISTED_FAULTS`` of them at most."""
        first, more = faults[0], f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
        return cls(f"{first.part} {first.place}: {first.detail}{more}", faults=faults[:MAX_LISTED_FAULTS])


class InvalidEvents(InvalidRequest):
    """``400 invalid_event``: some of the events cannot be published; nothing of the batch is."""

    code = "invalid_event"


class ClientLeft(Exception):
    """The caller disconnected while it waited for its response: it is not refused."""


class CodedResponse(JSONResponse):
    """A refusal whose ``code`` the log names (guards/request_log.py), whatever the shape of its body."""

    def __init__(self, content: Any, *, code: str, **response: Any) -> None:
        super().__init__(content, **response)
        self.code = code

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        record_of(scope).code = self.code
        await super().__call__(scope, receive, send)


def problem_response(
    code: str, detail: str, *, status: int | None = None, headers: Mapping[str, str] | None = None, **extra: Any
) -> Response:
    """The document of ``code`` (a key of PROBLEMS) as a response; ``status`` only where the table's does not fit."""
    body = _document(code, detail, status=status) | extra
    fields = {"cache-control": "no-store", **(headers or {})}
    if body["retry"]:
        fields.setdefault("retry-after", str(RETRY_AFTER_S))
    return CodedResponse(body, code=code, status_code=body["status"], headers=fields, media_type=MEDIA_TYPE)


def _document(code: str, detail: str, *, status: int | None = None) -> dict[str, Any]:
    row = PROBLEMS[code]
    return {
        "type": f"about:blank#{code}",
        "title": row.title,
        "status": status or row.status,
        "detail": detail,
        "code": code,
        "retry": row.retry,
    }


def error_response(error: BroadcasterError) -> Response:
    """The problem of one of our own errors; a code outside the table is a defect and becomes internal_error."""
    if isinstance(error, BadParameter):  # the shape of OpenAI's errors has these names
        extra: dict[str, Any] = {"param": error.param, "api_code": error.api_code}
        return problem_response("invalid_request", error.detail, status=error.status, **extra)
    if error.code not in PROBLEMS:
        _log.error("error_without_public_code", code=error.code, exc_info=error)
        return problem_response("internal_error", "an error without a public code; the server's log has it")
    if isinstance(error, InvalidRequest) and error.faults:
        return problem_response(error.code, error.detail, errors=[fault.document() for fault in error.faults])
    headers = {}
    if isinstance(error, RateLimited):
        headers["retry-after"] = str(max(1, math.ceil(error.retry_after_s)))  # whole seconds, and never early
    if error.generation_id is not None:
        headers[GENERATION_ID_HEADER] = error.generation_id
    return problem_response(error.code, error.detail, headers=headers)


def invalid_response(errors: Sequence[Mapping[str, Any]], *, body: object = None) -> Response:
    """The ``400 invalid_request`` of a request that its schema refuses; ``errors`` are pydantic's."""
    details: dict[tuple[str, str], list[str]] = {}
    for error in errors[:MAX_READ_FAULTS]:
        part, place, detail = _fault(error, body)
        # Each branch of a union reports on its own: together they name what would have fitted.
        details.setdefault((part, place), []).append(detail)
    faults = [RequestFault(*where, "; or ".join(dict.fromkeys(found))) for where, found in details.items()]
    return error_response(InvalidRequest.of(*faults))


def _fault(error: Mapping[str, Any], body: object) -> RequestFault:
    part, *path = error["loc"]
    if error["type"] in _TAG_FAULTS:  # reported of the object; the tag is one of its fields
        path.append(_tag_name(error))
    detail = _detail(error)
    if part == "body":
        pointer = "#" + "".join(f"/{_escape(str(step))}" for step in _inside(body, path, error))
        return RequestFault(part, pointer, detail)
    return RequestFault(part, str(path[-1]), detail)


def _detail(error: Mapping[str, Any]) -> str:
    match error:
        case {"type": "union_tag_invalid", "ctx": {"expected_tags": expected}, "input": given}:
            return f"Input should be one of {expected}, not {excerpt_of(given[_tag_name(error)])}"
        case {"type": "union_tag_not_found"}:
            return "Field required"
        case {"type": "literal_error", "msg": text, "input": given}:
            return f"{text}, not {excerpt_of(given)}"
    return str(error["msg"]).removeprefix("Value error, ")


def _tag_name(error: Mapping[str, Any]) -> str:
    """The field that selects the branch of a union; pydantic quotes it."""
    return str(error["ctx"]["discriminator"]).strip("'")


def _inside(body: Any, path: Sequence[str | int], error: Mapping[str, Any]) -> list[str | int]:
    """The steps of ``path`` that lead into the body, without pydantic's own (the names of a union's branches)."""
    inside: list[str | int] = []
    for depth, step in enumerate(path):
        try:
            body = body[step]
        except (LookupError, TypeError):
            if error["type"] not in _MISSING or depth < len(path) - 1:
                continue
        inside.append(step)
    return inside


def _escape(step: str) -> str:
    """RFC 6901 section 3: tilde and slash have a meaning in a JSON pointer."""
    return step.replace("~", "~0").replace("/", "~1")


def failure_response(error: Exception) -> Response | None:
    """The response to an error of ours, of FastAPI's validation, or of a client that left; None for any other error."""
    if isinstance(error, ClientLeft | ClientDisconnect):
        return Response(status_code=CLIENT_LEFT)
    if isinstance(error, RequestValidationError):
        return invalid_response(error.errors(), body=error.body)
    if isinstance(error, BodyRefused):
        error = error.refusal
    return error_response(error) if isinstance(error, BroadcasterError) else None


async def answer_http(request: Request, error: HTTPException) -> Response:
    """The problem of a request that reaches no route of ours; UnexpectedErrors does the rest, further out."""
    code = _CODE_OF_STATUS.get(error.status_code, "invalid_request" if error.status_code < 500 else "internal_error")
    if error.status_code == 404:
        detail = "nothing is served at this path"
        if (meant := _meant_path(request)) is not None:
            detail += (
                f"; a route is at {meant}: the base_url of OpenAI's SDKs ends with /v1, that of Anthropic's does not"
            )
    elif error.status_code == 405:
        detail = f"this path is served for {(error.headers or {}).get('allow', 'other methods')}"
    else:
        detail = str(error.detail)
    return problem_response(code, detail, status=error.status_code, headers=error.headers)


def _meant_path(request: Request) -> str | None:
    """The route that the request would have reached with one ``/v1`` before its path; None: there is none."""
    scope = request.scope
    path = scope["path"].removeprefix(scope.get("root_path", ""))
    meant = path if path.startswith(f"{_SDK_PREFIX}/") else f"{_SDK_PREFIX}{path}"
    while meant.startswith(f"{_SDK_PREFIX}{_SDK_PREFIX}/"):
        meant = meant.removeprefix(_SDK_PREFIX)
    if meant == path:
        return None
    routes = (route for route in request.app.routes if isinstance(route, Route))
    found = (each.path for each in routes if each.matches({**scope, "path": meant, "root_path": ""})[0] != Match.NONE)
    return next(found, None)


class UnexpectedErrors:
    """Pure ASGI: an unexpected error is logged once, here, and answered without its details.

    A response that has begun cannot become an error response: the error goes on to the server, which
    logs it and cuts the connection, so that no client takes the beginning for the whole.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = False

        async def noting(message: Message) -> None:
            nonlocal started
            started = started or message["type"] == "http.response.start"
            await send(message)

        try:
            await self._app(scope, receive, noting)
        except Exception as error:
            if started:
                raise
            request_id = scope.get("state", {}).get("request_id", "-")
            _log.error(
                "request_failed", method=scope["method"], path=scope["path"], request_id=request_id, exc_info=error
            )
            response = problem_response("internal_error", "the server's log has this request id")
            await response(scope, receive, send)


def problem_responses(*codes: str) -> dict[int | str, dict[str, Any]]:
    """The OpenAPI ``responses`` of a route that may answer these codes, one example each, and ``default`` for all.

    What every route may answer need not be named.
    """
    by_status: dict[int | str, dict[str, Any]] = {}
    for code in (*codes, *_ANYWHERE):
        row = PROBLEMS[code]
        entry = by_status.setdefault(row.status, _openapi_response(row.title))
        entry["content"][MEDIA_TYPE]["examples"][code] = {"summary": row.title, "value": _document(code, row.example)}
    # A `default` also keeps FastAPI from promising its own 422 shape, which this server never sends.
    by_status["default"] = _openapi_response("Any other problem; the codes are listed under the schema Problem")
    return by_status


def embedded_problems(responses: Mapping[int | str, Mapping[str, Any]]) -> dict[int | str, dict[str, Any]]:
    """The same ``responses`` for a document that is not ours: the schema in place, and without our own app's layers.

    FastAPI has no way for a router to put a schema of its own under the document's components.
    """
    embedded: dict[int | str, dict[str, Any]] = {}
    for status, response in responses.items():
        problem = response.get("content", {}).get(MEDIA_TYPE)
        if problem is None:
            embedded[status] = dict(response)
            continue
        examples = {code: example for code, example in problem["examples"].items() if code not in _OWN_LAYERS}
        if examples or status == "default":
            content = {MEDIA_TYPE: {"schema": _embedded_schema(list(examples)), "examples": examples}}
            embedded[status] = {**response, "content": content}
    return embedded


def _embedded_schema(codes: Sequence[str]) -> dict[str, Any]:
    schema = problem_schema()
    properties = {**schema["properties"], "code": {"type": "string", **({"enum": list(codes)} if codes else {})}}
    return {**schema, "description": "RFC 9457 problem document", "properties": properties}


def problem_schema() -> dict[str, Any]:
    """The OpenAPI schema ``Problem``, with the table of codes in its description."""
    rows = "\n".join(
        f"| `{code}` | {row.status} | {row.title} | {'yes' if row.retry else 'no'} |" for code, row in PROBLEMS.items()
    )
    return {
        "title": "Problem",
        "description": f"RFC 9457 problem document.\n\n| code | status | title | retry |\n|---|---|---|---|\n{rows}",
        "type": "object",
        "required": ["type", "title", "status", "detail", "code", "retry"],
        "properties": {
            "type": {"type": "string", "description": "about:blank#<code>"},
            "title": {"type": "string", "description": "the same for every occurrence of the code"},
            "status": {"type": "integer"},
            "detail": {"type": "string", "description": "what happened here, for people"},
            "code": {"type": "string", "enum": list(PROBLEMS)},
            "retry": {"type": "boolean", "description": "whether the same call may succeed later, unchanged"},
            "errors": {
                "type": "array",
                "description": "only for invalid_request and invalid_event: every fault found, with its place",
                "items": {
                    "type": "object",
                    "required": ["in", "detail"],
                    "properties": {
                        "in": {"type": "string", "enum": ["body", "query", "header", "path"]},
                        "pointer": {"type": "string", "description": "JSON pointer into the body"},
                        "name": {"type": "string", "description": "the parameter's name"},
                        "detail": {"type": "string"},
                    },
                },
            },
        },
    }


def _openapi_response(description: str) -> dict[str, Any]:
    schema = {"$ref": "#/components/schemas/Problem"}
    return {"description": description, "content": {MEDIA_TYPE: {"schema": schema, "examples": {}}}}
