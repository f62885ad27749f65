"""What the surfaces share: a generation is asked for, and streamed or waited for.

Rules
0. A refused call costs nothing: the caller's place is taken before its generation is created, and what could not be
   streamed after all is deleted. SDKs repeat a refused call by themselves, and would pay for each of them.
1. A surface's stream begins with a prelude: who asks again with the same Idempotency-Key, or comes late in any other
   way, gets a short valid opening instead of everything that was sent before.
2. What passes (overload, drain, a log that does not answer) is an error status here: the SDKs come again by
   themselves. Once a stream has begun it is told inside, in the dialect's own words.
3. Who waits without a stream waits for the end, however long it takes; its generation has a deadline of its own.
   Hanging up gives the place back.
4. A client that disconnects from an API through which it cannot come back wants no more of the answer
   (``stops_on_disconnect``): it is stopped after a short grace, unless another viewer watches. A response that this
   front-end ends is no disconnect.
5. What goes wrong once the generation has begun names it in the header of every error.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, nullcontext, suppress
from functools import partial
from typing import Any, Final, NamedTuple

from fastapi import Request, Response

from broadcaster.core.cursor import START, Cursor
from broadcaster.core.entry import Entry
from broadcaster.dialects import Dialect
from broadcaster.errors import BroadcasterError, Busy, UnknownModel, UnknownStream, naming
from broadcaster.hub.places import Place
from broadcaster.hub.resolve import Finished
from broadcaster.hub.transcribed import TranscribedViewer
from broadcaster.log.generations import GenerationRequest
from broadcaster.log.streams import Meta
from broadcaster.web.heads import end_without_content
from broadcaster.web.joining import created_meta, join_stream
from broadcaster.web.problems import GENERATION_ID_HEADER
from broadcaster.web.services import Services
from broadcaster.web.sse import EventStreamResponse
from broadcaster.web.views import READ_AT_ONCE
from broadcaster.web.waiting import wait_for_end

FAILED_FOR_GOOD: Final = frozenset({"provider_bad_request", "provider_auth", "unknown_tool", "tool_outcome_unknown"})
"""Codes of failed generations that the same request would meet again, or must not be sent again for."""
UNDO_S: Final = 2.0
"""Longest wait of a refused caller for the end of what is deleted."""


def whole_or_streamed(description: str) -> dict[str, Any]:
    """The OpenAPI of an answer that comes as one object, or as events where the body asks for them."""
    return {
        "description": description,
        "content": {
            "application/json": {"schema": {"type": "object"}},
            "text/event-stream": {"schema": {"type": "string"}},
        },
        "headers": {GENERATION_ID_HEADER: {"schema": {"type": "string"}}},
    }


def retry_after(wait_s: float | None) -> dict[str, str]:
    """The header that says when to come again: whole seconds, and never early; none when that is not known."""
    return {} if wait_s is None else {"retry-after": str(math.ceil(wait_s))}


class Call(NamedTuple):
    """A generation that was asked for, and its caller's place (None: it does not stay)."""

    meta: Meta
    place: Place | None = None
    stops_on_disconnect: bool = False


@asynccontextmanager
async def started(
    services: Services,
    wish: GenerationRequest,
    *,
    tenant: str,
    as_stream: bool,
    in_background: bool = False,
    stops_on_disconnect: bool = False,
    idempotency_key: str | None = None,
) -> AsyncIterator[Call]:
    """The generation that was asked for, or that the same key had asked for before, for the block that answers.

    Raises UnknownModel, and what ``Hub.reserve`` and ``Generations.create`` raise.
    """
    try:
        services.routes.provider_for(wish.model)
    except UnknownModel:
        raise UnknownModel("no route of this server serves the model that was asked for") from None
    stays = as_stream or not in_background
    with services.hub.reserve(tenant, waits=not as_stream) if stays else nullcontext() as place:
        created = await services.generations.create(
            wish, tenant=tenant, idempotency_key=idempotency_key, is_watched=stays
        )
        services.answer_with(created.id, key=idempotency_key)
        if place is not None and as_stream and stops_on_disconnect:
            place.on_gone = partial(services.departed, created.id)
        try:
            with naming(created.id):
                meta = await created_meta(services, created, tenant=tenant)
                yield Call(meta, place, stops_on_disconnect)
        except Busy as refusal:
            if as_stream and created.created and idempotency_key is None:
                await _undo(services, created.id, refusal, tenant=tenant)
            raise


async def _undo(services: Services, generation_id: str, refusal: Busy, *, tenant: str) -> None:
    """The caller is refused after all (a drain began, Redis went away), and may come again: delete what was created."""
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
    """The generation in this dialect, whole, however late, or what follows ``cursor``; ``place``: see `join_stream`.

    204 when the cursor is the end's own.

    With ``request`` and ``refused`` the head waits (web/heads.py), and ``refused`` makes the response to a request
    whose generation failed before its first content.
    Raises Busy and LogUnavailable (rule 2), UnknownStream.
    """
    with naming(meta.id):
        viewer = await join_stream(services, meta, cursor=cursor, encoder=dialect, place=place)
        if isinstance(viewer, Finished):  # never without a cursor
            return Response(status_code=204, headers={GENERATION_ID_HEADER: meta.id})
        if request is not None and refused is not None and isinstance(viewer, TranscribedViewer):
            entries = await end_without_content(viewer, request, wait_s=services.head_wait_s)
            if entries is not None:
                return refused(entries)
    return EventStreamResponse(viewer, generation_id=meta.id, headers=headers)


async def whole(services: Services, request: Request, call: Call) -> Sequence[Entry]:
    """All entries of the generation, once it is over (rule 3).

    Raises Busy when this front-end drains; LogUnavailable; UnknownStream.
    """
    meta, place, stops_on_disconnect = call
    assert place is not None
    with naming(meta.id):
        while True:
            # Its end is in the log before it is in meta: who is over by a meta that was read first has a whole log.
            entries = await read_all(services, meta.id)
            if entries and entries[-1].is_terminal:
                return entries
            if meta.is_over:
                await services.check_gone()
                raise UnknownStream("the answer is kept no longer")
            if services.draining.is_set():
                raise Busy("this front-end is draining; the generation goes on")
            if await request.is_disconnected():
                if stops_on_disconnect:
                    services.departed(meta.id)
                raise Busy("the client has disconnected")
            wait_s = services.long_poll_timeout_s
            await wait_for_end(services, request, generation_id=meta.id, wait_s=wait_s, place=place)
            meta = await services.generations.get(meta.id, tenant=meta.tenant)


async def read_all(services: Services, stream_id: str) -> list[Entry]:
    """Everything that the log holds; its terminal alone when it has expired."""
    entries: list[Entry] = []
    last: Cursor = START
    while page := await services.streams.read(stream_id, after=last, count=READ_AT_ONCE):
        entries += page
        last = page[-1].cursor
        if len(page) < READ_AT_ONCE:
            break
    return entries
