"""Look-ups of names by the system's resolver (/etc/hosts, DNS and other sources that it is configured for).

Rules
1. Each look-up has a thread of its own. The look-ups of the event loop share two threads (uvloop): two names whose
   servers are silent would hold both, and no other name could be resolved.
2. A look-up cannot be ended, so its thread stays when its callers have gone. Concurrent look-ups of the same name share
   one thread, and ``most`` bounds the threads of one resolver.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence
from functools import partial
from typing import Any, Final, TypeAlias

from broadcaster.process.tasks import in_daemon_thread

RESOLVED_AT_ONCE: Final = 64

AddressInfo: TypeAlias = tuple[socket.AddressFamily, socket.SocketKind, int, str, tuple[Any, ...]]
"""As ``getaddrinfo`` returns it: family, kind, protocol, canonical name, address."""

_Name: TypeAlias = tuple[str, int, int]


class SystemResolver:
    """See the module's rules. Belongs to one event loop."""

    def __init__(self, most: int = RESOLVED_AT_ONCE) -> None:
        self._places = asyncio.Semaphore(most)
        self._under_way: dict[_Name, asyncio.Task[Sequence[AddressInfo]]] = {}

    async def addresses(self, host: str, port: int) -> Sequence[str]:
        """The addresses of this host. Raises OSError if it has none."""
        return [str(address[0]) for *_, address in await self.look_up(host, port)]

    async def look_up(self, host: str, port: int, *, flags: int = 0) -> Sequence[AddressInfo]:
        """``getaddrinfo`` of this host, for TCP. Raises OSError if it has no address.

        Cancelling one caller does not cancel the shared look-up.
        """
        name = (host, port, flags)
        if name not in self._under_way:
            task = self._under_way[name] = asyncio.create_task(self._in_thread(*name))
            task.add_done_callback(partial(self._end, name))
        return await asyncio.shield(self._under_way[name])

    async def _in_thread(self, host: str, port: int, flags: int) -> Sequence[AddressInfo]:
        await self._places.acquire()
        call = partial(socket.getaddrinfo, host, port, type=socket.SOCK_STREAM, flags=flags)
        try:
            found = in_daemon_thread(call, name="resolve", on_end=self._places.release)
        except RuntimeError as error:  # no thread can be started now
            self._places.release()
            raise OSError("no thread for a look-up") from error
        return await found

    def _end(self, name: _Name, task: asyncio.Task[Sequence[AddressInfo]]) -> None:
        del self._under_way[name]
        # Waiting callers get the failure. If none is left, retrieving it here prevents a warning.
        task.cancelled() or task.exception()
