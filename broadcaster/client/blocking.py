"""The client for programs without an event loop: ``AsyncClient``, run on a thread of its own.

    with Client("http://127.0.0.1:8000") as client:
        generation = client.start("Why is the sky blue?")
        for event in client.events(generation.id):
            match event:
                case EntryReceived(event=TextDelta(delta=delta)):
                    print(delta, end="")

Methods, arguments, results and errors are those of ``AsyncClient``, which has their descriptions. For any number of
threads, and for forked children, which get connections of their own.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Coroutine, Generator
from functools import partial
from typing import Any, Concatenate, Final, ParamSpec, Self, TypeVar

from broadcaster.client.address import checked_url, shown_address
from broadcaster.client.client import AsyncClient
from broadcaster.client.documents import Generation
from broadcaster.client.errors import CannotConnect
from broadcaster.client.stream import StreamEvent
from broadcaster.core.cursor import Cursor
from broadcaster.process.blocking import PerProcess, call_blocking
from broadcaster.process.blocking_items import iterate_blocking

# Beyond AsyncClient's own deadline: it raises first, unless other work holds the loop's thread.
MARGIN_S: Final = 2.0

_Result = TypeVar("_Result")
_Parameters = ParamSpec("_Parameters")


def _blocking(
    method: Callable[Concatenate[AsyncClient, _Parameters], Coroutine[Any, Any, _Result]],
) -> Callable[Concatenate[Client, _Parameters], _Result]:
    """The same method for a caller that waits."""

    def call(self: Client, /, *args: _Parameters.args, **options: _Parameters.kwargs) -> _Result:
        return self._call(lambda client: method(client, *args, **options))

    # Not by functools.wraps: what looks behind ``__wrapped__`` would take the method for a coroutine's.
    call.__name__, call.__qualname__ = method.__name__, f"Client.{method.__name__}"
    call.__doc__ = f"As ``AsyncClient.{method.__name__}``."
    call.__annotations__ = method.__annotations__
    call.__signature__ = inspect.signature(method)  # type: ignore[attr-defined]
    return call


class Client:
    """The blocking twin of ``AsyncClient``; use it as a context manager, or call ``close_connections``."""

    def __init__(
        self,
        base_url: str,
        api_key: str | None = None,
        *,
        timeout_s: float = 30.0,
        idle_timeout_s: float = 45.0,
        give_up_after_s: float = 60.0,
        retries: int | None = None,
    ) -> None:
        """Raises ValueError when the URL is not http(s) with a host, or the key cannot be an HTTP header."""
        self._timeout_s = timeout_s
        self._address = shown_address(checked_url(base_url))
        self._async = PerProcess(
            partial(
                AsyncClient,
                base_url,
                api_key,
                timeout_s=timeout_s,
                idle_timeout_s=idle_timeout_s,
                give_up_after_s=give_up_after_s,
                retries=retries,
            )
        )
        self._async.get()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close_connections()

    def close_connections(self) -> None:
        """As ``AsyncClient.aclose``; ``close`` ends a feed."""
        if (client := self._async.made) is not None:
            call_blocking(client.aclose, limit_s=self._timeout_s + MARGIN_S)

    start = _blocking(AsyncClient.start)

    def get(self, generation_id: str, *, wait_s: float | None = None) -> Generation:
        """As ``AsyncClient.get``."""
        return self._call(lambda client: client.get(generation_id, wait_s=wait_s), wait_s=wait_s or 0.0)

    list = _blocking(AsyncClient.list)
    stop = _blocking(AsyncClient.stop)
    delete = _blocking(AsyncClient.delete)
    create_stream = _blocking(AsyncClient.create_stream)
    append = _blocking(AsyncClient.append)
    close = _blocking(AsyncClient.close)
    delete_stream = _blocking(AsyncClient.delete_stream)
    stream = _blocking(AsyncClient.stream)
    list_streams = _blocking(AsyncClient.list_streams)
    create_token = _blocking(AsyncClient.create_token)
    revoke_tokens = _blocking(AsyncClient.revoke_tokens)
    workers = _blocking(AsyncClient.workers)
    models = _blocking(AsyncClient.models)
    queue = _blocking(AsyncClient.queue)

    def events(self, stream_id: str, after: Cursor | None = None) -> Generator[StreamEvent, None, None]:
        """As ``AsyncClient.events``. Leaving the ``for`` loop early closes the connection.

        An iterator that is kept in a variable is left with its ``close()``, or by ``contextlib.closing``.
        """
        return iterate_blocking(lambda: self._async.get().events(stream_id, after))

    def _call(self, start: Callable[[AsyncClient], Coroutine[Any, Any, _Result]], *, wait_s: float = 0.0) -> _Result:
        limit_s = self._timeout_s + wait_s + MARGIN_S
        try:
            return call_blocking(lambda: start(self._async.get()), limit_s=limit_s)
        except TimeoutError as error:
            reason = f"no response within {limit_s:g} s"
            raise CannotConnect(reason, address=self._address) from error
