"""The common path of the surfaces: a generation is started, and streamed or waited for.

Rules
0. A refused call costs nothing: the caller's place is taken before its generation is created, and a generation that
   cannot be streamed after all is deleted. SDKs repeat a refused call by themselves, and would pay for each repetition.
1. A surface's stream begins with a snapshot: a client that repeats its Idempotency-Key, or joins late in any other way,
   gets a short valid opening instead of everything that was sent before.
2. A temporary failure (overload, drain, a Redis that does not respond) is an error status here: the SDKs retry by
   themselves. Within a stream that has begun, it is sent in the dialect's own terms.
3. A caller without a stream waits for the end, however long it takes; its generation has a deadline of its own.
   A caller that disconnects gives its place back.
4. A client that disconnects from an API without a way to resume does not want the rest of the answer
   (``stops_on_disconnect``): the generation is stopped after a short grace, unless another viewer watches. A response
   that this front-end ends is not a disconnect.
5. Errors after the start of a generation name it in their header.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager, nullcontext, suppress
from dataclasses import replace
from functools import partial
from typing import Any, Final, NamedTuple

from fastapi import Request, Response

from broadcaster.core.cursor import Cursor
from broadcaster.core.entry import Entry
from broadcaster.core.events import Error, read_event
from broadcaster.core.providers.request_ids import request_id_of
from broadcaster.dialects import Dialect
from broadcaster.errors import BroadcasterError, Busy, naming
from broadcaster.hub.places import Place
from broadcaster.hub.replay.resolve import Finished
from broadcaster.hub.stop_reasons import Refused
from broadcaster.hub.viewer import Viewer
from broadcaster.log.jobs.generations import GenerationRequest
from broadcaster.log.streams.pages import WholeCheck, read_pages
from broadcaster.log.streams.reader import Meta
from broadcaster.web.documents.problems import GENERATION_ID_HEADER, PROVIDER_REQUEST_ID_HEADER, ClientLeft
from broadcaster.web.services import Arrival, Services
from broadcaster.web.surfaces.sdk_request import SdkRequest
from broadcaster.web.viewing.joining import EXPIRED, check_kept, created_meta, join_stream
from broadcaster.web.viewing.sse import EventStreamResponse
from broadcaster.web.viewing.waiting import end_without_content, wait_for_end

FAILED_FOR_GOOD: Final = frozenset({"provider_bad_request", "provider_auth", "unknown_tool", "tool_outcome_unknown"})
"""Codes of failed generations whose request would fail again, or must not be repeated."""
NAMING_HEADERS: Final[dict[str, Any]] = {
    GENERATION_ID_HEADER: {"schema": {"type": "string"}},
    PROVIDER_REQUEST_ID_HEADER: {
        "description": "the provider's own id of its request, as far as it is known when the head is sent",
        "schema": {"type": "string"},
    },
}
"""The OpenAPI of ``naming_headers``."""
UNDO_S: Final = 2.0
"""Longest wait of a refused caller for the end of what is deleted."""


def whole_or_streamed(description: str) -> dict[str, Any]:
    """The OpenAPI of an answer as one object, or as events if the body requests them."""
    return {
        "description": description,
        "content": {
            "application/json": {"schema": {"type": "object"}},
            "text/event-stream": {"schema": {"type": "string"}},
        },
        "headers": NAMING_HEADERS,
    }


def naming_headers(meta: Meta, entries: Iterable[Entry]) -> dict[str, str]:
    """The headers that name the generation, and the request to its provider where the entries hold its id."""
    request_id = request_id_of(entries)
    named = {} if request_id is None else {PROVIDER_REQUEST_ID_HEADER: request_id}
    return {GENERATION_ID_HEADER: meta.id, **named}


def retry_after(wait_s: float | None) -> dict[str, str]:
    """The header with the time of the next try: whole seconds, never early; no header if the time is unknown."""
    return {} if wait_s is None else {"retry-after": str(math.ceil(wait_s))}


class StartedGeneration(NamedTuple):
    """A generation, and its caller's place (None: the caller does not stay)."""

    meta: Meta
    place: Place | None = None
    stops_on_disconnect: bool = False


@asynccontextmanager
async def started(
    here: Arrival,
    generation: GenerationRequest,
    *,
    as_stream: bool,
    in_background: bool = False,
    stops_on_disconnect: bool = False,
    idempotency_key: str | None = None,
) -> AsyncIterator[StartedGeneration]:
    """The new generation, or that of an earlier request with the same key, for the block that responds.

    Raises UnknownModel, and what ``Hub.reserve`` and ``Services.create`` raise.
    """
    services, tenant, _ = here
    services.routes.provider_for(generation.model)  # raises UnknownModel
    generation = replace(generation, priority=services.priority)
    stays = as_stream or not in_background
    with services.reserve(tenant, waits=not as_stream) if stays else nullcontext() as place:
        created = await services.create(generation, tenant=tenant, idempotency_key=idempotency_key, is_watched=stays)
        if place is not None and as_stream and stops_on_disconnect:
            place.on_gone = partial(services.departed, created.id)
        try:
            with naming(created.id), services.expected(created.id):
                meta = await created_meta(services, created, tenant=tenant)
                yield StartedGeneration(meta, place, stops_on_disconnect)
        except Busy as refusal:
            if as_stream and created.created and idempotency_key is None:
                await undo(services, created.id, refusal, tenant=tenant)
            raise


async def answer(
    caller: SdkRequest,
    generation: GenerationRequest,
    *,
    dialect: Dialect,
    as_stream: bool,
    respond: Callable[[Meta, Sequence[Entry]], Response],
) -> Response:
    """The response to a request in an API that cannot resume: the stream in ``dialect``, or one whole answer.

    ``respond`` makes the whole answer from all entries, or the error with which the generation ended. Raises what
    ``started``, ``stream`` and ``whole`` raise.
    """
    services = caller.here.services
    async with started(
        caller.here,
        replace(generation, on_abandon=caller.on_abandon),
        as_stream=as_stream,
        stops_on_disconnect=caller.stops_on_disconnect,
        idempotency_key=caller.idempotency_key,
    ) as call:
        responding = partial(respond, call.meta)
        if as_stream:
            return await stream(
                services, call.meta, dialect=dialect, place=call.place, request=caller.http, refused=responding
            )
        entries = await whole(services, caller.http, call)
    return responding(entries)


async def undo(services: Services, generation_id: str, refusal: Busy, *, tenant: str) -> None:
    """Delete the generation of a caller that is refused after all (a drain, a lost Redis), and may retry."""
    with suppress(BroadcasterError):  # at worst it ends as abandoned
        await services.generations.delete(generation_id, tenant=tenant, timeout_s=UNDO_S)
        refusal.generation_id = None


async def stream(
    services: Services,
    meta: Meta,
    *,
    dialect: Dialect,
    cursor: Cursor | None = None,
    headers: Mapping[str, str] | None = None,
    place: Place | None = None,
    request: Request | None = None,
    refused: Callable[[Sequence[Entry]], Response] | None = None,
) -> Response:
    """The generation in this dialect, from its beginning or after ``cursor``; ``place``: see `join_stream`.

    204 when the cursor is the terminal event's own.

    With ``request`` and ``refused`` the head waits (web/viewing/waiting.py), and ``refused`` makes the
    response to a request whose generation failed before its first content.
    Raises Busy and LogUnavailable (rule 2), UnknownStream.
    """
    with naming(meta.id):
        viewer = await join_stream(services, meta, cursor=cursor, dialect=dialect, place=place)
        if isinstance(viewer, Finished):  # never without a cursor
            return Response(status_code=204, headers={GENERATION_ID_HEADER: meta.id})
        if request is not None and refused is not None and isinstance(viewer, Viewer):
            entries = await end_without_content(viewer, request, wait_s=services.head_wait_s)
            if entries is not None:
                return refused(entries)
    return streamed(viewer, meta, headers=headers)


def streamed(viewer: Viewer | Refused, meta: Meta, *, headers: Mapping[str, str] | None = None) -> Response:
    """This viewer's response, with the headers that name what it streams."""
    opening = viewer.first_entries() if isinstance(viewer, Viewer) else ()
    return EventStreamResponse(viewer, headers={**(headers or {}), **naming_headers(meta, opening)}, meta=meta)


async def whole(services: Services, request: Request, call: StartedGeneration) -> Sequence[Entry]:
    """All entries of the generation, once it is over (rule 3); of a failure whose log has expired, its error.

    Raises Busy when this front-end drains; ClientLeft; LogUnavailable; UnknownStream when the answer of an earlier
    request with the same key has expired.
    """
    meta, place, stops_on_disconnect = call
    assert place is not None
    with naming(meta.id):
        while True:
            # The end is in the log before it is in meta: if the meta read first is over, the log is complete.
            entries, is_whole = await read_all(services, meta.id)
            has_ended = bool(entries) and entries[-1].is_terminal
            if has_ended or meta.is_over:
                if not (has_ended and is_failure(entries[-1])):
                    await check_kept(services, is_whole=is_whole and has_ended, detail=EXPIRED)
                return entries
            if services.draining.is_set():
                raise Busy("this front-end is draining; the generation continues")
            if await request.is_disconnected():
                if stops_on_disconnect:
                    services.departed(meta.id)
                raise ClientLeft
            wait_s = services.long_poll_timeout_s
            await wait_for_end(services, request, generation_id=meta.id, wait_s=wait_s, place=place)
            meta = await services.generations.get(meta.id, tenant=meta.tenant)


def is_failure(end: Entry) -> bool:
    """Whether this terminal event is an error, which is a response without the entries before it."""
    return isinstance(read_event(end.event), Error)


class ReadLog(NamedTuple):
    """All entries that a log has, its terminal alone when it has expired; ``is_whole``: see `WholeCheck`."""

    entries: list[Entry]
    is_whole: bool


async def read_all(services: Services, stream_id: str) -> ReadLog:
    """Read the log page by page. Raises LogUnavailable."""
    entries, check = list[Entry](), WholeCheck()
    async for page in read_pages(services.reader, stream_id):
        for entry in page:
            check.take(entry)
        entries += page
    return ReadLog(entries, check.is_whole)
