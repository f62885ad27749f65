"""A viewer's response without a server in between: the hub's bytes, written to the socket itself.

When the head is written, uvicorn drops the request: its task and its parser are freed, and the
connection belongs to a ``SocketDriver`` of a few hundred bytes. Measured beside ASGI's ``send`` (docs/benchmarks.md).

Rules
1. Bytes go to the socket directly only while the transport buffers none: they would overtake. The rest of a slice that
   the socket does not take goes to the transport, whose buffer has no room (``high=0``): once it is empty the viewer is
   pumped. So a transport never buffers more than one slice, and the hub's ledger counts it.
2. After each write to the transport its buffer is checked: bytes that went out at once cause no call. While bytes wait
   there, the viewer is busy, even if it has pulled everything (hub/viewer.py, rule 5).
3. The socket's number is used until ``connection_lost``, which comes before it is closed.
4. A response that ends cleanly gives the connection back for further requests. Bytes that the client has sent meanwhile
   wait, up to ``PIPELINED_BYTES``; beyond that the socket is not read.
5. A response that does not end cleanly aborts the connection.
6. A socket that takes everything is written ``SLICES_A_TURN`` slices; then the others have their turn.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, MutableSet
from dataclasses import KW_ONLY, dataclass, field
from typing import Final

from broadcaster.core.sse import LAST_CHUNK
from broadcaster.hub.stop_reasons import StopReason
from broadcaster.hub.viewer import Viewer

PIPELINED_BYTES: Final = 64 * 2**10
SLICES_A_TURN: Final = 4


@dataclass(slots=True, eq=False, repr=False)
class SocketDriver(asyncio.Protocol):
    """Implements ``PushDriver`` over one connection.

    ``successor`` makes the protocol that gets the connection afterwards (None: it ends with the response); ``registry``
    lists every connection that the server must end. ``pipelined``: what the client has sent behind its request.
    """

    _transport: asyncio.Transport
    _viewer: Viewer | None
    _: KW_ONLY
    registry: MutableSet[asyncio.Protocol]
    successor: Callable[[], asyncio.Protocol] | None
    pipelined: bytes = b""
    fd: int = field(init=False)
    _is_full: bool = field(default=False, init=False)
    _is_resting: bool = field(default=False, init=False)

    def __post_init__(self) -> None:
        self.fd = self._transport.get_extra_info("socket").fileno()

    def begin(self, head: bytes) -> None:
        """Take the connection, write the head with what the viewer has to send at once, and pump."""
        transport, viewer = self._transport, self._viewer
        transport.set_write_buffer_limits(high=0)
        transport.set_protocol(self)
        self.registry.add(self)
        if viewer is not None:
            viewer.push_through(self)
            # Through the transport: it may still hold an earlier response.
            self._buffer(head + viewer.pull_opening())
            self.pump()

    # -- called by the viewer

    def pump(self) -> None:
        """Write what there is, as long as the socket takes it (rule 6); end the response when the viewer is over."""
        viewer = self._viewer
        if viewer is None or self._is_resting:
            return
        for _ in range(SLICES_A_TURN):
            if self._is_full:
                return
            chunk = viewer.pull_chunk()
            if chunk:
                self._write(chunk)
            elif viewer.is_over:
                self._end(viewer)
                return
            else:
                return
        self._is_resting = True
        viewer.in_a_turn(self._go_on)

    def _go_on(self) -> None:
        self._is_resting = False
        self.pump()

    def beat(self, heartbeat: bytes) -> None:
        """Write a heartbeat, if nothing else is on its way."""
        if not self._is_full:
            self._write(heartbeat)

    # -- called by the server at its end

    def shutdown(self) -> None:
        """The server ends while this viewer is connected: it resumes elsewhere."""
        if self._viewer is not None:
            self._viewer.stop(StopReason.DRAIN)

    def abort(self) -> None:
        """Close it now."""
        self._transport.abort()

    # -- asyncio.Protocol

    def data_received(self, data: bytes) -> None:
        """A pipelined request has arrived."""
        self.pipelined += data
        if len(self.pipelined) > PIPELINED_BYTES:
            self._transport.pause_reading()

    def eof_received(self) -> None:
        """The client is gone: the transport closes."""

    def pause_writing(self) -> None:
        """The transport buffers bytes."""
        self._is_full = True

    def resume_writing(self) -> None:
        """The transport's buffer is empty."""
        self._is_full = False
        if self._viewer is not None:
            self._viewer.note_unsent(0)
        self.pump()

    def connection_lost(self, error: Exception | None) -> None:
        """The connection is gone."""
        self.registry.discard(self)
        viewer, self._viewer = self._viewer, None
        if viewer is not None:
            viewer.leave()

    # -- writing

    def _write(self, chunk: bytes | memoryview) -> None:
        try:
            taken = os.write(self.fd, chunk)
        except BlockingIOError:
            taken = 0
        except OSError:
            self._transport.abort()
            self._is_full = True  # nothing more is written
            return
        if taken != len(chunk):
            self._buffer(memoryview(chunk)[taken:])

    def _buffer(self, rest: bytes | memoryview) -> None:
        self._transport.write(rest)
        unsent = self._transport.get_write_buffer_size()
        self._is_full = unsent > 0
        if unsent and self._viewer is not None:
            self._viewer.taken(unsent=unsent)

    def _end(self, viewer: Viewer) -> None:
        """Rules 4 and 5."""
        self._viewer = None
        viewer.leave()
        if viewer.stop_reason is StopReason.CLIENT_GONE:
            return
        if not viewer.ends_cleanly:
            self._transport.abort()
            return
        self._transport.write(LAST_CHUNK)
        if self.successor is None:
            self._transport.close()
            return
        self._give_back(self.successor())

    def _give_back(self, successor: asyncio.Protocol) -> None:
        self.registry.discard(self)
        self._transport.set_write_buffer_limits()
        self._transport.set_protocol(successor)
        successor.connection_made(self._transport)
        pipelined, self.pipelined = self.pipelined, b""
        if pipelined:
            self._transport.pause_reading()  # until then: what comes meanwhile stands behind it
            asyncio.get_running_loop().call_soon(_read_next, self._transport, successor, pipelined)


def _read_next(transport: asyncio.Transport, successor: asyncio.Protocol, pipelined: bytes) -> None:
    """The next request, in a turn of its own: the viewer ended within a flush that serves other viewers too."""
    if transport.is_closing():
        return
    transport.resume_reading()
    try:
        successor.data_received(pipelined)
    except Exception:
        transport.abort()
        raise


def is_plain(transport: asyncio.Transport) -> bool:
    """Whether the client reads the bytes that are written to the socket (not under TLS)."""
    return transport.get_extra_info("sslcontext") is None and transport.get_extra_info("socket") is not None
