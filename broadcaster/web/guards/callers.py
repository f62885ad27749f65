"""What the caller of a request may do, in our own app with keys: decided by the head, before the body is read.

Rules
1. Every operation of our own app is in the table of host rights (rights.py), in ``_OWN`` here, or free.
2. A token acts on streams. It never makes or revokes tokens, and never deletes: what it may stop, others still read.
3. A refusal depends on the credential, the path and the query alone, never on whether the stream exists.
4. What belongs to no tenant (the admin routes) needs a key with the right ``admin``. Its holder sees all tenants.
5. Without a caller (AUTH is off, or the app is a host's) nothing is refused here.
6. A request that gets the content of a stream which its body names also needs ``watch``. Its route calls
   ``check_watches`` before it looks the stream up, so rule 3 holds here too.
7. A request that changes a stream shows its state to a caller that ``may_watch`` it, and else only the outcome. In a
   host's app the guard ``can_watch`` decides that.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from starlette.types import Scope

from broadcaster.core.access.callers import CALLER_KEY, Action, Caller
from broadcaster.errors import Forbidden
from broadcaster.web.guards.rights import RIGHTS, Right, rights_of, stream_in_path
from broadcaster.web.services import Services

_ACTION_OF: Final[Mapping[Right, Action]] = {
    Right.WATCH: Action.WATCH,
    Right.LIST: Action.WATCH,
    Right.GENERATE: Action.START,
    Right.STOP: Action.STOP,
    Right.WRITE: Action.APPEND,
    Right.DELETE: Action.STOP,
}


_WATCH: Final = frozenset({Action.WATCH})
_ADMIN: Final = frozenset(
    {
        *("list_workers", "get_queue", "get_front_end", "get_redis"),
        *("list_dead_letters", "requeue_dead_letter", "get_timeline"),
    }
)
_OWN: Final[Mapping[str, frozenset[Action]]] = {
    "get_usage": _WATCH,
    **dict.fromkeys(("read_durable_stream", "head_durable_stream"), _WATCH),
    **dict.fromkeys(("create_durable_stream", "append_durable_stream"), frozenset({Action.APPEND})),
    "delete_durable_stream": frozenset({Action.STOP}),
    **dict.fromkeys(_ADMIN, frozenset({Action.ADMIN})),
}
"""Operations that no host serves."""

_FOR_KEYS: Final = frozenset({"create_token", "revoke_tokens", "delete_durable_stream"}).union(
    _ADMIN, (operation for operation, rights in RIGHTS.items() if Right.DELETE in rights)
)
"""Operations that no token allows."""


def actions_for(operation: str, query: bytes = b"") -> frozenset[Action]:
    """What an operation with this query needs; empty: nothing."""
    return _OWN.get(operation) or frozenset(_ACTION_OF[right] for right in rights_of(operation, query))


def check_caller(scope: Scope, operation: str) -> None:
    """Raises Forbidden if the request's caller may not do this. ``scope`` has the path's parameters."""
    caller: Caller | None = scope.get(CALLER_KEY)
    if caller is None:
        return
    query: bytes = scope.get("query_string", b"")
    if caller.grants is not None and (operation in _FOR_KEYS or Right.DELETE in rights_of(operation, query)):
        raise Forbidden("this needs a key: a token does not allow it")
    _check(caller, actions_for(operation, query), stream_id=stream_in_path(scope["path_params"]))


async def may_watch(services: Services, stream_id: str) -> bool:
    """Whether the response to this request may hold the stream's state (rule 7)."""
    if services.grants_watch is not None:
        return await services.grants_watch(stream_id)
    caller = services.visitor.caller
    return caller is None or caller.may(_WATCH, stream_id=stream_id)


def check_watches(caller: Caller | None, stream_id: str | None) -> None:
    """Raises Forbidden if this caller may not watch the stream of rule 6; None: its id is not known yet."""
    if caller is not None:
        _check(caller, _WATCH, stream_id=stream_id)


def _check(caller: Caller, needed: frozenset[Action], *, stream_id: str | None) -> None:
    if not needed or caller.may(needed, stream_id=stream_id):
        return
    if caller.grants is None:
        raise Forbidden(f"this key does not allow {_listed(needed)}; it allows {_listed(caller.actions)}")
    raise Forbidden(f"this token does not allow {_listed(needed)} here")


def _listed(actions: frozenset[Action]) -> str:
    return ", ".join(sorted(actions))
