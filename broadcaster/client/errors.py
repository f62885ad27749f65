"""The errors of the client, named by what the caller can do.

    ClientError             a problem document of the front-end, or one of:
    ├── CannotConnect       no server responds at the address: start a front-end, or correct the URL
    ├── BadAnswer           the server is not a front-end: correct the URL, or check the proxy in between
    ├── GaveUp              a stream made no progress for too long: come back later with ``cursor``
    └── StreamClosed        the front-end ended the stream before its terminal event and forbids reconnecting

Every error has the stable ``code`` of the problem document, its HTTP ``status`` (None without a response), its
``detail`` for people, ``retry``: whether the same call may succeed later, unchanged, and ``retry_after_s``: how much
later at the earliest, where the front-end sends it.
"""

from __future__ import annotations

from broadcaster.core.cursor import Cursor


class ClientError(Exception):
    """The front-end refused or failed a call; ``code`` is what programs branch on."""

    def __init__(
        self, code: str, *, status: int | None, detail: str, retry: bool, retry_after_s: float | None = None
    ) -> None:
        super().__init__(detail)
        self.code = code
        self.status = status
        self.detail = detail
        self.retry = retry
        self.retry_after_s = retry_after_s


class CannotConnect(ClientError):
    """No response: refused, unreachable, timed out, or cut before the response was complete.

    ``reason`` is the detail without the address.
    """

    def __init__(self, reason: str, *, address: str | None = None) -> None:
        detail = reason if address is None else f"cannot connect to {address}: {reason}"
        super().__init__("cannot_connect", status=None, detail=detail, retry=True)
        self.reason = reason


class BadAnswer(ClientError):
    """A response that no front-end sends."""

    def __init__(self, detail: str, *, status: int | None = None) -> None:
        super().__init__("bad_answer", status=status, detail=detail, retry=False)


class GaveUp(ClientError):
    """No progress for ``give_up_after_s``; ``cursor`` is where to continue later (None: nothing was received)."""

    def __init__(self, detail: str, *, cursor: Cursor | None) -> None:
        super().__init__("gave_up", status=None, detail=detail, retry=True)
        self.cursor = cursor


class StreamClosed(ClientError):
    """``hub.bye`` with ``reconnect: false``; ``code`` is its reason."""

    def __init__(self, reason: str, *, cursor: Cursor | None) -> None:
        detail = f"the front-end closed the stream before its end: {reason}"
        super().__init__(reason, status=None, detail=detail, retry=False)
        self.cursor = cursor
