"""redis-py's connections, with the one method replaced that loses cancellations.

redis-py bounds a write by ``asyncio.wait_for``. On Python 3.11 that swallows a cancellation which meets the end of the
write (python/cpython#86296, mended in 3.12 with ``asyncio.timeout``): a task that was cancelled once goes on for ever.
Half of all cancellations of a busy task were lost that way, and with them the end of a worker that drains. It also made
a task of its own for every command.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Final

from redis import exceptions as rex
from redis.asyncio.connection import AbstractConnection, Connection, SSLConnection, UnixDomainSocketConnection


class _WritesUnderTimeout(AbstractConnection):
    async def send_packed_command(self, command: bytes | str | Iterable[bytes], check_health: bool = True) -> None:
        """Write one packed command. Raises redis's TimeoutError or ConnectionError; the connection is closed then."""
        if not self.is_connected:
            await self.connect_check_health(check_health=False)
        if check_health:
            await self.check_health()  # type: ignore[no-untyped-call]  # redis-py leaves it untyped
        try:
            async with asyncio.timeout(self.socket_timeout):
                await self._send_packed_command(_lines(command))
        except TimeoutError:
            await self.disconnect(nowait=True)
            raise rex.TimeoutError("Timeout writing to socket") from None
        except OSError as error:
            await self.disconnect(nowait=True)
            raise rex.ConnectionError(f"Error while writing to socket: {error}") from error
        except BaseException:
            # Half a command may be on the wire: what follows it would be read as its rest.
            await self.disconnect(nowait=True)
            raise


def _lines(command: bytes | str | Iterable[bytes]) -> Iterable[bytes]:
    if isinstance(command, str):
        return [command.encode()]
    return [command] if isinstance(command, bytes) else command


class _Tcp(_WritesUnderTimeout, Connection):
    pass


class _Tls(_WritesUnderTimeout, SSLConnection):
    pass


class _Unix(_WritesUnderTimeout, UnixDomainSocketConnection):
    pass


CONNECTION_TYPES: Final[dict[type[AbstractConnection], type[AbstractConnection]]] = {
    Connection: _Tcp,
    SSLConnection: _Tls,
    UnixDomainSocketConnection: _Unix,
}
"""redis-py's class for a URL's scheme → ours."""
