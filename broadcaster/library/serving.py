"""What a Broadcaster serves to browsers: a router for FastAPI, an app for other ASGI frameworks, a response, tokens.

Rules
1. The host's guards decide: nothing is served without ``can_watch``, and each other right needs a guard of its own.
2. Router and app share the Broadcaster's parts. A lifespan opens them and closes the Broadcaster at its end, unless an
   ``async with`` still holds it; without a lifespan the first request opens them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Protocol, Self, Unpack

from broadcaster.client.documents import CreatedToken
from broadcaster.extras import import_for
from broadcaster.library.lazy import LazyResource
from broadcaster.settings import Settings
from broadcaster.web.former_router import refuse_former_form
from broadcaster.web.server.draining import draining_on_signals
from broadcaster.web.services import Services
from broadcaster.web.wiring import token_mint

if TYPE_CHECKING:
    from fastapi import APIRouter

    from broadcaster.web.asgi_app import MountableApp, WatchResponse
    from broadcaster.web.mount import RouterOptions


class HasScope(Protocol):
    """A request of Starlette, FastAPI, Litestar, Quart or Django."""

    @property
    def scope(self) -> Any:
        """Its ASGI scope."""


class StreamServing(ABC):
    """The serving half of a Broadcaster, which gives it its parts."""

    tenant: str
    _settings: Settings
    _services: LazyResource[Services]

    def __init__(self) -> None:
        self._drained = LazyResource(self._open_drained)

    @abstractmethod
    async def __aenter__(self) -> Self: ...

    @abstractmethod
    async def __aexit__(self, *_: object) -> None: ...

    @refuse_former_form
    def router(self, **options: Unpack[RouterOptions]) -> APIRouter:
        """The routes of a front-end for a FastAPI app: ``app.include_router(...)``. It only reads.

        Each ``can_…`` is a guard of the app: a function that FastAPI calls as a dependency, that takes ``stream_id``
        (``can_list`` and ``can_generate`` do not) and returns True or False. A route without a guard is not served:
        ``can_watch`` (required) reading a stream, ``can_list`` all generations of the tenant, ``can_generate`` new ones
        and the surfaces of the SDKs, ``can_stop`` their end, ``can_write`` creating feeds and appending to them,
        ``can_delete`` either. A guard decides before the body is read. ``on_generate`` learns the ``stream_id`` of a
        generation before its caller does.

        ``drain_on_signal`` (True): viewers are disconnected at SIGTERM and SIGINT, so that they do not delay the
        server's end. ``websockets`` (False): also serve ``/v1/streams/{id}/ws`` (docs/http.md). The app's middleware
        for plain requests, ``@app.middleware("http")``, does not see its handshakes: ``can_watch`` alone decides.
        Raises TypeError for a function that cannot be a guard.
        """
        mount = import_for("server", "broadcaster.web.mount")
        router: APIRouter = mount.create_router(self._serving, tenant=self.tenant, **options)
        return router

    @refuse_former_form
    def asgi(self, *, prefix: str = "", **options: Unpack[RouterOptions]) -> MountableApp:
        """The same routes as an ASGI app, for Starlette, Litestar, Quart, Django (docs/hosts.md), or to serve itself.

        The options are those of ``router``; guards take what FastAPI gives a dependency, such as the ``Request``.
        ``prefix``: what stands before our paths in the path that the app is given, where the host does not strip it.
        Where the host runs no lifespan, end with ``await broadcaster.aclose()``.
        """
        drains = options.get("drain_on_signal", True)
        app: MountableApp = import_for("server", "broadcaster.web.asgi_app").MountableApp(
            self._serving,
            get_services=self._drained.get if drains else self._services.get,
            tenant=self.tenant,
            prefix=prefix,
            options=options,
        )
        return app

    def response(
        self, stream_id: str, request: HasScope, *, dialect: str = "native", wait_s: float = 0
    ) -> WatchResponse:
        """The events of a stream, as the response of a route of your own, which decides who may watch.

        It begins behind the request's ``Last-Event-ID`` (or ``?after=``), and answers an unknown stream with a problem
        (404). ``dialect``: how it is encoded (docs/dialects.md). ``wait_s``: seconds to wait for a stream that is not
        created yet. The response is an ASGI app: return it in FastAPI, Starlette and Litestar.
        """
        response: WatchResponse = import_for("server", "broadcaster.web.asgi_app").WatchResponse(
            self._drained.get,
            request.scope,
            tenant=self.tenant,
            stream_id=stream_id,
            dialect=dialect,
            wait_s=wait_s,
        )
        return response

    def create_token(
        self,
        stream_id: str,
        *,
        actions: Sequence[str] = ("watch",),
        ttl_s: float | None = None,
        sub: str = "",
        prefix: bool = False,
    ) -> CreatedToken:
        """A viewer token for a stream of this tenant, signed here with ``TOKEN_KEYS``, without I/O (docs/tokens.md).

        The stream need not exist yet; ``prefix``: for all whose id begins with ``stream_id``. Raises TokensOff without
        a key to sign with, InvalidInput for values that no token can have.
        """
        made = token_mint(self._settings).mint(
            stream_id, tenant=self.tenant, actions=actions, ttl_s=ttl_s, subject=sub, is_prefix=prefix
        )
        return CreatedToken(
            token=made.text,
            jti=made.token.id,
            expires_at=made.token.expires_s,
            events_url=made.events_path(stream_id) if "watch" in actions and not prefix else None,
        )

    @asynccontextmanager
    async def _serving(self) -> AsyncIterator[Services]:
        async with self:
            yield await self._services.get()

    @asynccontextmanager
    async def _open_drained(self) -> AsyncIterator[Services]:
        services = await self._services.get()
        async with draining_on_signals(services):
            yield services
