"""A stored generation as a Response: the stored parts of its request, and the earlier responses that it builds on."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from typing import Any, Final

import msgspec
from fastapi import Response
from starlette.responses import JSONResponse

from broadcaster.core.entry import Entry
from broadcaster.core.requests.passed_headers import SURFACE
from broadcaster.dialects.openai.parameters import BadParameter, ItemNotFound
from broadcaster.dialects.openai_responses.answer import stream_id_of
from broadcaster.dialects.openai_responses.encode import Cancel, ResponsesDialect
from broadcaster.dialects.openai_responses.ids import generation_of, reference_of
from broadcaster.dialects.openai_responses.input import EarlierTurns, answer_of
from broadcaster.dialects.openai_responses.provider_request import responses_input
from broadcaster.dialects.openai_responses.request import SURFACE_NAME, heads_of
from broadcaster.dialects.reading import Json
from broadcaster.errors import UnknownStream
from broadcaster.log.streams.pages import PAGE
from broadcaster.log.streams.reader import Meta
from broadcaster.web.guards.callers import check_watches
from broadcaster.web.services import Services
from broadcaster.web.surfaces.answering import naming_headers, read_all
from broadcaster.web.viewing.joining import check_kept

_json: Final = msgspec.json.Encoder(order="deterministic")
NOT_STORED: Final = "the response is no longer stored"
_KNOWN_ENDS: Final = frozenset({"completed", "incomplete"})


def request_fields_of(meta: Meta) -> Json:
    """The request's fields that the Response repeats; for a request of another surface, the model alone."""
    surface = meta.request.get(SURFACE)
    is_ours = isinstance(surface, Mapping) and surface.get("name") == SURFACE_NAME
    fields = dict(surface["shown"]) if is_ours and surface is not None else {"model": meta.model, "background": True}
    return {**fields, "created_at": meta.created_ms // 1000}


def dialect_of(meta: Meta, *, cancel: Cancel = "incomplete") -> ResponsesDialect:
    """The dialect in which all front-ends send this generation.

    The reader of a background Response can resume: it gets a new attempt on the same stream.
    """
    request_fields = _json.encode(request_fields_of(meta)).decode()
    return ResponsesDialect(echo=request_fields, cancel=cancel, restarts=is_background(meta))


def is_background(meta: Meta) -> bool:
    """Whether it continues without its caller, and may be cancelled by another request."""
    return request_fields_of(meta).get("background") is True


async def entries_of(services: Services, meta: Meta) -> list[Entry]:
    """All its entries. Raises as ``check_kept`` does."""
    entries, is_whole = await read_all(services, meta.id)
    has_ended = bool(entries) and entries[-1].is_terminal
    if has_ended or meta.is_over:
        await check_kept(services, is_whole=is_whole and bool(entries), detail=NOT_STORED)
    return entries


async def response_of(services: Services, meta: Meta, entries: Sequence[Entry]) -> Json:
    """The Response of these entries, made a page in each turn of the loop; without entries it is ``queued``."""
    transcript = dialect_of(meta).open(meta.id)
    for at in range(0, len(entries), PAGE):
        await services.take_turn()
        transcript.encode(entries[at : at + PAGE])
    return transcript.response()


async def current_response(services: Services, meta: Meta, entries: Sequence[Entry]) -> Response:
    """The Response object so far, as a JSON response."""
    response = await response_of(services, meta, entries)
    if response["status"] == "queued" and meta.status != "queued":
        response["status"] = "in_progress"
    return JSONResponse(response, headers=naming_headers(meta, entries))


async def earlier_turns(services: Services, response_id: str, *, tenant: str) -> EarlierTurns:
    """The conversation up to and with an earlier response: its messages, and its answer.

    Raises BadParameter when there is no such response, or it has no answer to build on; Forbidden as ``check_watches``;
    Busy and TenantLimit when its answer finds no room (json_ledger.py, rule 5).
    """
    check_watches(services.visitor.caller, stream_id_of(response_id))
    try:
        meta = await services.generations.get(stream_id_of(response_id), tenant=tenant)
        entries = await entries_of(services, meta)
    except UnknownStream:
        raise BadParameter(
            "previous_response_id", "no response has this id (or it has expired)", api_code=_NOT_FOUND
        ) from None
    response = await response_of(services, meta, entries)
    if response["status"] not in _KNOWN_ENDS:
        raise BadParameter("previous_response_id", f"that response is {response['status']}", api_code="invalid_value")
    whole = _whole(response["output"])
    services.keep_read(len(_json.encode(whole)))
    return EarlierTurns([*meta.request.get("messages", ()), *answer_of(whole)], heads_of(meta.request))


def _whole(output: Sequence[Json]) -> list[Json]:
    """The items without calls that were cut off, and without the reasoning at the end, which OpenAI refuses alone."""
    whole = [item for item in output if item.get("type") not in _CALLS or item.get("status") in _WHOLE]
    while whole and whole[-1].get("type") == "reasoning":
        whole.pop()
    return whole


_NOT_FOUND: Final = "previous_response_not_found"
MAX_REFERENCED: Final = 500
"""Most earlier responses whose items one request may name: each is read from the log."""


async def with_referenced_items(services: Services, items: Sequence[Any], *, tenant: str) -> list[Any]:
    """The input items, with the items themselves in the place of references to them.

    A second reference to an item is dropped: the AI SDK sends one for each part of a message. Raises ItemNotFound when
    an item is not kept, BadParameter when it is half a call or the references name more than MAX_REFERENCED responses,
    Forbidden as ``check_watches``, Busy and TenantLimit when the items find no room (json_ledger.py, rule 5).
    """
    named = {id for item in items if (id := reference_of(item)) is not None}
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
                    raise BadParameter("input", detail, api_code="invalid_value")
                outputs[generation_id] = await _output(services, generation_id, named, tenant=tenant)
            resolved.append(_referenced(outputs[generation_id], id, place=f"input[{at}]"))
    return resolved


async def _output(
    services: Services, generation_id: str | None, named: Container[str], *, tenant: str
) -> dict[str, Json]:
    """The named items of a response by their ids; none when the response is not stored, or is another tenant's."""
    if generation_id is None:
        return {}
    check_watches(services.visitor.caller, generation_id)
    try:
        meta = await services.generations.get(generation_id, tenant=tenant)
        entries = await entries_of(services, meta)
    except UnknownStream:
        return {}
    response = await response_of(services, meta, entries)
    output = {id: item for item in response["output"] if isinstance(id := item.get("id"), str) and id in named}
    services.keep_read(len(_json.encode(output)))
    return output


def _referenced(output: Mapping[str, Json], id: str, *, place: str) -> Json:
    item = output.get(id)
    if item is None:
        raise ItemNotFound(place, f"no item with the id {id[:200]!r} is kept here; send the item itself")
    if item.get("type") in _CALLS and item.get("status") not in _WHOLE:
        raise BadParameter(place, f"the call {id!r} was cut off, and cannot be built on", api_code="invalid_value")
    return item


_CALLS: Final = frozenset({"function_call", "custom_tool_call"})
_WHOLE: Final = frozenset({"completed"})


def input_items(meta: Meta) -> list[Json]:
    """The input as items with ids, oldest first."""
    items = responses_input(meta.request.get("messages", ()))
    return [_listed(item, f"item_{meta.id}_{at}") for at, item in enumerate(items)]


def _listed(item: Json, id: str) -> Json:
    item = {"id": id, **item}
    if item.get("type") == "message" and isinstance(text := item.get("content"), str):
        kind = "output_text" if item.get("role") == "assistant" else "input_text"
        item["content"] = [{"type": kind, "text": text}]
    return item
