"""The socket that a front-end listens on, bound before anything is served.

1. A port belongs to the first process that binds it. If that process shares it (``share``), other processes of the same
   user that share it too (``is_shared``) may bind the port as well.
2. On Linux each of them listens with a socket of its own (``SO_REUSEPORT``), and the kernel gives each new connection
   to one of them by a hash of its addresses: they spread evenly, however busy a process is, and connections for a
   process that ended go to the others at once. Other systems give all connections to one socket: there all inherit one.
3. A socket that is bound and does not listen gets no connection, but reserves the port.
"""

from __future__ import annotations

import socket
import sys
from typing import Final

# A peer that acknowledges nothing for so long is gone (Linux; accepted sockets inherit it from the listening one).
DEAD_PEER_MS: Final = 30_000
KEEPALIVE_IDLE_S: Final = 15
KEEPALIVE_INTERVAL_S: Final = 5
KEEPALIVE_PROBES: Final = 3
# Unsent bytes that the kernel buffers for one viewer; by default it would buffer 4 MiB for a slow one (tcp_wmem).
UNSENT_BYTES: Final = 64 * 2**10

SPREADS: Final = sys.platform == "linux"
"""Whether the system spreads connections over the sockets of one port."""


def open_listener(host: str, port: int, *, is_shared: bool = False) -> socket.socket:
    """A bound socket for ``FrontEndServer``, IPv4 or IPv6; port 0 picks a free one. Raises OSError.

    The options for viewers are set here: accepted sockets inherit them.
    """
    family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in (
            ("TCP_NODELAY", 1),  # uvloop sets it on every connection, asyncio only if the listener names its protocol
            ("TCP_USER_TIMEOUT", DEAD_PEER_MS),
            ("TCP_KEEPIDLE", KEEPALIVE_IDLE_S),
            ("TCP_KEEPINTVL", KEEPALIVE_INTERVAL_S),
            ("TCP_KEEPCNT", KEEPALIVE_PROBES),
            ("TCP_NOTSENT_LOWAT", UNSENT_BYTES),
        ):
            option = getattr(socket, name, None)  # not every system has all of them
            if option is not None:
                listener.setsockopt(socket.IPPROTO_TCP, option, value)
        if is_shared:
            share(listener)
        listener.bind(address)
        listener.setblocking(False)
    except OSError:
        listener.close()
        raise
    return listener


def share(listener: socket.socket) -> None:
    """Let other processes of this user that share the port bind it too, also when it is bound already."""
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
