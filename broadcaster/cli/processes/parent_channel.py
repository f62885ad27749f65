"""The channel between `serve` and each of its front-end processes: the two ends of a socket pair.

1. The child sends ``serving`` once, ``alive`` at every beat of its event loop, and ``failed``, with an exit code and a
   text, if it ends for a reason that the user can remedy: the parent reports it once for all processes. The front-end
   of `broadcaster demo` also sends ``fault``, with the name of one and what it concerns.
2. The parent sends ``drain`` once, and perhaps ``end``. When the parent ends or is killed, the channel closes, which
   also means ``drain``: no child outlives its parent, on any system.
3. Messages replace signals, because a second signal would end a child without its drain. A supervisor that signals the
   parent and the children (systemd by default) still gets a drain. ``ENDS_IMPORTS`` ends a child that does not read
   messages yet, and is one that supervisors do not send; the child ignores it from then on.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import AsyncIterator
from typing import Final, NamedTuple

from broadcaster.cli.terminal.exit_codes import CommandFailed, ExitCode

SERVING: Final = "serving"
ALIVE: Final = "alive"
FAILED: Final = "failed"
FAULT: Final = "fault"
DRAIN: Final = "drain"
END: Final = "end"
ENDS_IMPORTS: Final = signal.SIGUSR1


class ChildEnd:
    """The child's end of the channel."""

    def __init__(self, descriptor: int) -> None:
        os.set_inheritable(descriptor, False)
        self._socket = socket.socket(fileno=descriptor)
        self._socket.setblocking(False)

    @property
    def is_wanted(self) -> bool:
        """Whether the parent is alive and has sent no message yet."""
        try:
            self._socket.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return True
        return False

    async def messages(self) -> AsyncIterator[str]:
        """The parent's messages, until it is gone."""
        reader, writer = await asyncio.open_unix_connection(sock=self._socket.dup())
        try:
            with contextlib.suppress(ConnectionError):  # gone with unread messages
                async for line in reader:
                    yield line.decode().rstrip("\n")
        finally:
            writer.transport.abort()

    def close(self) -> None:
        """Close the channel."""
        self._socket.close()

    def send(self, message: str) -> None:
        """Send a message. It is lost if the parent is gone, or is stuck and has a full buffer."""
        with contextlib.suppress(BlockingIOError, ConnectionError):
            self._socket.send(f"{message}\n".encode())

    def send_failure(self, failure: CommandFailed) -> None:
        """Send the failure that ends this process, its last message."""
        self.send(f"{FAILED} {failure.code.value} {' '.join(str(failure).split())}")


class RequestedFault(NamedTuple):
    """A fault that the demo's front-end of this process id has named, and what it concerns."""

    name: str
    concerned: str
    front_end_pid: int


def read_fault(line: str, pid: int) -> RequestedFault | None:
    """The fault in a message of the child of this process id, if it is one."""
    message, _, rest = line.partition(" ")
    name, _, concerned = rest.partition(" ")
    return RequestedFault(name, concerned, pid) if message == FAULT else None


def read_failure(line: str) -> CommandFailed | None:
    """The failure in a message of a child, if it is one."""
    message, _, rest = line.partition(" ")
    code, _, text = rest.partition(" ")
    return CommandFailed(text, ExitCode(int(code))) if message == FAILED else None
