"""One tree of errors, named by what the caller can do about them.

    BroadcasterError
    ├── InvalidInput            the caller must change the request           (4xx, retry: no)
    │   ├── BadCursor           400 bad_cursor: the only way a cursor is refused
    │   ├── BadFrame            400 bad_frame: CR, LF or NUL where SSE does not allow it
    │   ├── UnknownModel        400 unknown_model: no route serves this model
    │   ├── UnknownTool         400 unknown_tool: the worker has no tool of this name
    │   ├── InvalidEvent        400 invalid_event: not an event that may be published
    │   ├── EventTooLarge       413 event_too_large: one event over the bound
    │   ├── BodyTooLarge        413 body_too_large: a body, or what is stored of it, over the bound
    │   ├── TooManyValues       413 too_many_values: a body of more JSON values than the settings allow
    │   ├── MetadataTooLarge    413 metadata_too_large: more metadata than the settings allow
    │   ├── StreamExists        409 stream_exists: the id is taken, or by another configuration
    │   ├── StreamClosed        409 stream_closed: its terminal event is written
    │   │   └── StreamReplaced  412 stream_replaced: another creation has the id now
    │   ├── StreamFull          409 stream_full: it holds all that it may, or the batch is more than that
    │   ├── WebhookNotAllowed   400 webhook_not_allowed: webhooks are off, or not for this URL
    │   ├── Unauthorized        401 unauthorized: the request's credential is not valid, or is no longer
    │   ├── UnknownStream       404 unknown_stream: nothing is known under this id
    │   ├── TokenInvalid        401 token_invalid: not a token that this server accepts
    │   ├── TokenExpired        401 token_expired: a valid token, whose time is over
    │   ├── TokenRevoked        401 token_revoked: a valid token that was revoked
    │   ├── TokensOff           400 tokens_off: this server has no key to sign tokens with
    │   ├── Forbidden           403 forbidden: the app that mounts the routes does not grant this
    │   └── IdempotencyMismatch 422 idempotency_mismatch: same key, another body
    ├── Busy                    come back later                              (503, retry: yes)
    │   ├── QueueFull           503 queue_full
    │   ├── LogUnavailable      503 log_unavailable: Redis does not respond
    │   ├── RateLimited         429 rate_limited: more often than the settings allow; has the time to retry after
    │   │   ├── TenantLimit     429 tenant_limit: the tenant has all that the settings allow it; has that time, too
    │   │   └── BudgetSpent     429 budget_spent: the key has spent its tokens of today; has the time until midnight
    │   ├── StopNotDurable      503 stop_not_durable: sent, but not stored
    │   └── StopPending         503 stop_pending: it is being stopped, and not deleted yet
    ├── ProviderFailed          the LLM provider ended the answer badly      (502)
    ├── ToolOutcomeUnknown      a lost worker had begun a call of a tool     (500, retry: no)
    └── SetupError              the operator must change the set-up          (500, retry: no)

Every error has a stable ``code`` (what programs branch on), ``status`` (the HTTP status it becomes)
and ``retry`` (whether the same call may succeed later, unchanged).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import ClassVar, NamedTuple


class BroadcasterError(Exception):
    """Root of the tree; its text is safe to show to the caller (no secrets, no payloads)."""

    code: ClassVar[str] = "internal_error"
    status: ClassVar[int] = 500
    retry: ClassVar[bool] = False

    def __init_subclass__(
        cls, *, code: str | None = None, status: int | None = None, retry: bool | None = None
    ) -> None:
        """A class inherits the code, status and retry flag that its head does not name."""
        cls.code = code or cls.code
        cls.status = status or cls.status
        cls.retry = cls.retry if retry is None else retry

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail
        self.generation_id: str | None = None
        """The generation that had begun when this failed: the caller has no other way to find it."""


@contextmanager
def naming(generation_id: str) -> Iterator[None]:
    """Errors that are raised inside name this generation."""
    try:
        yield
    except BroadcasterError as error:
        error.generation_id = generation_id
        raise


class InvalidInput(BroadcasterError, code="invalid_request", status=400):
    """The request cannot succeed as it is; ``pointer`` names the offending part when there is one."""


class BadCursor(InvalidInput, code="bad_cursor"):
    """A cursor that is not ``<epoch>-<seq>`` in at most 128 bytes."""


class BadFrame(InvalidInput, code="bad_frame"):
    """CR, LF or NUL in an SSE ``id`` or ``event`` field: it would forge a field or a frame (CWE-93)."""


class UnknownModel(InvalidInput, code="unknown_model"):
    """No route of the settings serves the model."""


class UnknownTool(InvalidInput, code="unknown_tool"):
    """A tool was requested by its name alone, and the worker that took the generation has no tool of that name."""


class WebhookNotAllowed(InvalidInput, code="webhook_not_allowed"):
    """Webhooks are off, or the operator's settings do not let one go to this URL."""


class UnknownStream(InvalidInput, code="unknown_stream", status=404):
    """Neither a log nor a meta exists under the id (or it belongs to another tenant)."""


class Unauthorized(InvalidInput, code="unauthorized", status=401):
    """The credential of the request is not valid, or was revoked while the request was served."""


class Forbidden(InvalidInput, code="forbidden", status=403):
    """A guard of the app that mounts the routes does not let this caller do it."""


class TokenInvalid(InvalidInput, code="token_invalid", status=401):
    """A viewer token with any fault but its age: the text is the same for all, and reveals nothing of the keys."""


class TokenExpired(InvalidInput, code="token_expired", status=401):
    """A viewer token whose signature and claims are right, and whose time is over."""


class TokenRevoked(InvalidInput, code="token_revoked", status=401):
    """A viewer token that was revoked, by its id or with all tokens of its subject."""


class TokensOff(InvalidInput, code="tokens_off"):
    """This server mints no viewer tokens: it has no key to sign them with."""


class InvalidEvent(InvalidInput, code="invalid_event"):
    """Not an event that a publisher may append; ``pointer`` leads into the event ("": the event as a whole)."""

    def __init__(self, detail: str, *, pointer: str = "") -> None:
        super().__init__(detail)
        self.pointer = pointer


class EventTooLarge(InvalidInput, code="event_too_large", status=413):
    """One event has more bytes than the settings allow."""


class BodyTooLarge(InvalidInput, code="body_too_large", status=413):
    """A body has more bytes than ``MAX_BODY_BYTES``, or the request stored from it has more than its bound."""


class TooManyValues(InvalidInput, code="too_many_values", status=413):
    """A body holds more JSON values than ``MAX_BODY_VALUES``."""


class MetadataTooLarge(InvalidInput, code="metadata_too_large", status=413):
    """``metadata`` has more bytes, as JSON, than ``MAX_METADATA_BYTES``."""


class StreamExists(InvalidInput, code="stream_exists", status=409):
    """A stream of this id exists already: a generation, or a feed of another configuration."""


class StreamClosed(InvalidInput, code="stream_closed", status=409):
    """The feed has its terminal event: no event can follow it, and no other end can replace it."""


class StreamReplaced(StreamClosed, code="stream_replaced", status=412):
    """The writer's feed was replaced: its id is that of another creation, which takes nothing of this writer."""


class StreamFull(InvalidInput, code="stream_full", status=409):
    """The feed holds as many events or bytes as it may, or one append alone has more than that."""


class IdempotencyMismatch(InvalidInput, code="idempotency_mismatch", status=422):
    """An ``Idempotency-Key`` was reused with another body."""


class Busy(BroadcasterError, code="busy", status=503, retry=True):
    """A bound was reached or a service is unavailable; the same call may succeed later."""


class QueueFull(Busy, code="queue_full"):
    """As many generations wait as the settings allow."""


class LogUnavailable(Busy, code="log_unavailable"):
    """Redis does not respond, or responds that it cannot serve now (loading, read-only, out of memory, moving).

    As text, for programs and logs, it adds the reason that Redis's client gives, with the address. ``detail``, which
    front-ends send to their callers, has no address.
    """

    def __str__(self) -> str:
        reason = self.__cause__
        while isinstance(reason, LogUnavailable) and reason.__cause__ is not None:
            reason = reason.__cause__
        return self.detail if reason is None else f"{self.detail} ({reason})"


class RateLimited(Busy, code="rate_limited", status=429):
    """The caller sends requests more often than the settings allow; it may retry after ``retry_after_s``."""

    def __init__(self, detail: str, *, retry_after_s: float = 1.0) -> None:
        super().__init__(detail)
        self.retry_after_s = retry_after_s


class TenantLimit(RateLimited, code="tenant_limit"):
    """The tenant has as much of something as the settings allow one tenant; the text names the setting."""


class BudgetSpent(RateLimited, code="budget_spent", retry=False):
    """The credential has spent its tokens of today; ``retry_after_s`` is the time until the next day (UTC)."""


class AnswerUnsent(BroadcasterError, code="answer_unsent", status=503):
    """The requested generation exists, but its answer cannot be sent now: read it by its id."""


class StopNotDurable(Busy, code="stop_not_durable"):
    """The stop was sent to the worker but could not be stored; repeat it."""


class StopPending(Busy, code="stop_pending"):
    """A deletion waits for the generation's end, which did not come in time; repeat it."""


class ProviderRefusal(NamedTuple):
    """A provider's error response: its HTTP status and the fields of its body, without keys and without the request."""

    status: int
    type: str | None = None
    code: str | None = None
    param: str | None = None
    message: str | None = None


class ProviderFailed(BroadcasterError, code="provider_failed", status=502):
    """The provider did not finish the answer.

    ``reason`` is the stable code that the ``error`` event carries (``provider_overloaded``, ``provider_truncated``, …);
    ``retryable`` tells whether another attempt may succeed; ``retry_after_s`` is the pause that the provider requests.
    ``refusal`` is the error response, where the provider sent one in place of a stream. ``request_id`` is the id that
    the provider gave to the request, where a response came. ``is_of_request``: it may concern this request alone.
    """

    def __init__(
        self,
        detail: str,
        *,
        reason: str = "provider_failed",
        retryable: bool = False,
        retry_after_s: float | None = None,
        refusal: ProviderRefusal | None = None,
        is_of_request: bool = False,
    ) -> None:
        super().__init__(detail)
        self.reason = reason
        self.is_of_request = is_of_request
        self.refusal = refusal
        self.request_id: str | None = None
        self.retryable = retryable
        self.retry_after_s = retry_after_s


class ToolOutcomeUnknown(BroadcasterError, code="tool_outcome_unknown"):
    """A call was begun, its worker is gone, and the log has no result: it is repeated only if the tool allows that."""


class SetupError(BroadcasterError, code="setup_error"):
    """The machine or the settings cannot run this; the text names the remedy."""
