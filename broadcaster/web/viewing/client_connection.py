"""The client's connection, where the server offers it: our own runner lets a response take it, or abort it.

Elsewhere a response that cannot end cleanly raises, and the server closes the connection.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final, Protocol, cast

from broadcaster.hub.viewer import Viewer

if TYPE_CHECKING:
    from starlette.types import Scope

TRANSPORT_EXTENSION: Final = "broadcaster.transport"


class ViewerCut(ConnectionAbortedError):
    """The viewer was cut while its server has the connection: raised so that the server does not end it cleanly."""


class ClientConnection(Protocol):
    """What ``scope["extensions"]["broadcaster.transport"]`` offers."""

    @property
    def lost(self) -> asyncio.Future[None]:
        """Done when the connection is gone."""

    def abort(self) -> None:
        """Close it now, without sending what is buffered."""

    def take(self, viewer: Viewer) -> bool:
        """After the head: the viewer takes the connection, and the request is over. False: it cannot be taken."""


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
