"""The table of problem codes: HTTP status, title, an example of a detail, and whether to retry.

The rows of our own errors take code, status and retry from their classes (broadcaster/errors.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

from broadcaster import errors


class UnknownDialect(errors.InvalidInput):
    """No dialect of that name is served."""

    code = "unknown_dialect"


class UnsupportedMediaType(errors.InvalidInput):
    """A body of another kind than JSON, or one that a page of another origin could have sent."""

    code = "unsupported_media_type"
    status = 415


class ForbiddenOrigin(errors.InvalidInput):
    """A page of this origin may not send the request."""

    code = "forbidden_origin"
    status = 403


class ProblemType(NamedTuple):
    """One row: the HTTP status, the short title (same for every occurrence), an example of a detail, the retry flag."""

    status: int
    title: str
    example: str
    retry: bool = False


_OF_ERRORS: Final[Mapping[type[errors.BroadcasterError], tuple[str, str]]] = {
    errors.InvalidInput: ("The request is not valid", "exactly one of prompt and messages is needed"),
    errors.BadCursor: ("The cursor is malformed", "a cursor is <epoch>-<seq>"),
    errors.BadFrame: ("The text has no place in an SSE frame", "the id must not hold CR, LF or NUL"),
    UnknownDialect: ("The dialect is unknown", "no such dialect; served: native"),
    errors.InvalidEvent: ("The event cannot be published", "body #/3/type: not a type to publish"),
    errors.UnknownModel: ("The model is unknown", "no route serves the requested model"),
    errors.WebhookNotAllowed: ("The webhook may not go there", "this host is not listed in BROADCASTER_WEBHOOK_HOSTS"),
    errors.Unauthorized: ("A key is needed", "no key was sent: authorization: Bearer <key>"),
    errors.Forbidden: ("This is not allowed", "can_generate does not grant this"),
    errors.TokenInvalid: ("The token is not valid", "the token is not valid here; get a new one"),
    errors.TokenExpired: ("The token has expired", "the token has expired; get a new one"),
    errors.TokenRevoked: ("The token was revoked", "the token was revoked; get a new one"),
    errors.TokensOff: ("No tokens are minted here", "set BROADCASTER_TOKEN_KEYS to mint viewer tokens"),
    ForbiddenOrigin: ("The Origin may not call", "without keys only loopback pages may call"),
    errors.UnknownStream: ("The stream is unknown", "no generation has this id (or it has expired)"),
    errors.StreamExists: ("The id is taken", "a feed of another configuration has this id"),
    errors.StreamClosed: ("The stream has ended", "this feed has ended: to continue, create another feed"),
    errors.StreamReplaced: ("The stream was replaced", "another creation has replaced this feed"),
    errors.StreamFull: ("The stream is full", "the feed would hold more events than it may"),
    errors.EventTooLarge: ("An event is too large", "one event has at most 1048576 bytes"),
    errors.BodyTooLarge: ("The body is too large", "a body has at most 4194304 bytes"),
    errors.TooManyValues: ("The body holds too many values", "a body has at most 100000 JSON values"),
    errors.MetadataTooLarge: ("The metadata is too large", "metadata has at most 16384 bytes as JSON"),
    UnsupportedMediaType: ("The body must be JSON", "send content-type: application/json"),
    errors.IdempotencyMismatch: ("The key was used with another body", "use a new Idempotency-Key"),
    errors.RateLimited: ("Too many requests", "too many appends a second; again in 1 s"),
    errors.BudgetSpent: ("The budget is spent", "1000 tokens were spent today of a budget of 1000"),
    errors.TenantLimit: ("The tenant's share is used up", "1000 generations wait, as many as TENANT_QUEUED allows"),
    errors.BroadcasterError: ("Something went wrong on our side", "the server's log has this request id"),
    errors.SetupError: ("The server is not set up for this", "install the extra 'embedded'"),
    errors.ProviderFailed: ("The provider failed", "the provider ended the answer badly"),
    errors.Busy: ("A bound is met", "this front-end has all the viewers it may have"),
    errors.QueueFull: ("The queue is full", "10000 generations are waiting"),
    errors.LogUnavailable: ("The log does not answer", "Redis did not answer in time"),
    errors.AnswerUnsent: ("The answer cannot be sent now", "it is there: read it by its id"),
    errors.StopPending: ("It has not ended yet", "still being stopped; repeat the deletion"),
    errors.StopNotDurable: ("The stop is not written down", "sent, not stored; repeat it"),
}
"""Error → title and example; code, status and retry are the class's own."""

_OF_LAYERS: Final[Mapping[str, ProblemType]] = {
    "malformed_http": ProblemType(400, "This is not HTTP", "the request does not follow RFC 9112"),
    "forbidden_host": ProblemType(403, "The Host is not this machine", "without keys only loopback hosts are served"),
    "not_found": ProblemType(404, "There is nothing here", "nothing is served at this path"),
    "method_not_allowed": ProblemType(405, "The method is not allowed here", "this path is served for GET"),
    "request_timeout": ProblemType(
        408, "The request did not arrive in time", "its head or body came too slowly", retry=True
    ),
    "websocket_not_served": ProblemType(426, "No WebSocket is served", "send the request over HTTP/1.1"),
    "websocket_required": ProblemType(426, "This path is a WebSocket's", "open it as a WebSocket"),
    "head_too_large": ProblemType(431, "The request's head is too large", "a head has at most 65536 bytes"),
}
"""Problems that are found before a route runs, without an error class."""

OF_DURABLE_STREAMS: Final[Mapping[str, ProblemType]] = {
    "producer_fenced": ProblemType(403, "The producer has a newer session", "its epoch is 5 now"),
    "content_type_mismatch": ProblemType(409, "The content type is another one", "the stream is text/plain"),
    "producer_gap": ProblemType(409, "Requests of the producer are missing", "expected 3, received 5"),
    "sequence_conflict": ProblemType(409, "Stream-Seq has not risen", "each Stream-Seq is greater than the last"),
    "offset_gone": ProblemType(410, "The offset is gone", "read from -1: this stream no longer holds the offset"),
    "not_supported": ProblemType(501, "This part of the protocol is not served", "forks are not supported"),
}
"""Problems of ``/ds/`` alone, whose headers say more than an error could."""

PROBLEMS: Final[Mapping[str, ProblemType]] = {
    **{
        error.code: ProblemType(error.status, title, example, error.retry)
        for error, (title, example) in _OF_ERRORS.items()
    },
    **_OF_LAYERS,
    **OF_DURABLE_STREAMS,
}
