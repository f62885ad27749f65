"""The JSON of feeds: what creates one, what an append answers, how any stream stands."""

from __future__ import annotations

from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from broadcaster.core.publishing import MAX_EVENTS_PER_APPEND
from broadcaster.log.feeds import MAX_LEASE_S, MIN_LEASE_S
from broadcaster.web.schemas import MAX_RETENTION_S, ClosedModel, Status

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
    """How a feed is kept; what is left out is the server's default. The same body again is the same feed."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{}, {"on_full": "trim", "max_events": 1000, "metadata": {"job": "42"}, "lease_s": 15}]
        },
    )

    retention_s: float | None = Field(None, gt=0, le=MAX_RETENTION_S, description="how long it is kept after its end")
    max_events: int | None = Field(None, ge=1, description="most events it holds")
    max_bytes: int | None = Field(None, ge=1, description="most event bytes it holds")
    on_full: Literal["refuse", "trim"] = Field("refuse", description="trim: the oldest go, and who is behind is told")
    metadata: dict[str, Any] = Field(default_factory=dict, description="the caller's own; comes back untouched")
    lease_s: float | None = Field(
        None,
        ge=MIN_LEASE_S,
        le=MAX_LEASE_S,
        description="when no writer was heard for so long, the feed ends with `error writer_lost`; every append is "
        "heard, and this request again: send it every third of `lease_s`. null: it outlives its writers",
    )


class StreamState(BaseModel):
    """A stream in short, of a feed or of a generation. Times are Unix seconds."""

    id: str
    kind: Literal["generation", "feed"]
    status: Status = Field(description="a feed is `running` until it is closed")
    first_seq: int = Field(description="of the oldest event that is still held; 0: none is")
    last_seq: int
    last_id: str | None = Field(description="the cursor of the newest event")
    created_at: float
    ended_at: float | None
    metadata: dict[str, Any]
    events_url: str
    lease_s: float | None = Field(
        description="a feed ends when none of its writers was heard for so long; null: it does not"
    )
    viewers: int = Field(description="connections that watch now, over all front-ends")


class AppendedView(BaseModel):
    """Where the events of an append stand, in their order."""

    ids: list[str]
    last_id: str
    last_seq: int
