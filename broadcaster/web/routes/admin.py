"""``/v1/admin``: what an operator sees over all tenants, and the requeue of dead letters; ``/v1/caller``.

Rules
1. Every route needs the right ``admin`` (guards/callers.py), and none of them exists in a host's app.
2. A response is bounded: lists have pages, and a page costs one or two round trips, however much Redis holds.
3. Nothing shows what callers have sent or models have written: ids, names, codes, numbers and times alone.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping
from typing import Annotated, Final, Literal, cast

from fastapi import Path, Query, Request

from broadcaster.core.access.callers import CALLER_KEY, Action, Caller
from broadcaster.core.cursor import START, Cursor
from broadcaster.core.requests.stream_ids import public_id
from broadcaster.log.inspection.server_state import ServerState
from broadcaster.log.inspection.worker_reports import ListedWorker
from broadcaster.observability.limits import REACHED
from broadcaster.web.documents import admin_schemas as schemas
from broadcaster.web.documents.problems import problem_responses
from broadcaster.web.documents.schemas import Status
from broadcaster.web.documents.timeline import timeline_rows
from broadcaster.web.here import Here
from broadcaster.web.route_table import RouteTable
from broadcaster.web.services import Services

WORKERS_AT_MOST: Final = 50
TENANTS_AT_MOST: Final = 50
STREAMS_AT_MOST: Final = 100
LETTERS_AT_MOST: Final = 100
ENTRIES_AT_MOST: Final = 1000
_COUNTS_SHOWN: Final = 50
_NAME: Final = 200

_PageSize = Query(ge=1, description="most rows of this page")
_REFUSED: Final = ("invalid_request", "log_unavailable")

routes = RouteTable(prefix="/v1", tag="admin")


@routes.get("/caller", summary="What your credential allows", responses=problem_responses())
async def get_caller(request: Request, here: Here) -> schemas.CallerView:
    """Without keys, every caller on this machine is the operator."""
    caller: Caller | None = request.scope.get(CALLER_KEY)
    if caller is None:
        actions = frozenset(Action)
    elif caller.grants is None:
        actions = caller.actions
    else:
        actions = frozenset().union(*(grant.actions for grant in caller.grants))
    rights = [action for action in Action if action in actions]
    return schemas.CallerView(tenant=here.tenant, name="" if caller is None else caller.name, rights=rights)


@routes.get("/admin/workers", summary="Workers and what they run", responses=problem_responses(*_REFUSED))
async def list_workers(
    here: Here,
    limit: Annotated[int, _PageSize, Query(le=WORKERS_AT_MOST)] = WORKERS_AT_MOST,
    after: Annotated[str, Query(max_length=_NAME, description="`next_after` of the page before")] = "",
) -> schemas.WorkerList:
    """Every worker whose heartbeat counts, and for an hour those that are silent. A report is a few seconds old."""
    page = await here.services.operations.workers(limit=limit, after=after)
    return schemas.WorkerList(
        now=page.now_ms / 1000,
        alive=page.alive,
        silent=page.silent,
        workers=[_worker(each) for each in page.workers],
        next_after=page.next_after,
    )


def _worker(worker: ListedWorker) -> schemas.WorkerView:
    report = worker.report
    return schemas.WorkerView(
        id=worker.id,
        alive=worker.is_alive,
        silent_s=None if worker.is_alive else -worker.heartbeat_left_ms / 1000,
        uptime_s=None if report is None else report.uptime_s,
        draining=None if report is None else report.is_draining,
        slots=None if report is None else report.slots,
        free=None if report is None else report.free,
        running=None if report is None else report.running,
        limits=_counts({} if report is None else report.limits),
        generations=[
            schemas.RunningView(id=each.id, model=each.model, attempt=each.attempt, granted_at=each.granted_ms / 1000)
            for each in ([] if report is None else report.attempts)
        ],
    )


@routes.get("/admin/queue", summary="What waits for workers", responses=problem_responses(*_REFUSED))
async def get_queue(
    here: Here,
    limit: Annotated[int, _PageSize, Query(le=TENANTS_AT_MOST)] = TENANTS_AT_MOST,
    after: Annotated[
        str | None, Query(max_length=_NAME, pattern=r"^[^ !]*$", description="`next_after` of the page before")
    ] = None,
) -> schemas.QueueView:
    """Counts over all tenants, and the tenants that have waiting generations, by name."""
    state = await here.services.operations.queue(limit=limit, after=after)
    waits_s = [each.oldest_ms / 1000 for each in state.tenants]
    return schemas.QueueView(
        now=state.now_ms / 1000,
        waiting=state.waiting,
        delayed=state.delayed,
        running=state.running,
        open=state.open,
        dead_letters=state.dead,
        oldest_wait_s=max(waits_s, default=None),
        tenants=[
            schemas.TenantQueueView(tenant=each.tenant, waiting=each.waiting, oldest_wait_s=wait_s)
            for each, wait_s in zip(state.tenants, waits_s, strict=True)
        ],
        next_after=state.next_after,
    )


@routes.get("/admin/front-end", summary="This front-end", responses=problem_responses(*_REFUSED))
async def get_front_end(
    here: Here,
    order: Annotated[Literal["viewers", "lag"], Query(description="which streams come first")] = "viewers",
    limit: Annotated[int, _PageSize, Query(le=STREAMS_AT_MOST)] = 20,
) -> schemas.FrontEndView:
    """The process that responds: its viewers, its most watched streams, and the limits that were reached here."""
    services = here.services
    hub, now = services.hub, services.hub.statistics()
    refused = {} if services.record is None else services.record.refusal_counts
    return schemas.FrontEndView(
        name=f"{socket.gethostname()[:32]}.{os.getpid()}",
        uptime_s=time.monotonic() - services.opened_at,
        draining=services.draining.is_set() or hub.is_draining,
        viewers=now.viewers,
        max_viewers=hub.limits.max_viewers,
        rooms=now.rooms,
        room_bytes=now.bytes,
        max_room_bytes=hub.limits.hub_bytes,
        json_bytes=services.json_ledger.used_bytes,
        max_json_bytes=services.json_ledger.max_bytes,
        streams=await _watched(services, limit, by_lag=order == "lag"),
        limits=_counts(REACHED),
        refused=_counts(refused),
        viewers_ended=_counts({reason.code: count for reason, count in now.stopped.items()}),
    )


async def _watched(services: Services, limit: int, *, by_lag: bool) -> list[schemas.WatchedView]:
    streams = services.hub.most_watched(limit, by_lag=by_lag)
    owners = await services.streams.owners([each.stream_id for each in streams]) if streams else []
    return [
        schemas.WatchedView(
            id=public_id(each.stream_id),
            tenant=owner,
            status=cast(Status, each.status),
            viewers=each.viewers,
            behind=each.behind,
            lag=each.lag,
            last_seq=each.last_seq,
            stalled=each.stall,
        )
        for each, owner in zip(streams, owners, strict=True)
    ]


def _counts(counts: Mapping[str, int]) -> list[schemas.CountView]:
    """Those that are not zero, the most frequent first."""
    happened = ((name, count) for name, count in counts.items() if count)
    most = sorted(happened, key=lambda each: (-each[1], each[0]))[:_COUNTS_SHOWN]
    return [schemas.CountView(name=name, count=count) for name, count in most]


@routes.get("/admin/redis", summary="Redis, as this front-end sees it", responses=problem_responses(*_REFUSED))
async def get_redis(here: Here) -> schemas.RedisView:
    """Topology, memory, version and response time of each primary, and whether Redis has answered without a break."""
    steady = here.services.operations.steadiness()
    states = await here.services.operations.servers()
    return schemas.RedisView(
        kind=states.kind.value,
        steady=steady.is_steady,
        breaks=steady.breaks,
        answered_s=steady.answered_s,
        primaries=states.primaries,
        servers=[_server(each) for each in states.servers],
    )


def _server(state: ServerState) -> schemas.RedisServerView:
    facts = state.facts
    return schemas.RedisServerView(
        name=state.name,
        fault=state.fault,
        round_trip_ms=state.round_trip_ms,
        engine=facts["engine"],
        version=".".join(map(str, facts["version"])) or None,
        used_bytes=facts["used_bytes"],
        max_bytes=facts["max_bytes"],
        policy=facts["policy"],
        replicas=facts["replicas"],
        write_fault=facts["write_fault"],
    )


@routes.get("/admin/dead-letters", summary="Dead letters", responses=problem_responses(*_REFUSED))
async def list_dead_letters(
    here: Here,
    limit: Annotated[int, _PageSize, Query(le=LETTERS_AT_MOST)] = 20,
    before: Annotated[
        str | None, Query(pattern=r"^[0-9]{1,18}-[0-9]{1,18}$", description="`next_before` of the page before")
    ] = None,
) -> schemas.DeadLetterList:
    """Generations of all tenants that failed on every attempt, the newest first."""
    page = await here.services.operations.dead_letters(limit=limit, before=before)
    return schemas.DeadLetterList(
        dead_letters=[
            schemas.DeadLetterView(
                id=each.entry_ids[0],
                generation_id=each.generation_id,
                at=each.at_ms / 1000,
                reason=each.reason,
                model=each.model,
                can_requeue=each.can_requeue,
            )
            for each in page.letters
        ],
        next_before=page.next_before,
    )


@routes.post(
    "/admin/dead-letters/{letter_id}/requeue",
    summary="Requeue a dead letter",
    responses=problem_responses(*_REFUSED, "unknown_stream", "tenant_limit", "queue_full", "idempotency_mismatch"),
)
async def requeue_dead_letter(
    here: Here,
    letter_id: Annotated[str, Path(pattern=r"^[0-9]{1,18}-[0-9]{1,18}$", description="the `id` of the letter")],
) -> schemas.RequeuedView:
    """Starts a new generation with the same request, for the same tenant, and removes the letter.

    However often it is repeated, it starts one generation.
    """
    services = here.services
    letter, created = await services.operations.requeue(letter_id)
    services.note_created(created, model=letter.model or "", key=f"dead:{letter.generation_id}")
    return schemas.RequeuedView(generation_id=letter.generation_id, new_id=created.id, created=created.created)


@routes.get(
    "/admin/generations/{generation_id}/timeline",
    summary="The course of a generation",
    responses=problem_responses(*_REFUSED, "unknown_stream", "bad_cursor", "tenant_limit", "busy"),
)
async def get_timeline(
    here: Here,
    generation_id: Annotated[str, Path(description="the id of any tenant's generation")],
    after: Annotated[str | None, Query(max_length=_NAME, description="`next_after` of the page before")] = None,
    limit: Annotated[int, Query(ge=1, le=ENTRIES_AT_MOST, description="most entries of the log")] = ENTRIES_AT_MOST,
) -> schemas.TimelineView:
    """Attempts, steps, tools and the end, in the order of the log, without any content.

    Only the grant of an attempt has a time in the log; creation, first start and end have theirs beside it.
    """
    services = here.services
    cursor = START if after is None else Cursor.parse(after)
    meta = await services.operations.generation(generation_id)
    entries = await services.reader.read(meta.id, after=cursor, count=limit)
    last = entries[-1].cursor if entries else cursor
    return schemas.TimelineView(
        id=meta.public_id,
        tenant=meta.tenant,
        model=meta.model,
        status=cast(Status, meta.status),
        attempts=meta.attempts,
        worker=meta.worker,
        created_at=meta.created_ms / 1000,
        started_at=None if meta.started_ms is None else meta.started_ms / 1000,
        ended_at=None if meta.ended_ms is None else meta.ended_ms / 1000,
        stop_requested=meta.stop is not None,
        rows=timeline_rows(entries, after=cursor),
        next_after=None if last == START else str(last),
        is_last=len(entries) < limit,
    )
