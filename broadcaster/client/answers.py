"""Answers of a front-end that are not what was asked for, read as errors."""

from __future__ import annotations

from typing import Final

import httpx2
import msgspec

from broadcaster.client.errors import BadAnswer, ClientError

# 408 and 429 come from proxies between; the front-end itself says 503.
BUSY_STATUSES: Final = frozenset({408, 425, 429})
# A server that asks for more is not waiting for us but down.
MAX_RETRY_AFTER_S: Final = 300.0


class _Problem(msgspec.Struct):
    """RFC 9457 with our two members; a document without ``code`` is somebody else's."""

    code: str
    detail: str = ""
    title: str = ""
    retry: bool = False


def is_busy(status: int) -> bool:
    """Whether this status means "come back later" to a reader that resumes: all of 5xx, and the proxies' own."""
    return status >= 500 or status in BUSY_STATUSES


def error_of(response: httpx2.Response) -> ClientError:
    """The error that this read answer is: its problem document, or BadAnswer when it has none."""
    status = response.status_code
    try:
        problem = msgspec.json.decode(response.content, type=_Problem)
    except (msgspec.DecodeError, UnicodeDecodeError):
        if is_busy(status):
            detail = f"HTTP {status} {response.reason_phrase}".rstrip()
            after_s = retry_after_s(response)
            return ClientError(f"http_{status}", status=status, detail=detail, retry=True, retry_after_s=after_s)
        return BadAnswer(f"HTTP {status} without a problem document: is this a front-end?", status=status)
    detail = problem.detail or problem.title or problem.code
    after_s = retry_after_s(response)
    return ClientError(problem.code, status=status, detail=detail, retry=problem.retry, retry_after_s=after_s)


def retry_after_s(response: httpx2.Response) -> float | None:
    """The seconds of ``Retry-After`` (RFC 9110, 10.2.3), bounded; None when there are none or it is a date."""
    told = response.headers.get("retry-after", "")
    if not (told.isascii() and told.isdecimal()):
        return None
    return min(float(told), MAX_RETRY_AFTER_S)
