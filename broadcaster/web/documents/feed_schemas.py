"""The JSON of feeds: creation, the result of an append, the state of any stream."""

from __future__ import annotations

from typing import Any, Final, Literal

from pydantic import ConfigDict, Field

from broadcaster.core.requests.options import MAX_RETENTION_S
from broadcaster.core.requests.publishing import MAX_EVENTS_PER_APPEND
from broadcaster.log.feeds.feeds import MAX_LEASE_S, MIN_LEASE_S
from broadcaster.web.documents.schemas import (
    ClosedModel,
    GenerationFault,
    ResponseModel,
    Status,
    WebhookRequest,
    WebhookView,
    documented_as,
)

EVENT_SCHEMA: Final[dict[str, Any]] = {
    "type": "object",
    "required": ["type"],
    "properties": {"type": {"type": "string", "description": "a part type (`text-delta`, …) or `data-<name>`"}},
    "examples": [{"type": "data-progress", "id": "copy", "data": {"done": 3, "total": 10, "message": "copying"}}],
}
EVENTS_SCHEMA: Final[dict[str, Any]] = {
    "oneOf": [
        EVENT_SCHEMA,
        {"type": "array", "items": EVENT_SCHEMA, "minItems": 1, "maxItems": MAX_EVENTS_PER_APPEND},
    ]
}
END_SCHEMA: Final[dict[str, Any]] = {
    "type": ["object", "null"],
    "properties": {"type": {"enum": ["finish", "error", "abort"]}},
    "examples": [{"type": "finish"}, {"type": "error", "errorText": "the disk is full", "code": "disk_full"}, {}],
}


class FeedBody(ClosedModel):
    """The configuration of a feed; missing fields have the server's defaults. The same body creates the same feed."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{}, {"on_full": "trim", "max_events": 1000, "metadata": {"job": "42"}, "lease_s": 15}]
        },
    )

    retention_s: float | None = Field(None, gt=0, le=MAX_RETENTION_S, description="how long it is stored after its end")
    max_events: int | None = Field(None, ge=1, description="maximum of events")
    max_bytes: int | None = Field(None, ge=1, description="maximum of event bytes")
    on_full: Literal["refuse", "trim"] = Field(
        "refuse", description="trim: the oldest events go, and viewers behind get a gap"
    )
    metadata: dict[str, Any] = Field(default_factory=dict, description="the caller's own; returned unchanged")
    lease_s: float | None = Field(
        None,
        ge=MIN_LEASE_S,
        le=MAX_LEASE_S,
        description="a feed without a sign of a writer for so long ends with `error writer_lost`; signs are appends "
        "and repetitions of this request: send it every third of `lease_s`. null: no lease",
    )
    webhook: WebhookRequest | None = Field(None, description="called once it is over, signed, until delivered")


@documented_as("StreamState")
class StreamView(ResponseModel):
    """The state of a stream, a feed or a generation. Times are Unix seconds."""

    id: str
    kind: Literal["generation", "feed"]
    content_type: str | None = Field(description="of a Durable Stream (`/ds/`); null: any other stream")
    status: Status = Field(description="a feed is `running` until it is closed")
    first_seq: int = Field(description="of the oldest stored event; 0: no event is stored")
    last_seq: int
    last_id: str | None = Field(description="the cursor of the newest event")
    created_at: float
    ended_at: float | None
    metadata: dict[str, Any]
    events_url: str
    lease_s: float | None = Field(description="a feed without a sign of a writer for so long ends; null: no lease")
    webhook: WebhookView | None
    viewers: int = Field(description="connected viewers, over all front-ends")


class ClosedFeed(ResponseModel):
    """The outcome of a close, for a caller that may not watch the feed."""

    id: str
    kind: Literal["feed"]
    status: Status
    events_url: str


class StreamContentView(StreamView):
    """A stream with its content so far, folded from the log."""

    error: GenerationFault | None
    usage: dict[str, Any] | None
    text: str
    reasoning: str
    parts: list[dict[str, Any]] = Field(description="text, data parts, tool calls … in their order")
    truncated: bool = Field(description="events of the content are gone: the log has expired or was trimmed")


@documented_as("JobProgress")
class JobProgressView(ResponseModel):
    """The progress of a job, as a `data-progress` of its feed reports it."""

    model_config = ConfigDict(from_attributes=True)

    job: str = Field(description="the `id` of the event; empty without one")
    done: float
    total: float
    message: str


@documented_as("ListedStream")
class ListedStreamView(ResponseModel):
    """A generation or a feed in a list, without its content. Times are Unix seconds."""

    id: str
    kind: Literal["generation", "feed"]
    content_type: str | None = Field(description="of a Durable Stream (`/ds/`); null: any other stream")
    status: Status = Field(description="a feed is `running` until it is closed")
    title: str = Field(description="of a generation: the beginning of the last user message; of a feed: empty")
    model: str | None = Field(description="null for a feed")
    created_at: float
    active_at: float = Field(
        description="the last activity: of a feed its newest event; of a generation its end, or the start of its "
        "newest attempt"
    )
    ended_at: float | None
    viewers: int = Field(description="connected viewers, over all front-ends")
    last_id: str | None = Field(description="the cursor of the newest event")
    last_seq: int
    events_url: str
    error: GenerationFault | None
    progress: JobProgressView | None = Field(
        description="of a running feed, as the end of its log reports it: of the job without an id, else of the one "
        "that is furthest behind; null: none of its last 32 events (or 32 KiB of them) reports progress"
    )


@documented_as("StreamList")
class StreamPage(ResponseModel):
    """A page of the caller's streams, newest first."""

    streams: list[ListedStreamView]
    next_before: str | None = Field(description="`before` of the next page; null: this is the last one")


class AppendedView(ResponseModel):
    """The ids of the events of an append, in their order."""

    ids: list[str]
    last_id: str
    last_seq: int
