"""Guards of a host: the functions by which a host's app decides what a request to a mounted router may do.

    def can_watch(stream_id: str, user: Annotated[User, Depends(signed_in)]) -> bool:
        return user.owns(stream_id)

Rules
1. A guard is called by FastAPI, as a dependency of the host: it may be async, it may yield, and it may take
   ``request: Request``, dependencies of the host, headers, cookies and queries. ``app.dependency_overrides`` hold.
2. ``stream_id`` is the stream that the request is about, wherever the request names it: in its path, in its body, or by
   a chat. A guard of streams that does not take it would grant every stream, so it is refused when the router is made.
3. Only True grants. False is a refusal, and any other value is a TypeError: a dependency that returns the user is no
   guard. An HTTPException is answered by the host.
4. A guard decides by the head of the request. The body is read after every guard has granted; a guard cannot read it.
5. A guard, and everything it depends on, is left as soon as it has decided: no session of the host stays open while a
   body is read, or while a caller waits or watches.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AsyncExitStack
from contextvars import ContextVar
from typing import Any, Final, ForwardRef, NoReturn

from fastapi import Depends, Request, Response, Security
from fastapi.exceptions import FastAPIError
from fastapi.params import Depends as DependsMarker
from fastapi.routing import APIRoute
from fastapi.security.base import SecurityBase

# Where FastAPI looks for the stacks on which it enters dependencies: of scope "request", and of scope "function".
DEPENDENCY_STACKS: Final = ("fastapi_inner_astack", "fastapi_function_astack")
STREAM_ID: Final = "stream_id"

GuardFunction = Callable[..., Any]
"""A guard as the host writes it (rules 1 to 3)."""


class HostGuard:
    """One guard, ready to be called.

    ``name`` is the argument of the router that it was given as. ``takes_stream``: it decides about a stream, else about
    the caller alone. ``returns_nothing``: its result is ignored, and it refuses by raising.
    """

    def __init__(
        self, name: str, function: GuardFunction, *, takes_stream: bool = True, returns_nothing: bool = False
    ) -> None:
        """Raises TypeError when the function cannot be this guard."""
        self.name = name
        self._returns_nothing = returns_nothing
        _check(name, function, takes_stream=takes_stream, returns_nothing=returns_nothing)
        route = _route_of(function, path=f"/{{{STREAM_ID}}}" if takes_stream else "/")
        if route.body_field is not None:
            raise TypeError(f"{name} takes the body, or a part of it: a guard decides before the body is read")
        dependants = tuple(_flat(route.dependant))
        for unresolved in _unresolved_in(dependants):
            raise TypeError(
                f"{name}: {unresolved}: move what it names to the module, or FastAPI reads it from the query"
            )
        self._handle = route.get_route_handler()
        self.security = tuple(_security_in(dependants))

    async def grants(self, request: Request, stream_id: str = "") -> bool:
        """The guard's decision. Raises what the guard, or what it depends on, raises, and TypeError (rule 3)."""
        verdict = await self._call(request, stream_id)
        if self._returns_nothing:
            return True
        if not isinstance(verdict, bool):
            raise TypeError(f"{self.name} must return True or False, and returned {type(verdict).__name__}")
        return verdict

    async def _call(self, request: Request, stream_id: str) -> Any:
        response: Response | None = None
        async with AsyncExitStack() as dependencies:  # one for both scopes: what was entered last is left first
            scope = {**request.scope, "path_params": {**request.path_params, STREAM_ID: stream_id}}
            scope.update(dict.fromkeys(DEPENDENCY_STACKS, dependencies))
            token = _app.set(request.scope["app"])
            try:
                response = await self._handle(Request(scope, _refuse_to_read))
            finally:
                _app.reset(token)
        if not isinstance(response, _Verdict):
            raise FastAPIError("a dependency with yield caught an exception, and has to raise it again")
        return response.value


# The app that serves the request: one router may be included in several, and each has overrides of its own.
_app: ContextVar[Any] = ContextVar("broadcaster_host_app")


class _Overrides:
    """``app.dependency_overrides`` of the app that serves the request."""

    @property
    def dependency_overrides(self) -> dict[Callable[..., Any], Callable[..., Any]]:
        """See FastAPI, "Testing Dependencies with Overrides"."""
        overrides: dict[Callable[..., Any], Callable[..., Any]] = getattr(_app.get(), "dependency_overrides", {})
        return overrides


def _route_of(function: GuardFunction, *, path: str) -> APIRoute:
    """A route that depends on the guard and answers with what it returned; it is never mounted."""

    async def decide(verdict: Any = Depends(function, scope="function")) -> Response:
        return _Verdict(verdict)

    return APIRoute(path, decide, methods=["GET"], dependency_overrides_provider=_Overrides())


class _Verdict(Response):
    """Carries what a guard returned through FastAPI; it is never sent."""

    def __init__(self, value: Any) -> None:
        super().__init__()
        self.value = value


class _DocumentedScheme(SecurityBase):
    """A security scheme of a guard, for the host's OpenAPI document alone: the guard itself has checked it."""

    def __init__(self, scheme: SecurityBase) -> None:
        self.model = scheme.model
        self.scheme_name = scheme.scheme_name

    async def __call__(self) -> None:
        """Decides nothing."""


def _check(name: str, function: Any, *, takes_stream: bool, returns_nothing: bool) -> None:
    takes, returns = f"{STREAM_ID}: str, " if takes_stream else "", "None" if returns_nothing else "bool"
    instead = f"write def {name}({takes}user: User = Depends(signed_in)) -> {returns}: …"
    if isinstance(function, DependsMarker) or not callable(function):
        raise TypeError(f"{name}: a function is needed, not {type(function).__name__}; {instead}")
    parameters = inspect.signature(function).parameters
    if "request" in parameters and parameters["request"].annotation is inspect.Parameter.empty:
        raise TypeError(f"{name}: annotate its parameter, request: Request; FastAPI takes it for a query otherwise")
    if takes_stream and STREAM_ID not in parameters:
        raise TypeError(f"{name}: it does not take {STREAM_ID}, so it would decide for every stream; {instead}")
    if STREAM_ID in parameters and not takes_stream:
        raise TypeError(f"{name}: there is no stream yet, so it cannot take {STREAM_ID}; {instead}")


def _flat(dependant: Any) -> Iterator[Any]:
    """What FastAPI found a guard to depend on, with itself."""
    yield dependant
    for each in dependant.dependencies:
        yield from _flat(each)


def _unresolved_in(dependants: Iterable[Any]) -> Iterator[str]:
    """Parameters whose annotation (a string) names something that is not in the module, as a local function is not.

    FastAPI takes such a parameter for a query: a caller would then choose its own user.
    """
    for dependant in dependants:
        for param in (*dependant.path_params, *dependant.query_params):
            if isinstance(param.field_info.annotation, ForwardRef):
                yield f"cannot resolve {param.name}: {param.field_info.annotation.__forward_arg__}"


def _security_in(dependants: Iterable[Any]) -> Iterator[DependsMarker]:
    """What documents the security schemes that a guard depends on."""
    for each in dependants:
        if isinstance(each.call, SecurityBase):
            scopes: Sequence[str] = [*(each.parent_oauth_scopes or ()), *(each.own_oauth_scopes or ())]
            yield Security(_DocumentedScheme(each.call), scopes=scopes)


async def _refuse_to_read() -> NoReturn:
    raise RuntimeError("a guard decides by the head of the request: its body is not read yet")
