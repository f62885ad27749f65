"""Routes, written once and mounted in our own app and in hosts' apps, several times.

    routes = RouteTable(prefix="/v1/generations", tag="generations")

    @routes.get("/{generation_id}", summary="…")
    async def get_generation(…): …

    for row in routes:
        row.add_to(router)          # a router whose route_class is MountedRoute.of(mount)

The steps of a request to such a route, in this order, in every app:

1. Its mount is open, else 500 ``setup_error``.
2. In our own app its caller may do this (callers.py), else 403.
3. Its head announces a JSON body (of a few routes: any body) within the bound (json_body.py), else 415 or 413. In a
   host's app a page that opens a WebSocket is the host's own, or of a listed origin, else 403 (viewing/handshake.py),
   and the guards of the host grant the request (rights.py), else 403, 404, or what the guard raises. Then its tenant is
   within its rate (tenant_rates.py), else 429. Up to here no byte of the body is read.
4. The body is JSON, else 400. In our own app the credential must still be valid then, because a body may take long.
   Dependencies that the host gave to ``include_router`` run: FastAPI reads the body first.
5. Its parameters fit, else 400; then the route itself.
6. Our own errors and FastAPI's validation errors become responses here, as problems or in the table's own shape, which
   the head may choose. Any other error is the host's: the HTTPException of its guard, and an unexpected error, which
   its own error tracker must see.
7. Every dependency that yields is left when the response exists, and before a byte of it is sent; FastAPI would keep
   most of them (a database session) open for as long as the viewer watches. What one raises then is the host's, and the
   stream that is not sent has no viewer.
8. No cache keeps a response (guards/request.py).

A route may have a shortcut for its plainest requests, which FastAPI need not read: it must answer as the route would.
It is taken in our own app alone, where no guard of a host stands before the route. Of a crowd that reconnects it
serves the first viewer of each stream; the others do not even reach the app (viewing/direct.py).
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import AsyncExitStack
from typing import Any, ClassVar, Final, NamedTuple, Protocol, TypeVar
from urllib.parse import quote

from fastapi import APIRouter, Request, Response
from fastapi.exceptions import FastAPIError
from fastapi.routing import APIRoute
from starlette.routing import Match
from starlette.types import Receive, Scope, Send

from broadcaster.errors import AnswerUnsent, Busy
from broadcaster.observability.lines import showable
from broadcaster.web.documents.problem_shapes import ErrorShape, ShapeChoice, reshape, shaped_responses
from broadcaster.web.documents.problems import error_response, failure_response
from broadcaster.web.guards.callers import check_caller
from broadcaster.web.guards.host_guards import DEPENDENCY_STACKS
from broadcaster.web.guards.json_body import StrictRequest, check_head
from broadcaster.web.guards.json_ledger import JsonHold
from broadcaster.web.guards.request import uncached
from broadcaster.web.guards.request_log import record_of
from broadcaster.web.guards.rights import Rights, stream_in_path
from broadcaster.web.services import Arrival, Mount, Services, arrive, tenant_of
from broadcaster.web.viewing.handshake import as_request, request_scope
from broadcaster.web.viewing.sliced_response import SLICE_BYTES, SlicedResponse
from broadcaster.web.viewing.viewer_response import ViewerResponse

# Health belongs to no tenant. An EventSource gives up for good on 429, so its route sends the refusal in a 200; a page
# cannot see the status of a handshake, so the route of a WebSocket sends the refusal in a message.
_UNCOUNTED: Final = frozenset({"health", "readiness", "stream_events", "stream_ws"})

_Endpoint = TypeVar("_Endpoint", bound=Callable[..., Any])


class Shortcut(Protocol):
    """Responds to the plainest requests in place of their route."""

    def fits(self, scope: Scope) -> bool:
        """Whether this is one of them; the path has matched the route's."""

    async def answer(self, services: Services, scope: Scope) -> Response:
        """The response of the route, or its error."""


class Row(NamedTuple):
    """One route; ``options`` are those of FastAPI's ``add_api_route``."""

    method: str
    path: str
    endpoint: Callable[..., Any]
    options: Mapping[str, Any]
    shortcut: Shortcut | None = None
    errors: ErrorShape | None = None
    takes_bytes: bool = False
    takes_websocket: bool = False
    errors_for: ShapeChoice | None = None

    @property
    def operation(self) -> str:
        """Its name in our own OpenAPI document, by which `rights.RIGHTS` knows it."""
        return str(self.options["operation_id"])

    def add_to(self, router: APIRouter, **changes: Any) -> None:
        """Serve it there, with other options where ``changes`` names them."""
        options = {**self.options, **changes}
        if self.errors is not None:
            options["responses"] = shaped_responses(options["responses"], self.errors)
        router.add_api_route(self.path, self.endpoint, methods=[self.method], **options)
        route = router.routes[-1]
        if isinstance(route, MountedRoute):
            route.errors, route.errors_for = self.errors, self.errors_for
            route.operation = self.operation
            route.takes_bytes = self.takes_bytes
            route.surface = self.options["tags"][0]
            route.takes_websocket = self.takes_websocket
            if not route.mount.is_hosted:  # there a guard of the host stands before the route
                route.shortcut = self.shortcut


class RouteTable:
    """Rows in the order in which they were written. The verbs are decorators, as those of a router.

    ``tag`` and ``description``: where the OpenAPI document lists them. ``errors``: the shape of its problems; None: as
    they are. ``errors_for`` chooses it by the head of a request, and ``errors`` is then what the document shows.
    ``takes_bytes``: bodies may have any media type. The name of an endpoint is its ``operation_id``, unless the row has
    another one.
    """

    def __init__(
        self,
        *,
        prefix: str = "",
        tag: str,
        description: str = "",
        errors: ErrorShape | None = None,
        errors_for: ShapeChoice | None = None,
        takes_bytes: bool = False,
    ) -> None:
        self.prefix = prefix
        self.tag = tag
        self.description = description
        self.errors = errors
        self.errors_for = errors_for
        self.takes_bytes = takes_bytes
        self._rows: list[Row] = []

    def __iter__(self) -> Iterator[Row]:
        return iter(self._rows)

    def get(self, path: str, *, shortcut: Shortcut | None = None, **options: Any) -> Callable[[_Endpoint], _Endpoint]:
        """A route of GET."""
        return self._row("GET", path, options, shortcut=shortcut)

    def websocket(self, path: str, **options: Any) -> Callable[[_Endpoint], _Endpoint]:
        """A route of GET, which the handshake of a WebSocket reaches too (viewing/handshake.py)."""
        return self._row("GET", path, options, takes_websocket=True)

    def head(self, path: str, **options: Any) -> Callable[[_Endpoint], _Endpoint]:
        """A route of HEAD."""
        return self._row("HEAD", path, options)

    def post(self, path: str, **options: Any) -> Callable[[_Endpoint], _Endpoint]:
        """A route of POST."""
        return self._row("POST", path, options)

    def put(self, path: str, **options: Any) -> Callable[[_Endpoint], _Endpoint]:
        """A route of PUT."""
        return self._row("PUT", path, options)

    def delete(self, path: str, **options: Any) -> Callable[[_Endpoint], _Endpoint]:
        """A route of DELETE."""
        return self._row("DELETE", path, options)

    def _row(
        self,
        method: str,
        path: str,
        options: Mapping[str, Any],
        *,
        shortcut: Shortcut | None = None,
        takes_websocket: bool = False,
    ) -> Callable[[_Endpoint], _Endpoint]:
        def add(endpoint: _Endpoint) -> _Endpoint:
            merged = {"tags": [self.tag], "operation_id": endpoint.__name__, **options}
            row = Row(method, self.prefix + path, endpoint, merged, shortcut, self.errors, self.takes_bytes)
            self._rows.append(row._replace(takes_websocket=takes_websocket, errors_for=self.errors_for))
            return endpoint

        return add


class MountedRoute(APIRoute):
    """A route of one mount; ``of`` makes the class that a router is given."""

    mount: ClassVar[Mount]
    rights: ClassVar[Rights | None]
    operation: str = ""
    surface: str = ""
    shortcut: Shortcut | None = None
    errors: ErrorShape | None = None
    errors_for: ShapeChoice | None = None
    takes_bytes: bool = False
    takes_websocket: bool = False

    @classmethod
    def of(cls, mount: Mount, rights: Rights | None = None) -> type[MountedRoute]:
        """The class of this mount's routes; without ``rights`` every request may do everything (our own app)."""
        return type(cls.__name__, (cls,), {"mount": mount, "rights": rights})

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """A handshake matches as the GET request that it is: a host's app has no layer that makes it one."""
        is_handshake = scope["type"] == "websocket" and self.takes_websocket
        return super().matches(request_scope(scope) if is_handshake else scope)

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request whose path has matched."""
        if scope["type"] == "websocket":
            scope, receive, send = as_request(scope, receive, send)
        record = record_of(scope)
        record.operation, record.surface, record.route = self.operation, self.surface, self.path
        record.tenant = tenant_of(scope, self.mount.tenant)
        record.stream = showable(stream_in_path(scope["path_params"]))
        if self.mount.is_hosted:  # in our own app the outermost layer does it, for what is no route too
            send = uncached(send)
            await super().handle(scope, receive, send)
            return
        shortcut, response = self.shortcut, None
        try:
            check_caller(scope, self.operation)
            if shortcut is not None and shortcut.fits(scope):
                services = self.mount.opened()
                response = await shortcut.answer(services.visited_by(services.visitor_of(scope)), scope)
        except Exception as error:
            response = failure_response(error)
            if response is None:
                raise
        if response is None:
            await super().handle(scope, receive, send)
        else:
            await response(scope, receive, send)

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """FastAPI's documented way to read a request, and to answer errors, differently."""
        handle, mount, rights = super().get_route_handler(), self.mount, self.rights
        own_segments = self.path.count("/")

        async def answer(request: Request, hold: JsonHold | None) -> Response:
            try:
                services = mount.opened()
                check_head(request, max_bytes=services.max_body_bytes, takes_bytes=self.takes_bytes)
                if rights is not None:
                    services = await rights.admit(request, self.operation, services)
                tenant = tenant_of(request.scope, mount.tenant)
                if self.operation not in _UNCOUNTED:
                    services.rates.admit_request(tenant)
                assert hold is not None  # the services were open a moment ago, too
                services = services.metered(hold, request.scope, is_hosted=mount.is_hosted)
                arrive(request.scope, Arrival(services, tenant, base_of(request.scope, own_segments)))
                bounds = {"max_bytes": services.max_body_bytes, "max_values": services.max_body_values}
                response = await handle(StrictRequest(request, hold, **bounds))
                _check_still_admitted(services, request, response)
                return response
            except Exception as error:
                problem = failure_response(error if rights is None else rights.veil(error))
                if problem is None:
                    raise
                return problem

        async def handle_mounted(request: Request) -> Response:
            response: Response | None = None
            tenant = tenant_of(request.scope, mount.tenant)
            hold = None if mount.services is None else JsonHold(mount.services.json_ledger, tenant)
            try:
                async with AsyncExitStack() as dependencies:  # one for both scopes: what was entered last is left first
                    request.scope.update(dict.fromkeys(DEPENDENCY_STACKS, dependencies))
                    response = await answer(request, hold)
            except BaseException:
                if hold is not None:
                    hold.close()
                if isinstance(response, ViewerResponse):
                    response.discard()
                raise
            if response is None:
                raise FastAPIError("a dependency with yield caught an exception, and has to raise it again")
            errors = self.errors if self.errors_for is None else self.errors_for(request.headers)
            response = response if errors is None else reshape(response, errors)
            if hold is None:
                return response
            held = _with_hold(response, hold)  # in its last shape: the response that is sent gives the bytes back
            return held if errors is None else reshape(held, errors)

        return handle_mounted


def _check_still_admitted(services: Services, request: Request, response: Response) -> None:
    """Raises Unauthorized if the request's credential is no longer valid: a long poll may take longer than it lives.

    A request that has changed something gets its response: otherwise its caller would repeat it.
    """
    caller, is_read = services.visitor.caller, request.method in ("GET", "HEAD")
    if caller is not None and is_read and not isinstance(response, ViewerResponse):
        services.check_admitted(caller)


def _with_hold(response: Response, hold: JsonHold) -> Response:
    """The response; a large one is counted until it is sent (json_ledger.py), or refused without room for it."""
    if isinstance(response, ViewerResponse) or len(response.body) <= SLICE_BYTES:
        hold.close()
        return response
    hold.drop_body()
    hold.give_place()
    try:
        hold.set(len(response.body))
    except (AnswerUnsent, Busy) as refusal:
        hold.close()
        return error_response(refusal)
    return SlicedResponse(response, hold)


def base_of(scope: Scope, own_segments: int) -> str:
    """What stands before a route's own path in the client's URL: root_path, and the prefixes of the routers over it.

    Some servers and apps put root_path in front of the path, others do not. A parameter of ours never holds a slash, so
    that the route's own part of the path is its last segments.
    """
    root: str = scope.get("root_path", "").rstrip("/")
    path: str = scope["path"]
    if root and path.startswith(f"{root}/"):
        path = path[len(root) :]
    return quote(root + path.rsplit("/", own_segments)[0])
