"""redis-py's connections, with methods replaced: one loses cancellations, one waits, and three are slow.

redis-py bounds a write by ``asyncio.wait_for``. On Python 3.11 that swallows a cancellation which meets the end of the
write (python/cpython#86296, fixed in 3.12 with ``asyncio.timeout``): a task that was cancelled once never ends. Half of
all cancellations of a busy task were lost that way, and with them the end of a worker that drains. It also created a
task for every command.

redis-py closes a connection only after the server has read what was written. A server that stands still never reads it,
and a call that waits for its reply would not notice the end of its connection: ours are aborted.

redis-py packs commands in Python although hiredis is installed: an append took 31 us, and takes 6 (the worker's
profile, ``make bench ONLY=worker``; it was the largest part of a worker's time).

redis-py sets a deadline for each reply, also for those of a pipeline that arrived in one piece with the first: a GET
among 1000 took 24 us, and takes 10.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any, Final, cast

import hiredis
from redis import exceptions as rex
from redis._parsers.hiredis import NOT_ENOUGH_DATA, _AsyncHiredisParser
from redis.asyncio.connection import AbstractConnection, Connection, SSLConnection, UnixDomainSocketConnection


class _OwnConnection(AbstractConnection):
    def pack_command(self, *args: Any) -> list[bytes]:
        """The command as RESP. Raises redis's DataError for what is neither text, bytes nor a number."""
        name = args[0]
        if isinstance(name, str) and " " not in name:  # redis-py writes some commands with their subcommands
            try:
                return [cast(bytes, hiredis.pack_command(args))]
            except TypeError:
                pass  # redis-py's method accepts some more types, and describes what is wrong with the others
        return super().pack_command(*args)

    def pack_commands(self, commands: Iterable[Iterable[Any]]) -> list[bytes]:
        """The commands as RESP, for one write. Raises as ``pack_command`` does."""
        return [b"".join([part for command in commands for part in self.pack_command(*command)])]

    async def disconnect(self, *args: Any, **options: Any) -> None:
        """Close it at once; a call under way on it fails."""
        if self._writer is not None:
            self._writer.transport.abort()
        await super().disconnect(*args, **options)

    async def read_response(
        self,
        disable_decoding: bool = False,
        timeout: float | None = None,
        *,
        disconnect_on_error: bool = True,
        push_request: bool | None = False,
    ) -> Any:
        """The next reply, without waiting when it has been read already. Raises redis's errors."""
        parser = self._parser
        if timeout is None and isinstance(parser, _AsyncHiredisParser) and parser._connected:
            reader = cast(hiredis.Reader, parser._reader)
            try:
                response = reader.gets(False) if disable_decoding else reader.gets()
                _raise_fatal(response)
            except Exception:
                if disconnect_on_error:
                    await self.disconnect(nowait=True)
                raise
            if isinstance(response, rex.ResponseError):
                raise response
            if response is not NOT_ENOUGH_DATA:
                return response
        return await super().read_response(
            disable_decoding, timeout, disconnect_on_error=disconnect_on_error, push_request=push_request
        )

    async def send_packed_command(self, command: bytes | str | Iterable[bytes], check_health: bool = True) -> None:
        """Write one packed command. Raises redis's TimeoutError or ConnectionError; the connection is closed then."""
        if not self.is_connected:
            await self.connect_check_health(check_health=False)
        if check_health:
            await self.check_health()  # type: ignore[no-untyped-call]  # redis-py leaves it untyped
        try:
            async with asyncio.timeout(self.socket_timeout):
                await self._send_packed_command(_pieces(command))
        except TimeoutError:
            await self.disconnect(nowait=True)
            raise rex.TimeoutError("Timeout writing to socket") from None
        except OSError as error:
            await self.disconnect(nowait=True)
            raise rex.ConnectionError(f"Error while writing to socket: {error}") from error
        except BaseException:
            # Half a command may be on the wire: the server would read the next one as its rest.
            await self.disconnect(nowait=True)
            raise


def _raise_fatal(response: Any) -> None:
    """A reply may report that the connection is unusable ("LOADING …"), by itself or as the first of a list."""
    first = response[0] if isinstance(response, list) and response else response
    if isinstance(first, rex.ConnectionError):
        raise first


def _pieces(command: bytes | str | Iterable[bytes]) -> Iterable[bytes]:
    if isinstance(command, str):
        return [command.encode()]
    return [command] if isinstance(command, bytes) else command


class _Tcp(_OwnConnection, Connection):
    pass


class _Tls(_OwnConnection, SSLConnection):
    pass


class _Unix(_OwnConnection, UnixDomainSocketConnection):
    pass


CONNECTION_TYPES: Final[dict[type[AbstractConnection], type[AbstractConnection]]] = {
    Connection: _Tcp,
    SSLConnection: _Tls,
    UnixDomainSocketConnection: _Unix,
}
"""redis-py's class for a URL's scheme → ours."""
