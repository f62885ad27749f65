"""redis-py's connections, with methods replaced: one loses cancellations, one waits, one hides errors, two are slow.

``exchange`` is ours alone: many commands in one write, with their replies, without what redis-py does around each of
them (retries, events, metrics, deadlines). topology/nodes.py sends all commands with it.

redis-py bounds a write by ``asyncio.wait_for``. On Python 3.11 that swallows a cancellation which meets the end of the
write (python/cpython#86296, fixed in 3.12 with ``asyncio.timeout``): a task that was cancelled once never ends. Half of
all cancellations of a busy task were lost that way, and with them the end of a worker that drains. It also created a
task for every command.

redis-py closes a connection only after the server has read what was written. A server that stands still never reads it,
and a call that waits for its reply would not notice the end of its connection: ours are aborted. Each transport is
aborted once and never closed besides: over TLS, asyncio's (3.11) fails when it is aborted after a second close.

redis-py packs commands in Python although hiredis is installed: an append took 31 us, and takes 6 (the worker's
profile, ``make bench ONLY=worker``; it was the largest part of a worker's time).
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Any, Final, cast

import hiredis
from redis import exceptions as rex
from redis._parsers.hiredis import NOT_ENOUGH_DATA, _AsyncHiredisParser
from redis.asyncio.connection import AbstractConnection, Connection, SSLConnection, UnixDomainSocketConnection

from broadcaster.log.redis.tls import RedisTls
from broadcaster.observability.logs import get_logger

_log = get_logger(__name__)


class CommandConnection(AbstractConnection):
    """What the classes of ``CONNECTION_TYPES`` have in common."""

    @property
    def is_idle(self) -> bool:
        """Whether a command can be sent at once: it is connected, and all that the server sent has been read."""
        stream, writer, parser = self._reader, self._writer, cast(_AsyncHiredisParser, self._parser)
        if stream is None or writer is None or writer.transport.is_closing():
            return False
        if stream.exception() is not None or stream.at_eof() or stream._buffer:  # type: ignore[attr-defined]  # as redis-py does
            return False
        return not cast(hiredis.Reader, parser._reader).has_data()

    async def exchange(self, commands: Sequence[Sequence[Any]], replies: list[Any]) -> None:
        """Send all in one write, and append the reply to each: what the server sent, or its ResponseError.

        There is no deadline, and what fails leaves the connection open: both are the caller's. Raises redis's
        ConnectionError (also of a reply that means one, as LOADING), InvalidResponse, DataError or OSError.
        """
        parser, writer = cast(_AsyncHiredisParser, self._parser), self._writer
        reader = cast(hiredis.Reader, parser._reader)
        assert writer is not None
        writer.write(b"".join(self.pack_commands(commands)))
        await writer.drain()
        while len(replies) < len(commands):
            reply = reader.gets()
            if reply is NOT_ENOUGH_DATA:
                await parser.read_from_socket()  # type: ignore[no-untyped-call]  # redis-py leaves it untyped
            elif _is_fatal(reply):
                raise reply[0] if type(reply) is list else reply
            else:
                replies.append(reply)
        if self.health_check_interval:
            self.next_health_check = asyncio.get_running_loop().time() + self.health_check_interval

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

    async def disconnect(self, nowait: bool = False, *args: Any, **options: Any) -> None:
        """Close it at once; a call under way on it fails. Without ``nowait`` it is closed when this returns.

        The call under way does the same when it fails, and may connect anew before this returns.
        """
        writer, self._writer, self._reader = self._writer, None, None
        if writer is not None:
            writer.transport.abort()
        await super().disconnect(nowait, *args, **options)
        if writer is not None and not nowait:
            with suppress(OSError):  # the connection had broken before
                await writer.wait_closed()

    async def abandon(self) -> None:
        """Close it because of an error, which stays the one that counts: what goes wrong here is only logged."""
        try:
            await self.disconnect(nowait=True)
        except Exception as error:
            _log.error("redis_connection_not_closed", exc_info=error)

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
            await self.abandon()
            raise rex.TimeoutError("Timeout writing to socket") from None
        except OSError as error:
            await self.abandon()
            raise rex.ConnectionError(f"Error while writing to socket: {error}") from error
        except BaseException:
            # Half a command may be on the wire: the server would read the next one as its rest.
            await self.abandon()
            raise


def _is_fatal(reply: Any) -> bool:
    """Whether it reports that the connection is unusable ("LOADING …"), by itself or as the first of a list."""
    first = reply[0] if type(reply) is list and reply else reply
    return isinstance(first, rex.ConnectionError)


def _pieces(command: bytes | str | Iterable[bytes]) -> Iterable[bytes]:
    if isinstance(command, str):
        return [command.encode()]
    return [command] if isinstance(command, bytes) else command


class _Tcp(CommandConnection, Connection):
    pass


class _Tls(CommandConnection, SSLConnection):
    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        # redis-py's own trusts the system's authorities beside the given ones.
        self.ssl_context = RedisTls(options)  # type: ignore[assignment]  # redis-py calls its ``get`` alone


class _Unix(CommandConnection, UnixDomainSocketConnection):
    async def _connect(self) -> None:
        # redis-py's own also logs in, and its caller turns a refused login into a ConnectionError; then the caller
        # logs in once more.
        async with asyncio.timeout(self.socket_connect_timeout):
            self._reader, self._writer = await asyncio.open_unix_connection(path=self.path)


CONNECTION_TYPES: Final[dict[type[AbstractConnection], type[CommandConnection]]] = {
    Connection: _Tcp,
    SSLConnection: _Tls,
    UnixDomainSocketConnection: _Unix,
}
"""redis-py's class for a URL's scheme → ours."""
