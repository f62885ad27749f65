"""Free ports for servers that are killed and come back under the same port.

They lie below the range from which the system takes the ports of outgoing connections: there a port could be taken
while its server is away, and a client that reconnects repeatedly could connect to itself.
"""

from __future__ import annotations

import random
import socket
from typing import Final

_FIRST: Final = 10_000
_LAST: Final = 32_000
_rng: Final = random.SystemRandom()  # processes that run tests side by side must not draw the same


def free_port() -> int:
    """A free port of the loopback."""
    return draw_ports(1)[0]


def draw_ports(count: int) -> list[int]:
    """So many different free ports of the loopback."""
    ports: set[int] = set()
    while len(ports) < count:
        port = _rng.randint(_FIRST, _LAST)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        ports.add(port)
    return list(ports)
