"""Generations, streams and appends as the front-end's JSON describes them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from broadcaster.core.cursor import Cursor
from broadcaster.core.requests.progress import JobProgress
from broadcaster.core.status import OVER


class Fault(msgspec.Struct, frozen=True):
    """Why a generation failed: a stable code and a sentence for people."""

    code: str
    message: str = ""


class AnsweredBy(msgspec.Struct, frozen=True):
    """The provider and model of an answer that did not come from the first target at its first try."""

    provider: str
    model: str
    tries: int = 1


class Generation(msgspec.Struct, frozen=True, kw_only=True):
    """One generation. Times are Unix seconds; a field that is missing (lists have no texts) has its default.

    ``status`` is ``queued``, ``running``, ``finished``, ``failed`` or ``aborted``; ``usage`` and ``parts`` are as
    ``core.fold.FoldState`` describes them; fields of a newer front-end are ignored.
    """

    id: str
    status: str
    model: str = ""
    title: str = ""
    prompt: str = ""
    attempt: int = 0
    created_at: float | None = None
    started_at: float | None = None
    ended_at: float | None = None
    stop_requested: bool = False
    viewers: int = 0
    last_id: str | None = None
    last_seq: int = 0
    events_url: str = ""
    usage: dict[str, Any] | None = None
    answered_by: AnsweredBy | None = None
    provider_request_id: str | None = None
    text: str = ""
    reasoning: str = ""
    parts: list[dict[str, Any]] = []
    truncated: bool = False
    """Parts of the answer are gone: its log has expired or was trimmed."""
    error: Fault | None = None
    metadata: dict[str, Any] = {}
    """The metadata that the caller stored; lists leave it out."""

    @property
    def is_over(self) -> bool:
        """Whether the generation has ended, one way or another."""
        return self.status in OVER

    @property
    def cursor(self) -> Cursor | None:
        """The cursor of the newest entry; None before the first one. Raises BadCursor for a malformed one."""
        return None if self.last_id is None else Cursor.parse(self.last_id)


class GenerationList(msgspec.Struct, frozen=True):
    """One page of a list, newest first. ``next_before`` is the ``before`` of the next page; None: this is the last."""

    generations: list[Generation]
    next_before: str | None = None

    def __iter__(self) -> Iterator[Generation]:
        return iter(self.generations)

    def __len__(self) -> int:
        return len(self.generations)


class StreamState(msgspec.Struct, frozen=True, kw_only=True):
    """How a stream stands; ``kind`` is ``feed`` or ``generation``. Times are Unix seconds.

    ``status`` of a feed is ``running`` until it is closed, then ``finished``, ``failed`` or ``aborted``. ``first_seq``
    is 0 when the log holds no event of it. A feed with ``lease_s`` ends (``error writer_lost``) when no writer
    has renewed its lease for that long. ``creation`` names the creation of a feed: only what ``create_stream`` returns
    has it.
    """

    id: str
    kind: str
    status: str
    first_seq: int = 0
    last_seq: int = 0
    last_id: str | None = None
    created_at: float | None = None
    ended_at: float | None = None
    metadata: dict[str, Any] = {}
    events_url: str = ""
    lease_s: float | None = None
    creation: str | None = None
    content_type: str | None = None
    viewers: int = 0
    error: Fault | None = None
    usage: dict[str, Any] | None = None
    text: str = ""
    reasoning: str = ""
    parts: list[dict[str, Any]] = []
    truncated: bool = False
    """The content (``error`` to ``truncated``) is only in a response to ``AsyncClient.stream(id, parts=True)``. Events
    of it are gone if it is ``truncated``: the log has expired or was trimmed."""

    @property
    def is_over(self) -> bool:
        """Whether the stream has its terminal event."""
        return self.status in OVER


class ListedStream(msgspec.Struct, frozen=True, kw_only=True):
    """A generation or a feed in a list. Times are Unix seconds; ``active_at`` is that of the last activity.

    A feed has an empty ``title`` and no ``model``; a Durable Stream is a feed with a ``content_type``.
    """

    id: str
    kind: str
    status: str
    title: str = ""
    model: str | None = None
    content_type: str | None = None
    created_at: float | None = None
    active_at: float | None = None
    ended_at: float | None = None
    viewers: int = 0
    last_id: str | None = None
    last_seq: int = 0
    events_url: str = ""
    error: Fault | None = None
    progress: JobProgress | None = None
    """Of a running feed whose last events report it: of the job without an id, else of the one furthest behind."""

    @property
    def is_over(self) -> bool:
        """Whether the stream has its terminal event."""
        return self.status in OVER


class StreamList(msgspec.Struct, frozen=True):
    """One page of a list, newest first. ``next_before`` is the ``before`` of the next page; None: this is the last."""

    streams: list[ListedStream]
    next_before: str | None = None

    def __iter__(self) -> Iterator[ListedStream]:
        return iter(self.streams)

    def __len__(self) -> int:
        return len(self.streams)


class CreatedToken(msgspec.Struct, frozen=True, kw_only=True):
    """A viewer token, which is a secret, and its id, which is not. ``expires_at``: Unix seconds.

    ``events_url`` is the path of the stream's events with the token; None for a prefix, and without ``watch``.
    """

    token: str
    jti: str
    expires_at: float
    events_url: str | None = None


class WorkerState(msgspec.Struct, frozen=True, kw_only=True):
    """A worker, and what it reported a few seconds ago; what only a report has is None without one.

    ``silent_s``: for how long its heartbeat has been missing; None while it is alive.
    """

    id: str
    alive: bool
    silent_s: float | None = None
    uptime_s: float | None = None
    draining: bool | None = None
    slots: int | None = None
    free: int | None = None
    running: int | None = None


class WorkersPage(msgspec.Struct, frozen=True, kw_only=True):
    """One page of the workers, by name. ``next_after`` is the ``after`` of the next page; None: this is the last."""

    workers: list[WorkerState]
    alive: int
    silent: int
    next_after: str | None = None


class NamedModel(msgspec.Struct, frozen=True, kw_only=True):
    """A model that can be requested by this name."""

    id: str


class ModelsPage(msgspec.Struct, frozen=True, kw_only=True):
    """The models that a front-end lists."""

    data: list[NamedModel]


class QueueCounts(msgspec.Struct, frozen=True, kw_only=True):
    """Generations of all tenants: ``waiting`` for a worker, ``delayed`` before another attempt, ``running``.

    ``oldest_wait_s``: how long the oldest has waited; None when none waits.
    """

    waiting: int
    delayed: int
    running: int
    dead_letters: int
    oldest_wait_s: float | None = None


class Appended(msgspec.Struct, frozen=True, kw_only=True):
    """Where the appended events stand, in their order."""

    ids: list[str]
    last_id: str
    last_seq: int

    @property
    def cursors(self) -> Sequence[Cursor]:
        """The ids as cursors. Raises BadCursor for a malformed one."""
        return [Cursor.parse(id) for id in self.ids]
