"""Rights: what each operation of a mounted router needs, and how a request is limited to what the host grants.

Rules
1. Every operation is in ``RIGHTS``. A router serves an operation if all its rights have a guard; others do not exist.
2. Where the path names a stream, the guards decide before the body and the log are read.
3. Where a stream is named elsewhere (``previous_response_id``, a chat's id, a repeated Idempotency-Key), the guards are
   called before the request gets anything of it: the request reaches the log through `_Generations` and `_Chats`, which
   call them for every id that was not granted yet. So a surface that takes an id in a new place is guarded, too.
4. A refusal is the response to an id that does not exist: the same 404 with the same text. 403 would reveal that the id
   exists. Where there is no id (listing, generating) a refusal is 403.
5. A generation belongs to the request that has created it, and the host learns its id (``on_generate``) before the
   caller does.
6. A creation with ``if_exists`` may delete the stream that is there ("replace"), or read it ("join"): it needs the
   right to that, too. The query is read by the head, and every ``if_exists`` in it counts.
7. The response to a stop or a close holds the state of the stream only if ``can_watch`` grants the stream, too. What
   has been stopped or closed by then is answered: a guard that refuses by raising hides the state alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from enum import StrEnum
from functools import partial
from typing import Any, Final

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from starlette.datastructures import QueryParams
from starlette.exceptions import HTTPException

from broadcaster.dialects.durable.headers import id_of_path
from broadcaster.dialects.openai_responses.answer import stream_id_of
from broadcaster.errors import BroadcasterError, Forbidden, IdempotencyMismatch, UnknownStream
from broadcaster.log.jobs.generations import Created, GenerationRequest, create_generation_id
from broadcaster.log.jobs.lists.chats import Chat
from broadcaster.log.streams.reader import Meta
from broadcaster.web.guards.host_guards import HostGuard
from broadcaster.web.ports import ChatsPort, GenerationsPort
from broadcaster.web.services import Services
from broadcaster.web.viewing.handshake import check_origin


class Right(StrEnum):
    """What a host may grant, by the router's argument that takes its guard."""

    WATCH = "can_watch"
    LIST = "can_list"
    GENERATE = "can_generate"
    STOP = "can_stop"
    WRITE = "can_write"
    DELETE = "can_delete"


OF_NO_STREAM: Final = frozenset({Right.LIST, Right.GENERATE})
"""Rights that need no stream."""

RIGHTS: Final[Mapping[str, Sequence[Right]]] = {
    "stream_events": (Right.WATCH,),
    "stream_ws": (Right.WATCH,),
    "get_stream": (Right.WATCH,),
    "get_generation": (Right.WATCH,),
    "get_response": (Right.WATCH,),
    "list_response_input_items": (Right.WATCH,),
    "ai_sdk_resume": (Right.WATCH,),
    "join_run": (Right.WATCH,),
    "list_generations": (Right.LIST,),
    "list_streams": (Right.LIST,),
    "create_generation": (Right.GENERATE,),
    "create_chat_completion": (Right.GENERATE,),
    "create_message": (Right.GENERATE,),
    "create_response": (Right.GENERATE,),
    "create_embeddings": (Right.GENERATE,),
    "create_completion": (Right.GENERATE,),
    "count_message_tokens": (Right.GENERATE,),
    "count_response_tokens": (Right.GENERATE,),
    "ai_sdk_send": (Right.GENERATE,),
    "run_agent": (Right.GENERATE,),
    "list_models": (Right.GENERATE,),
    "get_model": (Right.GENERATE,),
    "stop_generation": (Right.STOP,),
    "ai_sdk_stop": (Right.STOP,),
    "cancel_response": (Right.STOP, Right.WATCH),  # it returns the text so far
    "create_stream": (Right.WRITE,),
    "append_events": (Right.WRITE,),
    "close_stream": (Right.WRITE,),
    "delete_generation": (Right.DELETE,),
    "delete_response": (Right.DELETE,),
    "delete_stream": (Right.DELETE,),
}
"""Operation → the rights that it needs, all of them."""

_OF_IF_EXISTS: Final[Mapping[str, Right]] = {"replace": Right.DELETE, "join": Right.WATCH}
"""Rule 6."""

_STREAM_IN_PATH: Final[Mapping[str, Callable[[str], str]]] = {
    "stream_id": str,
    "stream_path": id_of_path,
    "generation_id": str,
    "response_id": stream_id_of,
}
"""Parameter of a path → the stream that it names, as the route will read it."""
_UNKNOWN: Final = "no stream has this id (or it has expired)"
_KEY_USED: Final = "this Idempotency-Key was used with another body"


class Rights:
    """The guards of one router."""

    def __init__(self, guards: Mapping[Right, HostGuard], *, on_generate: HostGuard | None = None) -> None:
        self._guards = guards
        self._on_generate = on_generate

    def guards_of(self, operation: str) -> Sequence[HostGuard] | None:
        """Those that decide about an operation; None: one of its rights has no guard, so it is not served."""
        rights = RIGHTS[operation]
        return [self._guards[right] for right in rights] if self._guards.keys() >= set(rights) else None

    async def admit(self, request: Request, operation: str, services: Services) -> Services:
        """What this request may use of the services, once its head has been granted (rules 2, 3).

        Raises UnknownStream and Forbidden (rule 4), ForbiddenOrigin for a handshake (viewing/handshake.py), and what a
        guard raises.
        """
        check_origin(request.scope, listed=services.cors_origins)
        rights = rights_of(operation, request.scope["query_string"])
        for right in rights:
            if right not in self._guards:  # of rule 6: without a guard of its other rights the operation is not served
                raise Forbidden(f"{right} is off here, and this if_exists needs it")
            if right in OF_NO_STREAM and not await self._guards[right].grants(request):
                raise Forbidden(f"{right} does not grant this")
        guards = [self._guards[right] for right in rights if right not in OF_NO_STREAM]
        caller = _Caller(request, guards or [self._guards[Right.WATCH]], on_generate=self._on_generate)
        stream_id = stream_in_path(request.path_params)
        if stream_id is not None:
            await caller.require(stream_id)
        return services.through(
            generations=_Generations(services.generations, caller),
            chats=_Chats(services.chats, services.generations, caller),
            grants_watch=partial(self._grants_watch, request),
        )

    async def _grants_watch(self, request: Request, stream_id: str) -> bool:
        """Rule 7."""
        try:
            return await self._guards[Right.WATCH].grants(request, stream_id)
        except (HTTPException, RequestValidationError):
            return False

    @staticmethod
    def veil(error: Exception) -> Exception:
        """Rule 4: the refused and the unknown get the same answer."""
        if not isinstance(error, UnknownStream):
            return error
        veiled = UnknownStream(_UNKNOWN)
        veiled.generation_id = error.generation_id
        return veiled


def rights_of(operation: str, query: bytes = b"") -> Sequence[Right]:
    """What a request needs, all of it; ``query``: the request's, as it was sent (rule 6)."""
    rights = RIGHTS.get(operation, ())
    if operation != "create_stream" or not query:
        return rights
    given = QueryParams(query).getlist("if_exists")
    return (*rights, *(right for value, right in _OF_IF_EXISTS.items() if value in given))


def stream_in_path(path_params: Mapping[str, Any]) -> str | None:
    """The stream that the path names, as the route will read it; None: the path names none."""
    return next((read(path_params[name]) for name, read in _STREAM_IN_PATH.items() if name in path_params), None)


class _Caller:
    """One request, and the streams about which its guards have decided."""

    def __init__(self, request: Request, guards: Sequence[HostGuard], *, on_generate: HostGuard | None) -> None:
        self._request = request
        self._guards = guards
        self._on_generate = on_generate
        self._decided: dict[str, bool] = {}

    async def may_use(self, stream_id: str) -> bool:
        """Whether every guard grants the stream; each is called once."""
        if stream_id not in self._decided:
            self._decided[stream_id] = await self._guards_grant(stream_id)
        return self._decided[stream_id]

    async def require(self, stream_id: str) -> None:
        """Raises UnknownStream unless every guard grants it."""
        if not await self.may_use(stream_id):
            raise UnknownStream(_UNKNOWN)

    async def own(self, stream_id: str) -> None:
        """Rule 5."""
        if self._on_generate is not None:
            await self._on_generate.grants(self._request, stream_id)
        self._decided[stream_id] = True

    async def _guards_grant(self, stream_id: str) -> bool:
        for guard in self._guards:
            if not await guard.grants(self._request, stream_id):
                return False
        return True


class _Generations:
    """The generations of one request: see GenerationsPort, and rules 3 and 5."""

    def __init__(self, inner: GenerationsPort, caller: _Caller) -> None:
        self._inner = inner
        self._caller = caller

    async def create(
        self, request: GenerationRequest, *, tenant: str, idempotency_key: str | None = None, **watching: Any
    ) -> Created:
        """Raises IdempotencyMismatch when the key is another caller's, whatever the body."""
        created = await self._inner.create(request, tenant=tenant, idempotency_key=idempotency_key, **watching)
        if not created.created:
            if not await self._caller.may_use(created.id):
                raise IdempotencyMismatch(_KEY_USED)
            return created
        try:
            await self._caller.own(created.id)
        except BaseException:  # the host has not recorded it: it would run, and cost, for no caller
            with suppress(BroadcasterError):
                await self._inner.stop(created.id, tenant=tenant)
            raise
        return created

    async def find(self, request: GenerationRequest, *, tenant: str, idempotency_key: str) -> Created | None:
        """Raises IdempotencyMismatch when the key is another caller's, whatever the body."""
        found = await self._inner.find(request, tenant=tenant, idempotency_key=idempotency_key)
        if found is not None and not await self._caller.may_use(found.id):
            raise IdempotencyMismatch(_KEY_USED)
        return found

    async def get(self, generation_id: str, *, tenant: str) -> Meta:
        await self._caller.require(generation_id)
        return await self._inner.get(generation_id, tenant=tenant)

    async def stop(self, generation_id: str, *, tenant: str) -> None:
        await self._caller.require(generation_id)
        await self._inner.stop(generation_id, tenant=tenant)

    async def delete(self, generation_id: str, *, tenant: str, timeout_s: float) -> None:
        await self._caller.require(generation_id)
        await self._inner.delete(generation_id, tenant=tenant, timeout_s=timeout_s)


class _Chats:
    """The chats of one request, see ChatsPort: a caller that is granted a chat's latest answer is granted the chat."""

    def __init__(self, inner: ChatsPort, generations: GenerationsPort, caller: _Caller) -> None:
        self._inner = inner
        self._generations = generations
        self._caller = caller

    async def latest(self, chat_id: str, *, tenant: str) -> Chat | None:
        """None also where the guards refuse.

        They are called for an unknown chat too, with an id that no generation has: so their HTTPExceptions do not
        reveal which chats exist.
        """
        chat = await self._inner.latest(chat_id, tenant=tenant)
        is_granted = await self._caller.may_use(create_generation_id() if chat is None else chat.generation_id)
        return chat if is_granted else None

    async def remember(self, chat_id: str, chat: Chat, *, tenant: str, retention_ms: int) -> None:
        """A chat whose latest answer is another caller's keeps it: this answer cannot be resumed by the chat's id."""
        latest = await self._inner.latest(chat_id, tenant=tenant)
        if latest is None or await self._is_free(latest.generation_id, tenant=tenant):
            await self._inner.remember(chat_id, chat, tenant=tenant, retention_ms=retention_ms)

    async def _is_free(self, generation_id: str, *, tenant: str) -> bool:
        with suppress(HTTPException):  # a refusal by the host; the generation of this request has already begun
            if await self._caller.may_use(generation_id):
                return True
        try:
            await self._generations.get(generation_id, tenant=tenant)
        except UnknownStream:
            return True
        return False
