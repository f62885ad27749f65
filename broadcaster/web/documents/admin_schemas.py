"""The JSON of ``/v1/admin``. Times are Unix seconds of Redis's clock; what is not known is null."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from broadcaster.core.access.callers import Action
from broadcaster.web.documents.schemas import ResponseModel, Status


class CallerView(ResponseModel):
    """What the credential of this request allows."""

    tenant: str
    name: str = Field(description="the key's name; empty without keys")
    rights: list[Action]


class CountView(ResponseModel):
    """How often something happened in one process."""

    name: str
    count: int


class RunningView(ResponseModel):
    """A generation that a worker runs."""

    id: str
    model: str
    attempt: int
    granted_at: float = Field(description="when this attempt was granted to the worker")


class WorkerView(ResponseModel):
    """A worker. Without its report (it is silent, or of an earlier version) what only a report has is null."""

    id: str
    alive: bool
    silent_s: float | None = Field(description="of a worker without a valid heartbeat: since when")
    uptime_s: float | None
    draining: bool | None = Field(description="it takes no new generation")
    slots: int | None
    free: int | None = Field(description="generations that it could begin now")
    running: int | None
    limits: list[CountView] = Field(description="settings whose limit the worker has reached, since its start")
    generations: list[RunningView] = Field(description="the newest 50 of them")


class WorkerList(ResponseModel):
    """A page of workers, by name. A silent worker is listed for an hour."""

    now: float
    alive: int
    silent: int
    workers: list[WorkerView]
    next_after: str | None = Field(description="`after` of the next page; null: this is the last one")


class TenantQueueView(ResponseModel):
    """The waiting generations of one tenant."""

    tenant: str
    waiting: int
    oldest_wait_s: float = Field(description="how long the oldest of the tenant's next ten has waited")


class QueueView(ResponseModel):
    """What waits for workers, over all tenants."""

    now: float
    waiting: int = Field(description="for a worker")
    delayed: int = Field(description="for the end of a back-off between two attempts")
    running: int = Field(description="given to a worker")
    open: int = Field(description="all generations that are not over")
    dead_letters: int
    oldest_wait_s: float | None = Field(description="the longest of this page's tenants")
    tenants: list[TenantQueueView]
    next_after: str | None = Field(description="`after` of the next page; null: this is the last one")


class WatchedView(ResponseModel):
    """A stream that is watched at this front-end."""

    id: str
    tenant: str | None
    status: Status
    viewers: int
    behind: int = Field(description="viewers that have not been sent everything (of the first 1000 that may be)")
    lag: int = Field(description="the most events that one of them misses")
    last_seq: int
    stalled: str | None = Field(description="why nothing new comes although the stream has not ended")


class FrontEndView(ResponseModel):
    """One front-end process: the one that has responded. A balancer may send the next request to another."""

    name: str = Field(description="host and process")
    uptime_s: float
    draining: bool
    viewers: int
    max_viewers: int
    rooms: int
    room_bytes: int
    max_room_bytes: int
    json_bytes: int
    max_json_bytes: int
    streams: list[WatchedView]
    limits: list[CountView] = Field(description="settings whose limit was reached in this process, since its start")
    refused: list[CountView] = Field(description="refused requests by problem code, since its start")
    viewers_ended: list[CountView] = Field(description="viewers by the reason of their end, since its start")


class RedisServerView(ResponseModel):
    """A primary; what its INFO hides is null."""

    name: str
    fault: str | None = Field(description="why it does not answer now")
    round_trip_ms: float | None
    engine: str | None
    version: str | None
    used_bytes: int | None
    max_bytes: int | None = Field(description="0: only the machine's memory bounds it")
    policy: str | None
    replicas: int | None
    write_fault: str | None


class RedisView(ResponseModel):
    """Redis, as this front-end sees it."""

    kind: str
    steady: bool = Field(description="it has answered this front-end without a break for one lease")
    breaks: int = Field(description="since the start of this front-end")
    answered_s: float | None = Field(description="since the last break; null: there was none")
    primaries: int
    servers: list[RedisServerView] = Field(description="the first 64 of them")


class DeadLetterView(ResponseModel):
    """A generation that failed on every attempt."""

    id: str = Field(description="of the letter")
    generation_id: str
    at: float
    reason: str
    model: str | None
    can_requeue: bool = Field(description="false: its request has expired")


class DeadLetterList(ResponseModel):
    """A page of dead letters, the newest first."""

    dead_letters: list[DeadLetterView]
    next_before: str | None = Field(description="`before` of the next page; null: this is the last one")


class RequeuedView(ResponseModel):
    """A dead letter's new generation."""

    generation_id: str
    new_id: str
    created: bool = Field(description="false: an earlier requeue had started it")


class TimelineRow(ResponseModel):
    """One step of a generation. ``at`` is null where the log has no time."""

    id: str = Field(description="the cursor of its (first) entry")
    kind: Literal[
        "attempt", "accepted", "step", "step-end", "text", "reasoning", "tool-input", "tool-call", "tool-call-failed",
        "tool-result", "tool-failed", "usage", "other", "end",
    ]  # fmt: skip
    at: float | None = None
    events: int = Field(0, description="of output: consecutive events of this kind")
    attempt: int | None = None
    tool: str | None = None
    tool_call_id: str | None = None
    reason: str | None = Field(None, description="a code: why it ended, or why another attempt began")
    outcome: Literal["finish", "error", "abort"] | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None


class TimelineView(ResponseModel):
    """The course of a generation, and one page of its log."""

    id: str
    tenant: str
    model: str
    status: Status
    attempts: int
    worker: str | None = Field(description="of the newest attempt")
    created_at: float
    started_at: float | None
    ended_at: float | None
    stop_requested: bool
    rows: list[TimelineRow]
    next_after: str | None = Field(description="`after` of the next page; null: the log has no entry yet")
    is_last: bool = Field(description="the log has no more entries now; a running generation adds some later")
