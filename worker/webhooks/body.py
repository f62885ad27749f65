"""The body of a webhook: the generation or feed as it ended, folded from its log.

    {"type": "generation.finished", "timestamp": "2026-11-20T12:00:00.000Z", "data": {"id": "gen_…", "status": …, …}}

The names inside ``data`` are those of ``GET /v1/generations/{id}``, of a feed those of ``GET /v1/streams/{id}``. Every
attempt sends the same bytes while the log exists. Without the log, or beyond the bound, the answer is left out and
``truncated`` is true.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec

from broadcaster.core.events import Error, read_event
from broadcaster.core.fold import FoldState
from broadcaster.core.status import OVER
from broadcaster.log.streams.folding import read_folded
from broadcaster.log.streams.reader import Meta, Streams
from broadcaster.observability.limits import limit_reached


async def read_answer(streams: Streams, generation_id: str) -> FoldState | None:
    """The log folded to its end; None if it has expired or is incomplete. Raises LogUnavailable.

    From an expired log only the terminal event is read, which meta keeps.
    """
    state, _, is_whole = await read_folded(streams, generation_id)
    return state if is_whole and state.status in OVER else None


def encode_body(meta: Meta, answer: FoldState | None, *, max_bytes: int) -> bytes:
    """The body of a stream that is over. Beyond ``max_bytes`` it leaves out first the answer, then the metadata."""
    data = _state(meta)
    if answer is not None:
        whole = {"usage": answer.usage, "text": answer.text, "reasoning": answer.reasoning, "parts": answer.parts}
        body = _encode(meta, {**data, **whole, "truncated": False})
        if len(body) <= max_bytes:
            return body
        limit_reached("WEBHOOK_MAX_BYTES")
    data["usage"] = None if answer is None else answer.usage
    body = _encode(meta, {**data, "truncated": True})
    return body if len(body) <= max_bytes else _encode(meta, {**data, "metadata": {}, "truncated": True})


def _encode(meta: Meta, data: dict[str, Any]) -> bytes:
    ended = datetime.fromtimestamp((meta.ended_ms or 0) / 1000, tz=UTC)
    timestamp = ended.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return msgspec.json.encode({"type": f"{meta.kind}.{meta.status}", "timestamp": timestamp, "data": data})


def _state(meta: Meta) -> dict[str, Any]:
    of_generation = {
        "model": meta.model,
        "attempt": meta.attempts,
        "started_at": None if meta.started_ms is None else meta.started_ms / 1000,
    }
    return {
        "id": meta.public_id,
        "status": meta.status,
        **(of_generation if meta.kind == "generation" else {}),
        "created_at": meta.created_ms / 1000,
        "ended_at": None if meta.ended_ms is None else meta.ended_ms / 1000,
        "error": _error_in(meta.terminal),
        "metadata": meta.request.get("metadata") or {},
        "events_url": f"/v1/streams/{meta.public_id}/events",
    }


def _error_in(terminal: bytes | None) -> dict[str, str] | None:
    event = None if terminal is None else read_event(terminal)
    return {"code": event.code, "message": event.error_text} if isinstance(event, Error) else None
