"""What the surfaces share: a generation is asked for, and streamed or waited for.

Rules
1. A surface's stream begins with a prelude: who asks again with the same Idempotency-Key, or comes late in any other
   way, gets a short valid opening instead of everything that was sent before.
2. What passes (overload, drain, a log that does not answer) is an error status here: the SDKs come again by
   themselves. Once a stream has begun it is told inside, in the dialect's own words.
3. Who waits without a stream waits for the end, however long it takes; its generation has a deadline of its own.
   Hanging up gives the place back.
4. What goes wrong once the generation has begun names it in the header of every error.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from fastapi import Request, Response

from broadcaster.core.cursor import START, Cursor
from broadcaster.core.entry import Entry
from broadcaster.dialects import Dialect
from broadcaster.errors import Busy, UnknownModel, UnknownStream, naming
from broadcaster.hub.resolve import Finished
from broadcaster.log.generations import GenerationRequest
from broadcaster.log.streams import Meta
from broadcaster.web.joining import join_stream
from broadcaster.web.problems import GENERATION_ID_HEADER
from broadcaster.web.services import Services
from broadcaster.web.sse import EventStreamResponse
from broadcaster.web.views import READ_AT_ONCE
from broadcaster.web.waiting import wait_for_end

FAILED_FOR_GOOD: Final = frozenset({"provider_bad_request", "provider_auth", "unknown_tool", "tool_outcome_unknown"})
"""Codes of failed generations that the same request would meet again, or must not be sent again for."""


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


async def start(
    services: Services, wish: GenerationRequest, *, tenant: str, idempotency_key: str | None = None
) -> Meta:
    """The generation that was asked for, or that the same key had asked for before.

    Raises UnknownModel, and what ``Generations.create`` raises.
    """
    try:
        services.routes.provider_for(wish.model)
    except UnknownModel:
        raise UnknownModel("no route of this server serves the model that was asked for") from None
    created = await services.generations.create(wish, tenant=tenant, idempotency_key=idempotency_key, is_watched=True)
    with naming(created.id):
        return await services.generations.get(created.id, tenant=tenant)


async def stream(
    services: Services, meta: Meta, *, dialect: Dialect, headers: Mapping[str, str] | None = None
) -> Response:
    """The generation in this dialect, whole, however late. Raises Busy and LogUnavailable (rule 2), UnknownStream."""
    with naming(meta.id):
        viewer = await join_stream(services, meta, cursor=None, encoder=dialect)
        if isinstance(viewer, Finished):  # never without a cursor
            raise UnknownStream("the stream is kept no longer")
    return EventStreamResponse(viewer, generation_id=meta.id, headers=headers)


async def whole(services: Services, request: Request, meta: Meta) -> Sequence[Entry]:
    """All entries of the generation, once it is over (rule 3).

    Raises Busy when (1) this front-end drains or (2) nobody more may wait here; LogUnavailable; UnknownStream.
    """
    with naming(meta.id):
        while True:
            # Its end is in the log before it is in meta: who is over by a meta that was read first has a whole log.
            entries = await read_all(services, meta.id)
            if entries and entries[-1].is_terminal:
                return entries
            if meta.is_over:
                raise UnknownStream("the answer is kept no longer")
            if services.draining.is_set() or await request.is_disconnected():
                raise Busy("this front-end is draining; the generation goes on")
            await wait_for_end(services, request, generation_id=meta.id, wait_s=services.long_poll_timeout_s)
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
