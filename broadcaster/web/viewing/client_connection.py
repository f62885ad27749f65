"""The client's connection, where the server offers it: our own runner lets a response take it, or abort it.

Elsewhere a response that cannot end cleanly raises, and the server closes the connection.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final, Protocol, cast

from broadcaster.hub.viewer import Viewer

if TYPE_CHECKING:
    from starlette.types import Message, Scope, Send

TRANSPORT_EXTENSION: Final = "broadcaster.transport"

# A key of the ASGI event ``http.response.start`` that our own runner knows: an ``Offer`` of the viewer of the response.
OFFER: Final = "broadcaster.offer"


class ViewerCut(ConnectionAbortedError):
    """The viewer was cut while its server has the connection: raised so that the server does not end it cleanly."""


class Offer:
    """The viewer of a response, for the connection that the head is written to. ``viewer`` None: it is not offered."""

    __slots__ = ("is_taken", "viewer")

    def __init__(self, viewer: Viewer) -> None:
        self.viewer: Viewer | None = viewer
        self.is_taken = False


class ClientConnection(Protocol):
    """What ``scope["extensions"]["broadcaster.transport"]`` offers."""

    @property
    def lost(self) -> asyncio.Future[None]:
        """Done when the connection is gone."""

    def abort(self) -> None:
        """Close it now, without sending what is buffered."""

    async def send(self, send: Send, message: Message) -> None:
        """ASGI's ``send``; a head that offers its viewer (``OFFER``) may begin it here, which ends the request."""


def connection_of(scope: Scope) -> ClientConnection | None:
    """The request's connection on our own runner; None elsewhere."""
    extensions = cast(Mapping[str, object], scope.get("extensions") or {})
    return cast(ClientConnection | None, extensions.get(TRANSPORT_EXTENSION))


async def cut(connection: ClientConnection | None, reason: str) -> None:
    """End a response that cannot end cleanly. Raises ViewerCut where the server offers no way to abort."""
    if connection is None:
        raise ViewerCut(reason) from None
    connection.abort()
    # A response that returns unfinished before its server knows of the loss looks like a fault of the app.
    await asyncio.shield(connection.lost)
