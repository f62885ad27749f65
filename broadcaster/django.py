"""A stream as the response of a view of Django, under ASGI.

    async def answer(request, id):                                   # who may watch is the view's decision
        return await stream_response(broadcaster, id, request)

Rules
1. The response is that of ``Broadcaster.response``, run as an ASGI app beside the view: its head becomes Django's, with
   the headers that the view or a middleware adds, and Django sends its body piece by piece.
2. The app waits for Django before its next piece: a slow viewer is slowed by its own socket alone.
3. The app ends with the response: when the viewer leaves, and also when Django never sends the body. Django may close a
   response on another thread.
"""

from __future__ import annotations

import asyncio
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from broadcaster.errors import SetupError

if TYPE_CHECKING:
    from collections.abc import MutableMapping

    from broadcaster.library.broadcaster import Broadcaster
    from broadcaster.web.asgi_app import WatchResponse

_START: Final = "http.response.start"


async def stream_response(
    broadcaster: Broadcaster, stream_id: str, request: Any, *, dialect: str = "native", wait_s: float = 0
) -> Any:
    """A ``StreamingHttpResponse`` with the events of a stream, or with the problem of an unknown one.

    The options are those of ``Broadcaster.response``. Raises TypeError under WSGI, where a response that lasts would
    hold a thread, and SetupError without Django.
    """
    if not hasattr(request, "scope"):
        raise TypeError("stream_response needs an async view under ASGI (uvicorn, hypercorn, daphne), and not WSGI")
    try:
        streaming = import_module("django.http").StreamingHttpResponse
    except ModuleNotFoundError as error:
        raise SetupError("Django is not installed: pip install django") from error
    app = broadcaster.response(stream_id, request, dialect=dialect, wait_s=wait_s)
    body = _Body(app, {**request.scope, "extensions": {}})
    head = await body.head()
    response = streaming(body, status=head["status"])
    for name, value in head["headers"]:
        if name != b"content-length":  # Django counts what it sends itself
            response[name.decode("latin-1")] = value.decode("latin-1")
    return response


class _Body:
    """The body of an ASGI app's response, as an iterator; see the module's rules."""

    def __init__(self, app: WatchResponse, scope: dict[str, Any]) -> None:
        self._sent: asyncio.Queue[MutableMapping[str, Any]] = asyncio.Queue(maxsize=1)
        self._loop = asyncio.get_running_loop()
        self._never = asyncio.Event()
        self._is_last = False
        self._running = self._loop.create_task(app(scope, self._receive, self._sent.put))

    async def head(self) -> MutableMapping[str, Any]:
        """Status and headers. Raises what the app raises."""
        try:
            head = await self._next()
        except BaseException:
            self._running.cancel()
            raise
        if head is None or head["type"] != _START:
            raise RuntimeError("the response has no head")
        return head

    def __aiter__(self) -> _Body:
        return self

    async def __anext__(self) -> bytes:
        while not self._is_last and (message := await self._next()) is not None:
            self._is_last = not message.get("more_body", False)
            if piece := message.get("body", b""):
                return bytes(piece)
        raise StopAsyncIteration

    def close(self) -> None:
        """End the app; Django calls it with every response, on any thread (rule 3)."""
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._running.cancel)

    async def _next(self) -> MutableMapping[str, Any] | None:
        """What the app sends next; None once it has ended. Raises what it raises."""
        getting = asyncio.ensure_future(self._sent.get())
        try:
            await asyncio.wait({getting, self._running}, return_when=asyncio.FIRST_COMPLETED)
            if getting.done():
                return getting.result()
        finally:
            getting.cancel()
        if not self._sent.empty():
            return self._sent.get_nowait()
        self._running.result()
        return None

    async def _receive(self) -> dict[str, Any]:
        """A GET has no body, and Django itself detects when the viewer has left."""
        await self._never.wait()
        return {"type": "http.disconnect"}
