"""Free ports for servers that are killed and come back under the same port.

They lie below the range from which the system takes the ports of outgoing connections: there a port could be taken
while its server is away, and a client that reconnects repeatedly could connect to itself.

Processes that run tests side by side draw from one range, and a server listens only some time after its port was drawn:
so a port that was drawn is claimed by a file, and no other process draws it for half an hour.
"""

from __future__ import annotations

import os
import random
import socket
import tempfile
import time
from pathlib import Path
from typing import Final

_FIRST: Final = 10_000
_LAST: Final = 32_000
_CLAIMED_S: Final = 1800.0
_CLAIMS: Final = Path(tempfile.gettempdir()) / f"bc-ports-{os.getuid()}"
_rng: Final = random.SystemRandom()  # processes that run tests side by side must not draw the same


def free_port() -> int:
    """A free port of the loopback."""
    return draw_ports(1)[0]


def draw_ports(count: int) -> list[int]:
    """So many different free ports of the loopback, which no other process draws for a while."""
    _CLAIMS.mkdir(exist_ok=True)
    ports: list[int] = []
    while len(ports) < count:
        port = _rng.randint(_FIRST, _LAST)
        if _is_free(port) and _claim(_CLAIMS / str(port)):
            ports.append(port)
    return ports


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _claim(path: Path) -> bool:
    """Whether the port is this process's now."""
    try:
        path.touch(exist_ok=False)
    except FileExistsError:
        if time.time() - path.stat().st_mtime < _CLAIMED_S:
            return False
        path.touch()
    return True
