"""A stored generation as a Response: what its surface keeps of the request, and what it builds on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec
from fastapi import Response
from starlette.responses import JSONResponse

from broadcaster.core.cursor import Cursor
from broadcaster.core.entry import Entry
from broadcaster.core.passed_headers import SURFACE
from broadcaster.dialects.openai_chat_refusal import ItemNotFound, Refused
from broadcaster.dialects.openai_responses_ask import SURFACE_NAME
from broadcaster.dialects.openai_responses_encode import RESPONSES, Cancel, ResponsesDialect
from broadcaster.dialects.openai_responses_ids import generation_of, reference_of
from broadcaster.dialects.openai_responses_input import answer_of
from broadcaster.dialects.openai_responses_object import stream_id_of
from broadcaster.dialects.openai_responses_request import responses_input
from broadcaster.dialects.reading import Json
from broadcaster.errors import UnknownStream
from broadcaster.log.streams import Meta
from broadcaster.web.problems import GENERATION_ID_HEADER
from broadcaster.web.services import Services
from broadcaster.web.surfaces.answering import read_all
from broadcaster.web.views import READ_AT_ONCE

_json: Final = msgspec.json.Encoder(order="deterministic")
_KNOWN_ENDS: Final = frozenset({"completed", "incomplete"})


def shown_of(meta: Meta) -> Json:
    """What the Response repeats of its request; of one that another surface made, its model alone."""
    surface = meta.request.get(SURFACE)
    is_ours = isinstance(surface, Mapping) and surface.get("name") == SURFACE_NAME
    told = dict(surface["shown"]) if is_ours and surface is not None else {"model": meta.model, "background": True}
    return {**told, "created_at": meta.created_ms // 1000}


def dialect_of(meta: Meta, *, cancel: Cancel = "incomplete") -> ResponsesDialect:
    """The dialect in which all front-ends send this generation.

    The reader of a Response in the background asked to be able to resume: it reads a new attempt on the same stream.
    """
    shown = _json.encode(shown_of(meta)).decode()
    return ResponsesDialect(shown=shown, cancel=cancel, restarts=is_background(meta))


def is_background(meta: Meta) -> bool:
    """Whether it goes on without its caller, and may be cancelled from elsewhere."""
    return shown_of(meta).get("background") is True


async def entries_of(services: Services, meta: Meta) -> list[Entry]:
    """Everything it has said. Raises as ``check_kept`` does."""
    entries = await read_all(services, meta.id)
    await _check_kept(services, meta, entries[0].cursor if entries else None)
    return entries


async def check_kept(services: Services, meta: Meta) -> None:
    """Raises UnknownStream when the log has expired, LogUnavailable while a lost one may be written again."""
    await _check_kept(services, meta, await services.streams.first(meta.id))


async def _check_kept(services: Services, meta: Meta, first: Cursor | None) -> None:
    if meta.is_over and (first is None or first.seq > 1):
        await services.check_gone()
        raise UnknownStream("the response is no longer stored")


async def response_of(
    services: Services, meta: Meta, entries: Sequence[Entry], *, dialect: ResponsesDialect = RESPONSES
) -> Json:
    """The Response that these entries amount to, a page of them in a turn of the loop; without any it is ``queued``."""
    transcript = dialect.open(meta.id)
    for at in range(0, len(entries), READ_AT_ONCE):
        await services.take_turn()
        transcript.encode(entries[at : at + READ_AT_ONCE])
    return transcript.response()


async def shown_response(services: Services, meta: Meta, entries: Sequence[Entry]) -> Response:
    """The Response object, as it stands."""
    response = await response_of(services, meta, entries, dialect=dialect_of(meta))
    if response["status"] == "queued" and meta.status != "queued":
        response["status"] = "in_progress"
    return answered(response, meta)


def answered(body: Mapping[str, Any], meta: Meta) -> Response:
    """A JSON answer about this generation."""
    return JSONResponse(body, headers={GENERATION_ID_HEADER: meta.id})


async def earlier_messages(services: Services, response_id: str, *, tenant: str) -> list[Json]:
    """The conversation up to and with an earlier response: what was asked there, and what was answered.

    Raises Refused when there is no such response, or it has no answer to build on.
    """
    try:
        meta = await services.generations.get(stream_id_of(response_id), tenant=tenant)
        entries = await entries_of(services, meta)
    except UnknownStream:
        raise Refused(
            "previous_response_id", "no response has this id (or it was kept no longer)", word=_NOT_FOUND
        ) from None
    response = await response_of(services, meta, entries)
    if response["status"] not in _KNOWN_ENDS:
        raise Refused("previous_response_id", f"that response is {response['status']}", word="invalid_value")
    whole = [item for item in response["output"] if item.get("type") not in _CALLS or item.get("status") in _WHOLE]
    return [*meta.request.get("messages", ()), *answer_of(whole)]


_NOT_FOUND: Final = "previous_response_not_found"
MAX_REFERENCED: Final = 500
"""Most earlier responses whose items one request may name: each is read from the log."""


async def with_referenced_items(services: Services, items: Sequence[Any], *, tenant: str) -> list[Any]:
    """The input items, with the items themselves in the place of references to them.

    A second reference to an item is dropped: the AI SDK sends one for each part of a message. Raises ItemNotFound when
    an item is not kept, Refused when it is half a call, or when the references name more than MAX_REFERENCED responses.
    """
    outputs: dict[str | None, dict[str, Json]] = {}
    resolved: list[Any] = []
    seen: set[str] = set()
    for at, item in enumerate(items):
        if (id := reference_of(item)) is None:
            resolved.append(item)
        elif id not in seen:
            seen.add(id)
            generation_id = generation_of(id)
            if generation_id not in outputs:
                if len(outputs) >= MAX_REFERENCED:
                    detail = f"references name items of at most {MAX_REFERENCED} responses; send the items themselves"
                    raise Refused("input", detail, word="invalid_value")
                outputs[generation_id] = await _output(services, generation_id, tenant=tenant)
            resolved.append(_referenced(outputs[generation_id], id, place=f"input[{at}]"))
    return resolved


async def _output(services: Services, generation_id: str | None, *, tenant: str) -> dict[str, Json]:
    """The items of a response by their ids; none when the response is not kept, or belongs to another tenant."""
    if generation_id is None:
        return {}
    try:
        meta = await services.generations.get(generation_id, tenant=tenant)
        entries = await entries_of(services, meta)
    except UnknownStream:
        return {}
    response = await response_of(services, meta, entries)
    return {id: item for item in response["output"] if isinstance(id := item.get("id"), str)}


def _referenced(output: Mapping[str, Json], id: str, *, place: str) -> Json:
    item = output.get(id)
    if item is None:
        raise ItemNotFound(place, f"no item with the id {id[:200]!r} is kept here; send the item itself")
    if item.get("type") in _CALLS and item.get("status") not in _WHOLE:
        raise Refused(place, f"the call {id!r} was cut off, and cannot be built on", word="invalid_value")
    return item


_CALLS: Final = frozenset({"function_call", "custom_tool_call"})
_WHOLE: Final = frozenset({"completed"})


def input_items(meta: Meta) -> list[Json]:
    """What was asked, as items with ids, oldest first."""
    items = responses_input(meta.request.get("messages", ()))
    return [_listed(item, f"item_{meta.id}_{at}") for at, item in enumerate(items)]


def _listed(item: Json, id: str) -> Json:
    item = {"id": id, **item}
    if item.get("type") == "message" and isinstance(text := item.get("content"), str):
        kind = "output_text" if item.get("role") == "assistant" else "input_text"
        item["content"] = [{"type": kind, "text": text}]
    return item
