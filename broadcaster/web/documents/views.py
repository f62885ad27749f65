"""A generation's meta and log → the JSON of our API."""

from __future__ import annotations

from typing import Any

from broadcaster.core.cursor import Cursor
from broadcaster.core.events import ANSWERED_BY, Error, read_event
from broadcaster.core.providers.request_ids import id_in
from broadcaster.core.requests.progress import JobProgress
from broadcaster.core.requests.titles import prompt_of, title_of
from broadcaster.core.status import OVER, Status
from broadcaster.log.streams.folding import read_folded
from broadcaster.log.streams.pages import EntryReader
from broadcaster.log.streams.reader import Meta
from broadcaster.web.documents import schemas
from broadcaster.webhooks.url import WebhookUrl


async def read_view(reader: EntryReader, meta: Meta, *, viewers: int, base: str = "") -> schemas.GenerationView:
    """The long form, folded from the log. Raises LogUnavailable.

    The end in the log is newer than meta, which was read before it.
    """
    folded, last, is_whole = await read_folded(reader, meta.id)
    state = generation_state(meta, last=last, viewers=viewers, base=base)
    # The worker writes it into the end of an answer that took more than one try.
    state["answered_by"] = folded.provider_metadata.get(ANSWERED_BY)
    if folded.status in OVER and meta.status not in OVER:
        state |= {"status": folded.status.value, "error": folded.error}
    elif folded.status is not Status.QUEUED and meta.status == "queued":
        state["status"] = "running"
    return schemas.GenerationView(
        **state,
        prompt=prompt_of(meta.request),
        usage=folded.usage,
        provider_request_id=id_in(folded.provider_metadata),
        text=folded.text,
        reasoning=folded.reasoning,
        parts=folded.parts,
        truncated=not is_whole,
    )


def stream_state(meta: Meta, *, last: Cursor | None, viewers: int, base: str) -> dict[str, Any]:
    """The fields that the documents of generations and of feeds share."""
    newest = last or meta.terminal_id
    return {
        "id": meta.public_id,
        "status": meta.status,
        "created_at": meta.created_ms / 1000,
        "ended_at": None if meta.ended_ms is None else meta.ended_ms / 1000,
        "viewers": viewers,
        "last_id": None if newest is None else str(newest),
        "last_seq": 0 if newest is None else newest.seq,
        "events_url": f"{base}/v1/streams/{meta.public_id}/events",
    }


def generation_state(meta: Meta, *, last: Cursor | None, viewers: int, base: str) -> dict[str, Any]:
    """The fields of the short forms, with links below ``base``; those of lists, without metadata, need no request.

    Once the log has expired, its end is still known from meta.
    """
    return {
        **stream_state(meta, last=last, viewers=viewers, base=base),
        "model": meta.model,
        "title": meta.title or title_of(meta.request),
        "attempt": meta.attempts,
        "started_at": None if meta.started_ms is None else meta.started_ms / 1000,
        "stop_requested": meta.stop is not None,
        "error": _error_in(meta.terminal),
        "webhook": webhook_of(meta),
        "metadata": metadata_of(meta),
    }


def listed_stream(
    meta: Meta, *, last: Cursor | None, viewers: int, base: str, progress: JobProgress | None
) -> dict[str, Any]:
    """The fields of a stream in a list. The left half of an id is a time: of an append to a feed, or of a grant."""
    newest = last or meta.terminal_id
    times_ms = (meta.created_ms, meta.ended_ms or 0, 0 if newest is None else newest.epoch)
    is_generation = meta.kind == "generation"
    return {
        **stream_state(meta, last=last, viewers=viewers, base=base),
        "kind": meta.kind,
        "content_type": content_type_of(meta),
        "title": meta.title if is_generation else "",
        "model": meta.model if is_generation else None,
        "active_at": max(times_ms) / 1000,
        "error": _error_in(meta.terminal),
        "progress": progress,
    }


def content_type_of(meta: Meta) -> str | None:
    """The media type of a Durable Stream; None: any other stream."""
    return None if meta.durable is None else meta.durable.content_type


async def read_content(reader: EntryReader, stream_id: str) -> dict[str, Any]:
    """The content of a stream, folded from the log. Raises LogUnavailable."""
    state, _, is_whole = await read_folded(reader, stream_id)
    return {
        "error": state.error,
        "usage": state.usage,
        "text": state.text,
        "reasoning": state.reasoning,
        "parts": state.parts,
        "truncated": not is_whole,
    }


def metadata_of(meta: Meta) -> dict[str, Any]:
    """The caller's own metadata."""
    return meta.request.get("metadata") or {}


def webhook_of(meta: Meta) -> dict[str, Any] | None:
    """Its host alone, and how its delivery goes: a path or a query may hold a secret."""
    webhook = meta.webhook
    return (
        None
        if webhook is None
        else {
            "host": WebhookUrl.parse(webhook.url).host,
            "state": webhook.state.value,
            "attempts": webhook.attempts,
            "last_status": webhook.last_status,
            "last_fault": webhook.last_fault,
        }
    )


def _error_in(terminal: bytes | None) -> dict[str, str] | None:
    event = None if terminal is None else read_event(terminal)
    return {"code": event.code, "message": event.error_text} if isinstance(event, Error) else None
