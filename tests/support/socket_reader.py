"""A viewer on a socket of its own, driven by a ``SocketDriver``, and what its client reads when the test lets it."""

from __future__ import annotations

import asyncio
import socket

from broadcaster.core.cursor import START, Cursor
from broadcaster.hub.viewer import Viewer
from broadcaster.web.server.socket_driver import SocketDriver
from tests.support.witness import Witness

SMALL_BYTES = 4096


class ChunkedReader:
    """The bodies of HTTP chunks, in whatever pieces they come."""

    def __init__(self) -> None:
        self._held = b""
        self._left = 0  # of the chunk that has begun, its last CRLF included
        self.has_ended = False

    def feed(self, data: bytes) -> bytes:
        """What of the body these bytes bring."""
        self._held += data
        body = []
        while self._held:
            if self._left > 2:
                piece, self._held = self._held[: self._left - 2], self._held[self._left - 2 :]
                self._left -= len(piece)
                body.append(piece)
            elif self._left:
                if len(self._held) < self._left:
                    break
                assert self._held[: self._left] == b"\r\n"[-self._left :]
                self._held, self._left = self._held[self._left :], 0
            else:
                line, found, rest = self._held.partition(b"\r\n")
                if not found:
                    break
                assert not self.has_ended
                size = int(line, 16)
                self._held, self._left = rest, size + 2
                self.has_ended = size == 0
        return b"".join(body)


class SocketReader:
    """See the module's text. Open it with ``open_socket_reader``."""

    def __init__(
        self, viewer: Viewer, client: socket.socket, registry: set[asyncio.Protocol], *, cursor: Cursor | None
    ) -> None:
        self.viewer = viewer
        self.registry = registry
        self.client = client
        self.witness = Witness(after=cursor or START)
        self.body = ChunkedReader()
        self.is_lost = False

    @property
    def is_forgotten(self) -> bool:
        """Whether nothing of the connection is left at the server."""
        return not self.registry

    def pull_all(self) -> list[bytes]:
        """All that the kernel holds for the client now."""
        return self.receive(2**20)

    def receive(self, max_bytes: int) -> list[bytes]:
        """At most so many bytes; nothing when there are none."""
        pieces = []
        while max_bytes > 0:
            try:
                data = self.client.recv(min(max_bytes, 2**16))
            except BlockingIOError:
                break
            except ConnectionError:
                self.is_lost = True
                break
            if not data:
                self.is_lost = True
                break
            max_bytes -= len(data)
            pieces.append(data)
            self.witness.feed(self.body.feed(data))
        return pieces

    def close(self) -> None:
        """The client goes."""
        self.client.close()


async def open_socket_reader(viewer: Viewer, *, cursor: Cursor | None) -> SocketReader:
    """Over a pair of sockets whose buffers are small, so that a writer is soon held back."""
    ours, theirs = socket.socketpair()
    for each in (ours, theirs):
        each.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SMALL_BYTES)
        each.setblocking(False)
    transport, _ = await asyncio.get_running_loop().connect_accepted_socket(asyncio.Protocol, ours)
    registry: set[asyncio.Protocol] = set()
    SocketDriver(transport, viewer, registry=registry, successor=None).begin(b"")
    return SocketReader(viewer, theirs, registry, cursor=cursor)
