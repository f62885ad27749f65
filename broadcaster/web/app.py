"""The front-end as an ASGI app: the composition root of the web room.

    from broadcaster.settings import Settings
    app = create_app(Settings())

The layers, from outside in: ``?token=`` is taken out of the query (tokens/presented.py); the handshake of a WebSocket
becomes the GET request that it is (viewing/handshake.py); a name for the request; its line in the log (request_log.py);
pages of other origins, where some are listed (cors.py); the shapes of errors and the net for unexpected ones; no
WebSocket but a stream's; the keys (key_guard.py), or without keys the loopback guard; routing; the rules of our routes
wherever they are mounted (route_table.py).

On our own runner plain viewers are admitted before all of these, by the same functions (viewing/direct.py): a new layer
needs its part there.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, nullcontext
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware

from broadcaster import __version__
from broadcaster.core.access.api_keys import Keyring
from broadcaster.observability.counting import Reading, counted_by
from broadcaster.observability.tracing.opening import open_tracing
from broadcaster.observability.tracing.spans import Tracing
from broadcaster.settings import Settings
from broadcaster.web.documents.problem_shapes import ShapedProblems
from broadcaster.web.documents.problems import UnexpectedErrors, answer_http, problem_schema
from broadcaster.web.guards.cors import CrossOrigin
from broadcaster.web.guards.credentials import Credentials
from broadcaster.web.guards.key_file import KeyFile
from broadcaster.web.guards.key_guard import KeyGuard, admit_by_key, describe_keys
from broadcaster.web.guards.refusal_log import RefusalLog
from broadcaster.web.guards.request import LoopbackGuard, NoWebSocket, RequestId, admit_loopback
from broadcaster.web.guards.request_counts import RequestCounts
from broadcaster.web.guards.request_log import RequestLog
from broadcaster.web.guards.tokens.presented import QueryToken
from broadcaster.web.route_table import MountedRoute
from broadcaster.web.routes import admin, console, feeds, generations, health, streams, tokens, usage
from broadcaster.web.services import Mount, Services
from broadcaster.web.surfaces.table import SURFACES, shape_of
from broadcaster.web.viewing.direct import DirectViewers
from broadcaster.web.viewing.handshake import HandshakeAsRequest
from broadcaster.web.wiring import open_services, token_issuers

if TYPE_CHECKING:
    from broadcaster.web.demo import DemoPort
    from broadcaster.web.route_table import RouteTable

_SERVICE: Final = "broadcaster-front-end"
_DESCRIPTION: Final = """
Answers of language models that outlive the request: a worker runs the generation and appends numbered events to a log;
any number of viewers replay it from any point and follow it live over plain server-sent events.

* **Ask**: `POST /v1/generations` returns an id at once. The client need not stay connected.
* **Watch**: `GET /v1/streams/{id}/events`, as often, as late and from as many places as you like. An `EventSource`
  resumes by itself with `Last-Event-ID`: nothing is lost, nothing is repeated.
* **Wait**: `stream: false`, or `GET /v1/generations/{id}?wait_s=30`, for clients without a stream.
* **Publish**: `PUT /v1/streams/{id}`, then `POST /v1/streams/{id}/events`: a stream for a background job, or for
  several writers at once, with the same viewers' interface.
* **Stop**: `POST /v1/generations/{id}/stop`. Closing a connection stops nothing.
* **Delete**: `DELETE /v1/generations/{id}` stops it, and deletes request and answer.

Every error is an RFC 9457 problem document; its `code` is stable (see the schema *Problem*).
"""

_TAGS: Final = [
    {"name": "generations", "description": "Start answers, read them, wait for them, stop and delete them."},
    {
        "name": "streams",
        "description": "The events of a generation or a feed, from any point, live; feeds to append to.",
    },
    *({"name": routes.tag, "description": routes.description} for routes in SURFACES),
    {"name": "tokens", "description": "Short-lived tokens with which a browser watches one stream; revocation."},
    {"name": "usage", "description": "What a tenant's keys have spent."},
    {"name": "admin", "description": "For operators: keys with the right `admin`."},
    {"name": "health", "description": "For balancers and supervisors."},
]


def create_app(
    settings: Settings,
    *,
    services: Services | None = None,
    tracing: Tracing | None = None,
    demo: DemoPort | None = None,
) -> FastAPI:
    """The front-end for these settings.

    Given ``services`` are used as they are and stay open at the end. Without them the app's lifespan opens the log, the
    tail and the hub, and closes them. The lifespan closes ``tracing`` at its end; None: as the settings have it. Raises
    SetupError when the file of keys cannot be used, and when the settings want traces without the extra `otel`.
    ``demo``: the page has buttons that break this machine's processes (demo.py); only `broadcaster demo` gives it.
    """
    tracing = tracing or open_tracing(settings.traces, service=_SERVICE)

    mount = Mount(services=services)
    credentials = _credentials(settings, is_shared=services is None) if settings.auth == "keys" else None
    observers = _Observers(RequestCounts(), RefusalLog(settings.log_refusals_per_s), tracing)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        own = open_services(settings, credentials=credentials)
        try:
            async with nullcontext(services) if services is not None else own as opened:
                app.state.services = mount.services = opened
                yield
        finally:
            tracing.close()

    app = FastAPI(
        title="Broadcaster",
        summary="LLM answers that outlive the request",
        description=_DESCRIPTION,
        version=__version__,
        license_info={"name": "Apache 2.0", "identifier": "Apache-2.0"},
        openapi_tags=_TAGS,
        openapi_url=None,  # FastAPI would encode the document for each request
        docs_url=None,  # FastAPI's own page loads its script from a foreign host
        redoc_url=None,
        lifespan=lifespan,
        middleware=_layers(settings, credentials, observers),
        exception_handlers={HTTPException: answer_http},
        # A redirect of a POST loses its body in some clients and its method in others; a 404 is plain.
        redirect_slashes=False,
    )
    app.state.services = services
    app.state.request_counts = observers.counts
    app.state.direct = _direct(settings, mount, credentials=credentials, observers=observers)
    app.router.route_class = MountedRoute.of(mount)
    # Routes are tried in this order, and the first viewers of a crowd that reconnects are of the first.
    own = (streams, generations, feeds, tokens, usage, admin)
    for routes in (*(module.routes for module in own), *_optional(settings), *SURFACES, health.routes):
        for row in routes:
            row.add_to(app.router)
    if demo is not None:
        import_module("broadcaster.web.demo").add_demo(app, demo)
    app.include_router(console.router)
    _describe(app, has_keys=settings.auth == "keys")
    _serve_document(app)
    return app


def _optional(settings: Settings) -> Iterator[RouteTable]:
    """The routes that a setting can switch off: a front-end without them does not import them."""
    if settings.durable_streams:
        yield import_module("broadcaster.web.routes.durable.table").routes


def app_readings(app: FastAPI) -> Iterator[Reading]:
    """The metrics of a front-end; see ``Source``. Of its rooms there are none before its lifespan and after."""
    yield from counted_by("broadcaster_http_requests_total", app.state.request_counts.heads)
    if app.state.services is not None:
        yield from app.state.services.readings()


class _Observers(NamedTuple):
    """What learns of every request."""

    counts: RequestCounts
    refusals: RefusalLog
    tracing: Tracing


def _direct(
    settings: Settings, mount: Mount, *, credentials: Credentials | None, observers: _Observers
) -> DirectViewers:
    """The part of the layers for plain viewers on our own runner."""
    return DirectViewers(
        mount,
        admit=admit_loopback if credentials is None else partial(admit_by_key, credentials=credentials),
        counts=observers.counts,
        refusals=observers.refusals,
        tracing=observers.tracing,
        has_origins=bool(settings.cors_origins),
    )


def _layers(settings: Settings, credentials: Credentials | None, observers: _Observers) -> list[Middleware]:
    """Outermost first."""
    layers = [
        Middleware(QueryToken),
        Middleware(HandshakeAsRequest),
        Middleware(RequestId, observers.counts),
        Middleware(RequestLog, refusals=observers.refusals, tracing=observers.tracing),
    ]
    if settings.cors_origins:
        layers.append(Middleware(CrossOrigin, origins=settings.cors_origins))
    layers += [
        Middleware(ShapedProblems, shape_of=shape_of),
        Middleware(UnexpectedErrors),
        Middleware(NoWebSocket),
    ]
    if credentials is None:
        layers.append(Middleware(LoopbackGuard))
    else:
        layers.append(Middleware(KeyGuard, credentials=credentials))
    return layers


def _credentials(settings: Settings, *, is_shared: bool) -> Credentials:
    keys, path = settings.api_keys, settings.api_keys_file
    return Credentials(
        Keyring() if keys is None else Keyring.read(keys.get_secret_value()),
        file=None if path is None else KeyFile(path),
        tokens=token_issuers(settings),
        is_shared=is_shared,
        wait_s=settings.redis_timeout_s,
    )


def _describe(app: FastAPI, *, has_keys: bool) -> None:
    """Put the schema ``Problem``, which every error response refers to, and the keys into the OpenAPI document."""
    create = app.openapi

    def openapi() -> dict[str, Any]:
        document = create()
        document["components"]["schemas"]["Problem"] = problem_schema()
        if has_keys:
            describe_keys(document)
        return document

    app.openapi = openapi  # type: ignore[method-assign]  # FastAPI's documented way to extend it


def _serve_document(app: FastAPI) -> None:
    """Serve the OpenAPI document as bytes that are made once for each root_path that its server gives."""
    encoded: dict[str, bytes] = {}

    async def serve_document(request: Request) -> Response:
        root_path = request.scope.get("root_path", "").rstrip("/")
        if root_path not in encoded:
            servers = {"servers": [{"url": root_path}]} if root_path else {}
            encoded.clear()
            encoded[root_path] = json.dumps({**app.openapi(), **servers}, separators=(",", ":")).encode()
        return Response(encoded[root_path], media_type="application/json")

    app.add_route("/openapi.json", serve_document, include_in_schema=False)
