"""Creating and appending: the head and the body of a request → what the log stores."""

from __future__ import annotations

import time

from fastapi import Request

from broadcaster.core.requests.publishing import MAX_EVENTS_PER_APPEND
from broadcaster.dialects.durable.contents import JSON_TYPE, DurableContent, encode_bytes, encode_messages
from broadcaster.dialects.durable.headers import (
    DEFAULT_CONTENT_TYPE,
    is_closing,
    media_type_of,
    read_expiry,
    read_producer,
    read_stream_seq,
)
from broadcaster.errors import InvalidInput, TooManyValues
from broadcaster.log.feeds.durable_streams import LONGEST_S, DurableAppend, DurableConfig
from broadcaster.web.here import check_credential
from broadcaster.web.services import Services


async def read_creation(services: Services, request: Request) -> tuple[DurableConfig, DurableAppend]:
    """The request of a PUT. Raises InvalidInput, and what reading a body raises."""
    headers = request.headers
    content_type = headers.get("content-type", "").strip() or DEFAULT_CONTENT_TYPE
    media_type = media_type_of(content_type)
    expiry = read_expiry(headers, longest_s=LONGEST_S, now_ms=int(time.time() * 1000))
    events = await _read_events(services, request, media_type)
    config = DurableConfig(content_type, media_type, expiry)
    return config, DurableAppend(events=events, media_type=media_type, closes=is_closing(headers))


async def read_append(services: Services, request: Request) -> DurableAppend:
    """The request of a POST. Raises InvalidInput, and what reading a body raises."""
    headers = request.headers
    closes, producer, stream_seq = is_closing(headers), read_producer(headers), read_stream_seq(headers)
    if not await _read_body(services, request):
        if not closes:
            raise InvalidInput("an append needs a body; without one only Stream-Closed: true is valid")
        return DurableAppend(closes=True, stream_seq=stream_seq, producer=producer)
    content_type = headers.get("content-type", "").strip()
    if not content_type:
        raise InvalidInput("an append needs the Content-Type of its stream")
    media_type = media_type_of(content_type)
    events = await _read_events(services, request, media_type)
    if not events:
        raise InvalidInput("an empty array appends nothing; send at least one message")
    return DurableAppend(events=events, media_type=media_type, closes=closes, stream_seq=stream_seq, producer=producer)


async def _read_body(services: Services, request: Request) -> bytes:
    """The whole body, of a caller whose credential is still valid. Raises what ``check_credential`` does."""
    body = await request.body()
    check_credential(services)
    return body


async def _read_events(services: Services, request: Request, media_type: str) -> list[bytes]:
    body = await _read_body(services, request)
    if not body:
        return []
    if media_type != JSON_TYPE:
        bound = services.durable.bounds.max_event_bytes
        return encode_bytes(body, DurableContent.of(media_type), max_event_bytes=bound)
    await request.json()  # strictly, and in its turn (json_body.py); what is stored is the text itself
    events = encode_messages(body)
    if len(events) > MAX_EVENTS_PER_APPEND:
        raise TooManyValues(f"an append has at most {MAX_EVENTS_PER_APPEND} messages; send several")
    return events
