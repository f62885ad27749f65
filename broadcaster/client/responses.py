"""Error responses of a front-end, parsed into the client's errors."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Final

import httpx2
import msgspec

from broadcaster.client.errors import BadAnswer, ClientError

# 408 and 429 come from proxies in between; the front-end itself sends 503.
BUSY_STATUSES: Final = frozenset({408, 425, 429})
# A longer delay would mean that the server is down.
MAX_RETRY_AFTER_S: Final = 300.0
# A problem document is shorter, and there at once. What a proxy sends in its place may not end.
MAX_ERROR_BYTES: Final = 64 * 2**10
ERROR_BODY_S: Final = 5.0


class _Problem(msgspec.Struct):
    """RFC 9457 with our two members; a document without ``code`` is not ours."""

    code: str
    detail: str = ""
    title: str = ""
    retry: bool = False


def is_busy(status: int) -> bool:
    """Whether this status means "come back later" to a reader that resumes: all of 5xx, and the proxies' own."""
    return status >= 500 or status in BUSY_STATUSES


def error_of(response: httpx2.Response) -> ClientError:
    """The error of this response, whose body was read: from its problem document, or BadAnswer without one."""
    return _error_in(response, response.content)


async def read_error(response: httpx2.Response) -> ClientError:
    """``error_of`` a response whose body was not read. What is too long, or comes too late, is no problem document."""
    body = bytearray()
    with suppress(TimeoutError):
        async with asyncio.timeout(ERROR_BODY_S):
            async for chunk in response.aiter_bytes():
                body += chunk
                if len(body) > MAX_ERROR_BYTES:
                    break
    return _error_in(response, bytes(body))


def _error_in(response: httpx2.Response, body: bytes) -> ClientError:
    status = response.status_code
    try:
        problem = msgspec.json.decode(body, type=_Problem)
    except (msgspec.DecodeError, UnicodeDecodeError):
        if not is_busy(status):
            return BadAnswer(f"HTTP {status} without a problem document: is this a front-end?", status=status)
        problem = _Problem(f"http_{status}", f"HTTP {status} {response.reason_phrase}".rstrip(), retry=True)
    detail = problem.detail or problem.title or problem.code
    after_s = retry_after_s(response)
    return ClientError(problem.code, status=status, detail=detail, retry=problem.retry, retry_after_s=after_s)


def retry_after_s(response: httpx2.Response) -> float | None:
    """The seconds of ``Retry-After`` (RFC 9110, 10.2.3), bounded; None when there are none or it is a date."""
    value = response.headers.get("retry-after", "")
    if not (value.isascii() and value.isdecimal()):
        return None
    return min(float(value), MAX_RETRY_AFTER_S)
