"""The client: start, get, list, stop, delete and watch generations of a front-end, and publish to feeds, over HTTP.

    async with AsyncClient("http://127.0.0.1:8000") as client:
        generation = await client.start("Why is the sky blue?")
        async for event in client.events(generation.id):
            match event:
                case EntryReceived(event=TextDelta(delta=delta)):
                    print(delta, end="")

Every call has a deadline. A call whose response was lost is repeated: all calls are idempotent, ``start`` and
``append`` by an ``Idempotency-Key``, which the client generates unless the caller passes one.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Any, Final, Literal, Self, TypeVar, Unpack
from urllib.parse import quote

import httpx2
import msgspec
from msgspec import structs

from broadcaster.client.address import checked_url, key_headers
from broadcaster.client.documents import (
    Appended,
    CreatedToken,
    Generation,
    GenerationList,
    ModelsPage,
    QueueCounts,
    StreamList,
    StreamState,
    WorkersPage,
)
from broadcaster.client.errors import BadAnswer, ClientError
from broadcaster.client.repeating import CONNECT_TIMEOUT_S, RepeatedCalls
from broadcaster.client.stream import StreamEvent
from broadcaster.client.subscription import Subscription
from broadcaster.core.cursor import Cursor
from broadcaster.core.events import Event, TerminalEvent
from broadcaster.core.requests.options import (
    FeedOptions,
    GenerationOptions,
    IfExists,
    feed_fields,
    generation_fields,
)
from broadcaster.core.requests.publishing import as_mapping, encode_writable
from broadcaster.errors import InvalidEvent

# ``get`` sends requests that wait no closer together: a front-end that drains responds to each at once.
WAITING_PACE_S: Final = 1.0
# Streams each hold one connection; beyond this many a further one waits, and fails after the timeout.
MAX_CONNECTIONS: Final = 1000

_LOOPBACK: Final = frozenset({"127.0.0.1", "localhost", "::1"})
_JSON: Final[dict[str, str]] = {"content-type": "application/json"}
_Document = TypeVar("_Document")


class AsyncClient:
    """A front-end's client; use it as an async context manager, or call ``aclose``.

    ``timeout_s`` bounds each call, its repetitions included. A call is repeated twice if its failure may pass (no
    connection, a busy front-end). Once a front-end has responded, ``create_stream``, ``append`` and ``close`` are
    repeated until ``timeout_s``: a front-end that restarts loses no event. With ``retries``, every call is repeated up
    to that many times.

    A stream's connection that brings nothing for ``idle_timeout_s`` (it must exceed the server's heartbeat, 15 s)
    counts as lost; a stream without progress for ``give_up_after_s`` ends with GaveUp, at most one ``idle_timeout_s``
    later.
    """

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
        url = checked_url(base_url)
        self._give_up_after_s = give_up_after_s
        self._http = httpx2.AsyncClient(
            base_url=url,
            headers=key_headers(api_key),
            timeout=httpx2.Timeout(timeout_s, connect=min(CONNECT_TIMEOUT_S, timeout_s), read=idle_timeout_s),
            limits=httpx2.Limits(max_connections=MAX_CONNECTIONS, max_keepalive_connections=10),
            # No proxy can reach our loopback: a proxy from the environment would respond in the front-end's place.
            trust_env=url.host not in _LOOPBACK,
        )
        self._calls = RepeatedCalls(self._http, timeout_s=timeout_s, retries=retries)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close all connections; idempotent."""
        await self._http.aclose()

    async def start(
        self,
        prompt: str | None = None,
        *,
        messages: Sequence[Mapping[str, Any]] | None = None,
        model: str | None = None,
        idempotency_key: str | None = None,
        **options: Unpack[GenerationOptions],
    ) -> Generation:
        """Start a generation and return at once, usually with it ``queued``.

        Exactly one of ``prompt`` and ``messages``; ``options`` are the other fields of ``POST /v1/generations``, None
        meaning the server's default. Raises TypeError for an unknown option, or ClientError, among its codes
        ``invalid_request``, ``unknown_model``, ``queue_full``, ``tenant_limit``, ``idempotency_mismatch``.
        """
        body = generation_fields(options, prompt=prompt, messages=messages, model=model)
        headers = _keyed(idempotency_key)
        return await self._fetch(Generation, "POST", "/v1/generations", json=body, headers=headers)

    async def get(self, generation_id: str, *, wait_s: float | None = None) -> Generation:
        """The generation as it stands; with ``wait_s``, as it stands when it has ended or that many seconds passed.

        A request waits for no longer than the front-end allows, and is followed by another one. Raises ClientError
        ``unknown_stream`` when nothing is known under the id.
        """
        path = f"/v1/generations/{_in_path(generation_id)}"
        if wait_s is None:
            return await self._fetch(Generation, "GET", path)
        now = asyncio.get_running_loop().time
        give_up_at, left_s = now() + wait_s, wait_s
        while True:
            next_at = now() + WAITING_PACE_S
            params = {"wait_s": f"{left_s:g}"}
            generation = await self._fetch(Generation, "GET", path, params=params, wait_s=left_s)
            if generation.is_over or now() >= give_up_at:
                return generation
            await asyncio.sleep(min(next_at, give_up_at) - now())
            left_s = max(0.0, give_up_at - now())

    async def list(
        self, *, status: Literal["all", "open", "over"] = "all", limit: int | None = None, before: str | None = None
    ) -> GenerationList:
        """A page of the caller's generations, newest first, without texts and parts.

        ``before`` is the ``next_before`` of the page before; None begins with the newest.
        """
        return await self._fetch(GenerationList, "GET", "/v1/generations", params=_page_params(status, limit, before))

    async def stop(self, generation_id: str) -> Generation:
        """End the generation, even if it has viewers; idempotent. Returns its state then, without text and parts.

        A caller without the right to watch gets ``id``, ``status``, ``stop_requested`` and ``events_url`` alone.
        Raises ClientError, e.g. ``stop_not_durable``: repeat.
        """
        return await self._fetch(Generation, "POST", f"/v1/generations/{_in_path(generation_id)}/stop", json={})

    async def delete(self, generation_id: str) -> None:
        """Stop the generation, wait for its end, and delete its request and its answer.

        Raises ClientError: ``stop_pending`` when it has not ended in time (repeat), ``unknown_stream`` when nothing is
        known under the id, as is the case an hour after its deletion.
        """
        await self._calls.call("DELETE", f"/v1/generations/{_in_path(generation_id)}")

    async def create_stream(
        self,
        stream_id: str,
        *,
        if_exists: IfExists | None = None,
        idempotency_key: str | None = None,
        **config: Unpack[FeedOptions],
    ) -> StreamState:
        """Create a feed, or find it as it was created with the same ``config``.

        ``config`` are the fields of ``PUT /v1/streams/{id}``; with ``lease_s``, repeating the same call renews the
        lease, and is due every third of it. ``if_exists`` makes the feed this caller's own, and decides what a stream
        of that id means: "fail" raises ``stream_exists``, "replace" begins it anew, "join" returns the stream that is
        there. To renew its lease, repeat the call with the same ``idempotency_key`` and "fail".

        The state has the ``creation``, which ``append`` and ``close`` take; None: the stream was joined. Raises
        TypeError for an unknown field, or ClientError, among its codes ``stream_exists``, ``invalid_request`` and
        ``forbidden``.
        """
        body = feed_fields("create_stream", config, named=("if_exists", "idempotency_key"))
        call: dict[str, Any] = {"json": body, "writes": True}
        if if_exists is not None:
            call["params"] = {"if_exists": if_exists}
            call["headers"] = _keyed(idempotency_key)
        response = await self._calls.call("PUT", _stream_path(stream_id), **call)
        return structs.replace(_decoded(StreamState, response), creation=response.headers.get("etag"))

    async def append(
        self,
        stream_id: str,
        events: Mapping[str, Any] | Event | Sequence[Mapping[str, Any] | Event],
        *,
        idempotency_key: str | None = None,
        creation: str | None = None,
    ) -> Appended:
        """Append one event or several (1 to 1000) to a feed: all in this order, or not one.

        ``creation`` is that of the state which ``create_stream`` has returned: nothing is appended to another feed that
        has the id by now (``stream_replaced``).

        Raises ClientError, among its codes ``invalid_event``, ``stream_closed``, ``stream_full``, ``rate_limited``,
        ``unknown_stream``, ``idempotency_mismatch``; ValueError when an event cannot be stored as JSON (NaN, bytes, a
        datetime: the text names what to send instead).
        """
        headers = _keyed(idempotency_key) | _writing_headers(creation)
        path = f"{_stream_path(stream_id)}/events"
        return await self._fetch(Appended, "POST", path, content=_encoded(events), headers=headers, writes=True)

    async def close(
        self,
        stream_id: str,
        end: Mapping[str, Any] | TerminalEvent | None = None,
        *,
        creation: str | None = None,
    ) -> StreamState:
        """End a feed with a terminal event (None: ``finish``); repeating the same end changes nothing.

        A caller without the right to watch gets ``id``, ``kind``, ``status`` and ``events_url`` alone.
        ``creation`` as in ``append``. Raises ClientError, among its codes ``stream_closed`` (it has ended otherwise),
        ``stream_replaced`` and ``unknown_stream``; ValueError as ``append``.
        """
        path = f"{_stream_path(stream_id)}/close"
        content = _encoded({} if end is None else end)
        headers = _writing_headers(creation)
        return await self._fetch(StreamState, "POST", path, content=content, headers=headers, writes=True)

    async def delete_stream(self, stream_id: str) -> None:
        """End a feed (with ``abort``, unless it is over) and delete it; its id is free after an hour.

        Raises ClientError ``unknown_stream`` when the id is unknown or deleted, or a generation's.
        """
        await self._calls.call("DELETE", _stream_path(stream_id))

    async def stream(self, stream_id: str, *, parts: bool = False) -> StreamState:
        """The state of a stream, a feed's or a generation's; ``parts``: with its content so far.

        Raises ClientError ``unknown_stream``.
        """
        params = {"parts": "true"} if parts else {}
        return await self._fetch(StreamState, "GET", _stream_path(stream_id), params=params)

    async def list_streams(
        self, *, status: Literal["all", "open", "over"] = "all", limit: int | None = None, before: str | None = None
    ) -> StreamList:
        """A page of the caller's generations and feeds, newest first; ``before`` as in ``list``."""
        return await self._fetch(StreamList, "GET", "/v1/streams", params=_page_params(status, limit, before))

    async def create_token(
        self,
        stream_id: str,
        *,
        actions: Sequence[str] = ("watch",),
        ttl_s: float | None = None,
        sub: str | None = None,
        prefix: bool = False,
    ) -> CreatedToken:
        """A viewer token for a stream, which need not exist yet; ``prefix``: for all whose id begins with it.

        Raises ClientError, among its codes ``tokens_off``, ``forbidden`` and ``invalid_request``.
        """
        body = {"actions": list(actions), "ttl_s": ttl_s, "sub": sub, "prefix": prefix}
        return await self._fetch(CreatedToken, "POST", f"{_stream_path(stream_id)}/tokens", json=body)

    async def revoke_tokens(self, *, jti: str | None = None, sub: str | None = None) -> None:
        """Refuse one viewer token, or all of a subject that were issued until now, on every front-end within a second.

        Raises ClientError: ``invalid_request`` unless exactly one of them is given.
        """
        await self._calls.call("POST", "/v1/tokens/revoke", json={"jti": jti, "sub": sub})

    async def workers(self, *, after: str | None = None) -> WorkersPage:
        """A page of the workers. Raises ClientError ``forbidden`` without the right ``admin``."""
        params = {} if after is None else {"after": after}
        return await self._fetch(WorkersPage, "GET", "/v1/admin/workers", params=params)

    async def models(self) -> Sequence[str]:
        """The names of the models that the front-end lists. A route of a pattern serves more."""
        page = await self._fetch(ModelsPage, "GET", "/v1/models")
        return [model.id for model in page.data]

    async def queue(self) -> QueueCounts:
        """What waits for workers, over all tenants. Raises ClientError ``forbidden`` without the right ``admin``."""
        return await self._fetch(QueueCounts, "GET", "/v1/admin/queue")

    def events(self, stream_id: str, after: Cursor | None = None) -> AsyncGenerator[StreamEvent, None]:
        """Everything in the stream after a cursor (None: from its beginning), then live, until it ends.

        Connections that break are replaced. No entry is returned twice, and none is missing without a GapReceived.
        Leave the iterator early only inside ``contextlib.aclosing``, so that its connection is closed.

        Raises (1) ClientError for a refusal (``unknown_stream``, ``bad_cursor``), (2) GaveUp without progress for
        ``give_up_after_s``, (3) StreamClosed when the server closes it for good, (4) BadAnswer when the
        server is not a front-end. Must be called from a running event loop.
        """
        path = f"{_stream_path(stream_id)}/events"
        return Subscription(self._http, path, after=after, give_up_after_s=self._give_up_after_s).run()

    async def _fetch(self, kind: type[_Document], method: str, path: str, **request: Any) -> _Document:
        """The document that a call returns. Raises BadAnswer, and as ``RepeatedCalls.call``."""
        return _decoded(kind, await self._calls.call(method, path, **request))


def _decoded(kind: type[_Document], response: httpx2.Response) -> _Document:
    """Raises BadAnswer."""
    try:
        return msgspec.json.decode(response.content, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        detail = f"the response is not a front-end's: {error}"
        raise BadAnswer(detail, status=response.status_code) from error


def _writing_headers(creation: str | None) -> dict[str, str]:
    return _JSON if creation is None else {"if-match": _in_header("creation", creation)} | _JSON


def _keyed(idempotency_key: str | None) -> dict[str, str]:
    key = str(uuid.uuid4()) if idempotency_key is None else idempotency_key
    return {"idempotency-key": _in_header("idempotency_key", key)}


def _in_header(name: str, value: str) -> str:
    """Raises ClientError ``invalid_request`` for a value that no header can hold."""
    if not (value and value.isascii() and value.isprintable()) or value != value.strip():
        detail = f"{name} is one line of printable ASCII, not {value!r:.80}"
        raise ClientError("invalid_request", status=None, detail=detail, retry=False)
    return value


def _encoded(events: Any) -> bytes:
    """One event, or the array of several. Raises ValueError for one that cannot be stored as JSON."""
    if not isinstance(events, list | tuple):
        return _encoded_event(events, "")
    return b"[%s]" % b",".join(_encoded_event(each, f"events[{at}]: ") for at, each in enumerate(events))


def _encoded_event(event: Any, place: str) -> bytes:
    try:
        return encode_writable(as_mapping(event))
    except InvalidEvent as error:
        raise ValueError(place + error.detail) from error
    except ValueError as error:
        raise ValueError(place + str(error)) from error


def _page_params(status: str, limit: int | None, before: str | None) -> dict[str, str]:
    query = {"status": status, "limit": limit, "before": before}
    return {name: str(value) for name, value in query.items() if value is not None}


def _stream_path(stream_id: str) -> str:
    return f"/v1/streams/{_in_path(stream_id)}"


def _in_path(id: str) -> str:
    """The id as one segment of a path; an unescaped dot segment would lead upwards."""
    return quote(id, safe="").replace(".", "%2E") if id.strip(".") == "" else quote(id, safe="")
