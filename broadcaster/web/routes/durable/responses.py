"""What the responses of ``/ds/`` have in common: headers, and refusals that name the state in headers."""

from __future__ import annotations

import random
import time
from collections.abc import Mapping
from typing import Final

from starlette.responses import Response

from broadcaster.core.cursor import Cursor
from broadcaster.dialects.durable.contents import DurableContent
from broadcaster.dialects.durable.headers import Producer
from broadcaster.dialects.durable.offsets import format_offset
from broadcaster.log.feeds.durable_streams import DurableAppend, DurableCode, DurableOutcome
from broadcaster.log.streams.reader import Meta
from broadcaster.web.documents.problems import problem_response

# Pages of other origins may read a response where CORS lets them; none may embed it unread.
GUARDS: Final = {
    "cross-origin-resource-policy": "same-origin",
    # A writer chooses the media type: what it stores as text/html must run nothing on the origin of the console.
    "content-security-policy": "default-src 'none'; sandbox",
}
# The protocol's own: an interval's number is the same at all servers.
_INTERVAL_S: Final = 20
_INTERVALS_SINCE_S: Final = 1_728_432_000  # 2024-10-09T00:00:00Z
_MOST_JITTER_S: Final = 3600


def content_of(meta: Meta) -> DurableContent:
    """How the stream's entries are read."""
    return DurableContent.NATIVE if meta.durable is None else DurableContent.of(meta.durable.media_type)


def content_type_of(meta: Meta) -> str:
    """The content type of its reads."""
    return "application/json" if meta.durable is None else meta.durable.content_type


def state_headers(tail: Cursor, *, is_closed: bool) -> dict[str, str]:
    """Where the client stands after this response, and whether anything can follow."""
    closed = {"stream-closed": "true"} if is_closed else {}
    return {**GUARDS, "stream-next-offset": format_offset(tail), **closed}


def live_cursor(seen: int | None) -> str:
    """The cursor of a live response: the current interval, or a later one if the client has seen that.

    It keeps caches between servers and clients from answering the same request for ever.
    """
    now = int(time.time() - _INTERVALS_SINCE_S) // _INTERVAL_S
    if seen is None or seen < now:
        return str(now)
    return str(seen + random.randint(1, _MOST_JITTER_S // _INTERVAL_S))


def append_response(outcome: DurableOutcome, content: DurableAppend) -> Response:
    """The response to an append that was not refused by an error."""
    producer = content.producer
    headers = state_headers(outcome.tail, is_closed=outcome.is_closed)
    if producer is not None and outcome.code in (DurableCode.APPENDED, DurableCode.REPEATED):
        headers |= {"producer-epoch": str(outcome.producer_epoch), "producer-seq": str(outcome.producer_seq)}
    match outcome.code:
        case DurableCode.APPENDED:
            return Response(status_code=200 if producer is not None and content.events else 204, headers=headers)
        case DurableCode.REPEATED:
            return Response(status_code=204, headers=headers)
    return _refusal(outcome, headers, producer=producer)


def _refusal(outcome: DurableOutcome, headers: Mapping[str, str], *, producer: Producer | None) -> Response:
    epoch, last = outcome.producer_epoch, outcome.producer_seq
    match outcome.code:
        case DurableCode.CLOSED:
            detail = "the stream is closed and takes nothing more: to continue, create another stream"
            return problem_response("stream_closed", detail, headers=headers)
        case DurableCode.OTHER_TYPE:
            detail = "the stream was created with another Content-Type; send that one"
            return problem_response("content_type_mismatch", detail, headers=GUARDS)
        case DurableCode.STREAM_SEQ:
            detail = "each Stream-Seq must be greater, byte by byte, than the one before"
            return problem_response("sequence_conflict", detail, headers=GUARDS)
        case DurableCode.FENCED:
            detail = f"this Producer-Id has begun the epoch {epoch}; an older one may write nothing"
            return problem_response("producer_fenced", detail, headers={**GUARDS, "producer-epoch": str(epoch)})
        case DurableCode.GAP if producer is not None:
            numbers = {"producer-expected-seq": str(last + 1), "producer-received-seq": str(producer.seq)}
            detail = f"expected Producer-Seq {last + 1}, received {producer.seq}: send what is missing first"
            return problem_response("producer_gap", detail, headers={**GUARDS, **numbers})
        case DurableCode.NOT_DURABLE:
            return read_only()
    detail = "a new Producer-Epoch begins with Producer-Seq 0"
    return problem_response("invalid_request", detail, headers=GUARDS)


def read_only() -> Response:
    """The response to a write to a stream that was not created under ``/ds/``."""
    detail = "only streams that were created under /ds/ are written there; feeds under /v1/streams"
    return problem_response("method_not_allowed", detail, headers={**GUARDS, "allow": "GET, HEAD"})


def not_supported(what: str) -> Response:
    """The response to a part of the protocol that is not served here."""
    return problem_response("not_supported", f"{what} are not supported here", headers=GUARDS)
