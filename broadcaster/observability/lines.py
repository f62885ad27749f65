"""The lines about requests, refusals, streams, viewers and attempts, and their fields.

Each class is one kind of line: ``event`` names it, and each attribute is a field. A field that is None is left out. The
tables of docs/operations.md are printed from here (``python -m tests.guards.test_log_lines``).

Durations are seconds and end in ``_s``. No field holds anything that a caller wrote, except ids and names that
are ``showable``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, Final

PLACES: Final = 4
"""Decimal places of a duration: a tenth of a millisecond."""
_SHOWABLE: Final = re.compile(r"[A-Za-z0-9._:/@+-]{1,128}", re.ASCII)


def showable(name: object) -> str | None:
    """An id or the name of a model, as far as it may stand in the log or in a span."""
    return name if isinstance(name, str) and _SHOWABLE.fullmatch(name) else None


def _means(meaning: str) -> Any:
    return field(default=None, metadata={"meaning": meaning})


@dataclass(slots=True, kw_only=True)
class LogLine:
    """A line, written by ``log.info(line.event, **line.values())``."""

    event: ClassVar[str]
    about: ClassVar[str]

    def values(self) -> dict[str, Any]:
        """The fields that are known."""
        return {name: value for name, value in self._all() if value is not None}

    def _all(self) -> Iterator[tuple[str, Any]]:
        for each in fields(self):
            value = getattr(self, each.name)
            yield each.name, round(value, PLACES) if isinstance(value, float) else value

    @classmethod
    def meanings(cls) -> Mapping[str, str]:
        """What each field means."""
        return {each.name: each.metadata["meaning"] for each in fields(cls)}


@dataclass(slots=True, kw_only=True)
class RequestLine(LogLine):
    """What the lines of one request share."""

    method: str | None = _means("the request's method")
    operation: str | None = _means("the route, by its `operationId` in the OpenAPI document")
    surface: str | None = _means("the API that the route belongs to: `generations`, `chat completions`, `messages`, …")
    path: str | None = _means("the path without its query, where no route of an API matches")
    stream: str | None = _means("the stream's id: in the path, or of the generation that the request started")
    tenant: str | None = _means("the tenant of the caller's key; `local` without keys")
    caller: str | None = _means("the name of the caller's key; never the key")
    request_id: str | None = _means("`x-request-id` of the response")
    trace_id: str | None = _means("the trace that the request belongs to (`traceparent`, or begun here)")


@dataclass(slots=True, kw_only=True)
class EndedRequest(RequestLine):
    """See ``about``."""

    event = "request_ended"
    about = "A request has its whole response. Info; warning for a response that was cut; debug for health and pages."

    status: int | None = _means("the status; 499: the client left before it; missing if no response was begun")
    duration_s: float | None = _means("from the request's head to the end of its response")


@dataclass(slots=True, kw_only=True)
class RefusedRequest(RequestLine):
    """See ``about``."""

    event = "request_refused"
    about = "A request was refused. Info for 4xx, warning for 429, 5xx and a refusal inside an event stream."

    status: int | None = _means("the status; 200 for a refusal inside an event stream")
    code: str | None = _means("the stable code of the problem, or why no viewer was admitted")
    duration_s: float | None = _means("from the request's head to the end of its response")
    suppressed: int | None = _means(
        "the line stands for so many refusals of this code and tenant without a line of their own"
    )


@dataclass(slots=True, kw_only=True)
class CreatedStream(RequestLine):
    """See ``about``."""

    event = "stream_created"
    about = "A request has started a generation, or created a feed. Info."

    kind: str | None = _means("`generation` or `feed`")
    model: str | None = _means("the model that was requested, where a route serves it")
    is_repeat: bool | None = _means("true: an earlier request with the same Idempotency-Key had started it")


@dataclass(slots=True, kw_only=True)
class EndedViewer(RequestLine):
    """See ``about``."""

    event = "viewer_ended"
    about = "A viewer's event stream has ended; the line of its request. Info; warning if this front-end cut it off."

    status: int | None = _means("the status of the response")
    dialect: str | None = _means("the form of the stream")
    reason: str | None = _means("why it ended: `terminal`, `client_gone`, `slow`, `drain`, …")
    duration_s: float | None = _means("from the request's head to the viewer's end")
    first_entry_s: float | None = _means("from the request's head to the first entry that was given to the socket")
    entries: int | None = _means("how many entries of the stream it moved on")
    sent_bytes: int | None = _means("bytes given to the socket, without the head and heartbeats")
    lag: int | None = _means("entries of the stream that it did not receive")


@dataclass(slots=True, kw_only=True)
class EndedAttempt(LogLine):
    """See ``about``."""

    event = "attempt_ended"
    about = "A worker's attempt has ended. Info if the answer is complete or was stopped; warning for all others."

    stream: str | None = _means("the generation's id")
    tenant: str | None = _means("the tenant that started it")
    surface: str | None = _means("the API through which it was started")
    request_id: str | None = _means("`x-request-id` of the request that started it")
    trace_id: str | None = _means("the trace of the request that started it")
    outcome: str | None = _means("`finished`, `failed`, `aborted`, `retried`, `handed_back` or `lost`")
    reason: str | None = _means("the code of the failure, what stopped it, or the provider's finish reason")
    provider: str | None = _means("the provider of the last try")
    model: str | None = _means("the model that was requested; missing if its name has not the form of an id")
    provider_model: str | None = _means("the model that the provider was asked for; missing as `model`")
    attempt: int | None = _means("the number of this attempt, from 1")
    tries: int | None = _means("calls of providers, with retries and fallbacks, in this attempt")
    steps: int | None = _means("steps of the agent loop; missing without tools of the worker")
    queue_wait_s: float | None = _means("from the creation to this attempt's grant; for the first attempt alone")
    first_token_s: float | None = _means("from the attempt's begin to the first content")
    duration_s: float | None = _means("from the attempt's begin to its end")
    input_tokens: int | None = _means("tokens of the request, without cached ones, as reported, else their estimate")
    output_tokens: int | None = _means("tokens of the answer")
    is_estimated: bool | None = _means("true: one of the two counts was not reported by the provider")
    tokens_per_s: float | None = _means("output tokens by the time after the first content")
    provider_request_id: str | None = _means("the provider's own id of its last request")
    entries: int | None = _means("`seq` of the last entry that was written")


LINES: Final = (EndedRequest, RefusedRequest, CreatedStream, EndedViewer, EndedAttempt)
