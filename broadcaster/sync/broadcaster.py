"""``sync.BlockingBroadcaster``: publish, read and generate from programs without an event loop.

    broadcaster = sync.BlockingBroadcaster.from_url("redis://localhost:6379")

    result = broadcaster.publish(tokens())                      # any iterator, or the stream of an SDK
    for event in broadcaster.events(result.id):                 # in any process; after=cursor resumes
        print(event)

It runs a ``Broadcaster``, whose methods have the descriptions, on the thread of this process's loop.

Rules
1. Nothing is opened before the first call. What a front-end needs is imported when the object is made, and not with
   this module.
2. ``read``, ``start``, ``get`` and ``stop`` return within ``timeout_s``; ``get`` with ``wait_s`` within both.
   ``publish`` and ``events`` last as long as what they publish and read; each wait for Redis in them has its deadline.
3. A call that is left by an exception (KeyboardInterrupt) is cancelled: a stream that it publishes ends with ``abort``.
4. A forked child has connections of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Generator, Mapping, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final, Literal, Self, TypeVar, Unpack, overload

from broadcaster.core.requests.stream_ids import LOCAL_TENANT
from broadcaster.errors import LogUnavailable
from broadcaster.process.blocking import PerProcess, call_blocking
from broadcaster.process.blocking_items import iterate_blocking

if TYPE_CHECKING:
    from broadcaster.client.documents import CreatedToken, Generation
    from broadcaster.client.stream import EntryReceived, GapReceived, StreamEvent
    from broadcaster.core.requests.options import FeedOptions, GenerationOptions, IfExists, ReadOptions
    from broadcaster.library.broadcaster import Broadcaster
    from broadcaster.library.results import OnEnd, StreamResult
    from broadcaster.settings import Settings
    from broadcaster.settings.options import SettingOptions

TIMEOUT_S: Final = 30.0
# Beyond the time that the library takes to close at most: its feeds end, its connections close.
CLOSE_MARGIN_S: Final = 10.0

_Result = TypeVar("_Result")


class BlockingBroadcaster:
    """The blocking twin of ``Broadcaster``, for any number of threads; feeds are written with ``Publisher``."""

    def __init__(self, settings: Settings, tenant: str = LOCAL_TENANT, *, timeout_s: float = TIMEOUT_S) -> None:
        """Opens nothing. Raises SetupError as ``Broadcaster`` does."""
        kind: type[Broadcaster] = import_module("broadcaster.library.broadcaster").Broadcaster
        self.tenant = tenant
        self._settings = settings
        self._timeout_s = timeout_s
        self._async = PerProcess(lambda: kind(settings, tenant))
        self._async.get()

    @classmethod
    def from_url(
        cls,
        url: str,
        *,
        tenant: str = LOCAL_TENANT,
        timeout_s: float = TIMEOUT_S,
        **settings: Unpack[SettingOptions],
    ) -> Self:
        """Over the Redis at ``redis://``, ``rediss://`` or ``unix://``. Opens nothing.

        Other settings come from the environment (``BROADCASTER_*``, as a server's do) or, first, from keywords.
        Raises TypeError for a keyword that is no setting, SetupError for a value that it cannot have.
        """
        return cls(import_module("broadcaster.settings").read_settings(url, settings), tenant, timeout_s=timeout_s)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self, *, drain_s: float | None = None) -> None:
        """End everything of this process; readers on other threads get GaveUp. Idempotent."""
        broadcaster = self._async.made
        if broadcaster is not None:
            closes_within_s: float = import_module("broadcaster.library.publications").CLOSES_WITHIN_S
            limit_s = (self._settings.drain_s if drain_s is None else drain_s) + closes_within_s + CLOSE_MARGIN_S
            call_blocking(lambda: broadcaster.aclose(drain_s=drain_s), limit_s=limit_s)

    def publish(
        self,
        source: Any,
        *,
        id: str | None = None,
        if_exists: IfExists = "fail",
        on_end: OnEnd | None = None,
        **options: Unpack[FeedOptions],
    ) -> StreamResult:
        """As ``Broadcaster.publish``: returns when the stream has its end.

        The iterator runs on a thread of its own, one item at a time.
        """
        return call_blocking(
            lambda: self._async.get().publish(source, id=id, if_exists=if_exists, on_end=on_end, **options),
            limit_s=None,
        )

    @overload
    def events(
        self, stream_id: str, *, notices: Literal[False] = False, **options: Unpack[ReadOptions]
    ) -> Generator[EntryReceived | GapReceived, None, None]: ...

    @overload
    def events(
        self, stream_id: str, *, notices: Literal[True], **options: Unpack[ReadOptions]
    ) -> Generator[StreamEvent, None, None]: ...

    def events(
        self, stream_id: str, *, notices: bool = False, **options: Unpack[ReadOptions]
    ) -> Generator[StreamEvent, None, None]:
        """As ``Broadcaster.events``. Leaving the ``for`` loop early ends the reading.

        An iterator that is kept in a variable is left with its ``close()``, or by ``contextlib.closing``.
        """
        if notices:
            return iterate_blocking(lambda: self._async.get().events(stream_id, notices=True, **options))
        return iterate_blocking(lambda: self._async.get().events(stream_id, **options))

    def read(self, stream_id: str) -> StreamResult:
        """As ``Broadcaster.read``."""
        return self._call(lambda broadcaster: broadcaster.read(stream_id))

    def stop(self, stream_id: str) -> None:
        """As ``Broadcaster.stop``."""
        self._call(lambda broadcaster: broadcaster.stop(stream_id))

    def start(
        self,
        prompt: str | None = None,
        *,
        messages: Sequence[Mapping[str, Any]] | None = None,
        model: str | None = None,
        idempotency_key: str | None = None,
        **options: Unpack[GenerationOptions],
    ) -> str:
        """As ``Broadcaster.start``: returns the id at once."""
        return self._call(
            lambda broadcaster: broadcaster.start(
                prompt, messages=messages, model=model, idempotency_key=idempotency_key, **options
            )
        )

    def get(self, generation_id: str, *, wait_s: float | None = None) -> Generation:
        """As ``Broadcaster.get``."""
        return self._call(lambda broadcaster: broadcaster.get(generation_id, wait_s=wait_s), wait_s=wait_s or 0.0)

    def create_token(
        self,
        stream_id: str,
        *,
        actions: Sequence[str] = ("watch",),
        ttl_s: float | None = None,
        sub: str = "",
        prefix: bool = False,
    ) -> CreatedToken:
        """As ``Broadcaster.create_token``."""
        return self._async.get().create_token(stream_id, actions=actions, ttl_s=ttl_s, sub=sub, prefix=prefix)

    def _call(self, start: Callable[[Broadcaster], Coroutine[Any, Any, _Result]], *, wait_s: float = 0.0) -> _Result:
        limit_s = self._timeout_s + wait_s
        try:
            return call_blocking(lambda: start(self._async.get()), limit_s=limit_s)
        except TimeoutError as error:
            raise LogUnavailable(f"Redis has not replied within {limit_s:g} s") from error
