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

from collections.abc import Callable, Coroutine, Generator, Mapping, Sequence
from functools import partial
from typing import Any, Final, Literal, Self, TypeVar, Unpack

from broadcaster.client.client import AsyncClient
from broadcaster.client.documents import (
    Appended,
    CreatedToken,
    Generation,
    GenerationList,
    QueueCounts,
    StreamList,
    StreamState,
    WorkersPage,
)
from broadcaster.client.errors import CannotConnect
from broadcaster.client.stream import StreamEvent
from broadcaster.core.cursor import Cursor
from broadcaster.core.events import Event, TerminalEvent
from broadcaster.core.requests.options import FeedOptions, GenerationOptions, IfExists
from broadcaster.process.blocking import PerProcess, call_blocking
from broadcaster.process.blocking_items import iterate_blocking

# Beyond AsyncClient's own deadline: it raises first, unless other work holds the loop's thread.
MARGIN_S: Final = 2.0

_Result = TypeVar("_Result")


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
    ) -> None:
        """Raises ValueError when the URL is not http(s) with a host, or the key cannot be an HTTP header."""
        self._timeout_s = timeout_s
        self._async = PerProcess(
            partial(
                AsyncClient,
                base_url,
                api_key,
                timeout_s=timeout_s,
                idle_timeout_s=idle_timeout_s,
                give_up_after_s=give_up_after_s,
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

    def start(
        self,
        prompt: str | None = None,
        *,
        messages: Sequence[Mapping[str, Any]] | None = None,
        model: str | None = None,
        idempotency_key: str | None = None,
        **options: Unpack[GenerationOptions],
    ) -> Generation:
        """As ``AsyncClient.start``."""
        return self._call(
            lambda client: client.start(
                prompt, messages=messages, model=model, idempotency_key=idempotency_key, **options
            )
        )

    def get(self, generation_id: str, *, wait_s: float | None = None) -> Generation:
        """As ``AsyncClient.get``."""
        return self._call(lambda client: client.get(generation_id, wait_s=wait_s), wait_s=wait_s or 0.0)

    def list(
        self, *, status: Literal["all", "open", "over"] = "all", limit: int | None = None, before: str | None = None
    ) -> GenerationList:
        """As ``AsyncClient.list``."""
        return self._call(lambda client: client.list(status=status, limit=limit, before=before))

    def stop(self, generation_id: str) -> Generation:
        """As ``AsyncClient.stop``."""
        return self._call(lambda client: client.stop(generation_id))

    def delete(self, generation_id: str) -> None:
        """As ``AsyncClient.delete``."""
        self._call(lambda client: client.delete(generation_id))

    def create_stream(
        self,
        stream_id: str,
        *,
        if_exists: IfExists | None = None,
        idempotency_key: str | None = None,
        **config: Unpack[FeedOptions],
    ) -> StreamState:
        """As ``AsyncClient.create_stream``."""
        return self._call(
            lambda client: client.create_stream(
                stream_id, if_exists=if_exists, idempotency_key=idempotency_key, **config
            )
        )

    def append(
        self,
        stream_id: str,
        events: Mapping[str, Any] | Event | Sequence[Mapping[str, Any] | Event],
        *,
        idempotency_key: str | None = None,
        creation: str | None = None,
    ) -> Appended:
        """As ``AsyncClient.append``."""
        return self._call(
            lambda client: client.append(stream_id, events, idempotency_key=idempotency_key, creation=creation)
        )

    def close(
        self,
        stream_id: str,
        end: Mapping[str, Any] | TerminalEvent | None = None,
        *,
        creation: str | None = None,
    ) -> StreamState:
        """As ``AsyncClient.close``: end a feed."""
        return self._call(lambda client: client.close(stream_id, end, creation=creation))

    def delete_stream(self, stream_id: str) -> None:
        """As ``AsyncClient.delete_stream``."""
        self._call(lambda client: client.delete_stream(stream_id))

    def stream(self, stream_id: str, *, parts: bool = False) -> StreamState:
        """As ``AsyncClient.stream``."""
        return self._call(lambda client: client.stream(stream_id, parts=parts))

    def list_streams(
        self, *, status: Literal["all", "open", "over"] = "all", limit: int | None = None, before: str | None = None
    ) -> StreamList:
        """As ``AsyncClient.list_streams``."""
        return self._call(lambda client: client.list_streams(status=status, limit=limit, before=before))

    def create_token(
        self,
        stream_id: str,
        *,
        actions: Sequence[str] = ("watch",),
        ttl_s: float | None = None,
        sub: str | None = None,
        prefix: bool = False,
    ) -> CreatedToken:
        """As ``AsyncClient.create_token``."""
        return self._call(
            lambda client: client.create_token(stream_id, actions=actions, ttl_s=ttl_s, sub=sub, prefix=prefix)
        )

    def revoke_tokens(self, *, jti: str | None = None, sub: str | None = None) -> None:
        """As ``AsyncClient.revoke_tokens``."""
        self._call(lambda client: client.revoke_tokens(jti=jti, sub=sub))

    def workers(self, *, after: str | None = None) -> WorkersPage:
        """As ``AsyncClient.workers``."""
        return self._call(lambda client: client.workers(after=after))

    def models(self) -> Sequence[str]:
        """As ``AsyncClient.models``."""
        return self._call(lambda client: client.models())

    def queue(self) -> QueueCounts:
        """As ``AsyncClient.queue``."""
        return self._call(lambda client: client.queue())

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
            raise CannotConnect(f"no response within {limit_s:g} s") from error
