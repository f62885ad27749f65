"""The socket that a front-end listens on, bound before anything is served.

1. A port belongs to the first who binds it. Who wants company says so (``share``), and then only processes of the same
   user that ask for it too (``is_shared``) may bind the port beside it.
2. On Linux each of them listens with a socket of its own (``SO_REUSEPORT``), and the kernel gives each new connection
   to one of them by a hash of its addresses: they spread evenly, however busy a process is, and what would have gone to
   one that ended goes to the others at once. Other systems give all to one; there one socket is handed down to all.
3. A socket that is bound and does not listen gets no connection. It keeps the port while nobody else has it.
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
# Unsent bytes the kernel takes of one viewer; by itself it would take 4 MiB of each that does not read (tcp_wmem).
UNSENT_BYTES: Final = 64 * 2**10

SPREADS: Final = sys.platform == "linux"
"""Whether the system spreads connections over the sockets of one port."""


def open_listener(host: str, port: int, *, is_shared: bool = False) -> socket.socket:
    """A bound socket for ``FrontEndServer``, IPv4 or IPv6; port 0 picks a free one. Raises OSError.

    What viewers need is set here: accepted sockets inherit it.
    """
    family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in (
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
    """Let others of this user who share bind this socket's port too, also when it is bound already."""
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
