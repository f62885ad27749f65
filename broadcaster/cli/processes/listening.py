"""The socket that front-ends listen on, and the URL by which a client on this machine reaches it."""

from __future__ import annotations

import socket
from typing import Final

from broadcaster.cli.terminal.exit_codes import CommandFailed, ExitCode
from broadcaster.settings import Settings
from broadcaster.web.server.listener import open_listener

# What listens on all addresses of a machine is reached on it by its loopback address.
LOOPBACK_OF: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}


def bind(settings: Settings, *, is_shared: bool = False) -> socket.socket:
    """A bound socket. Raises CommandFailed when the port is taken."""
    try:
        return open_listener(settings.host, settings.port, is_shared=is_shared)
    except OSError as error:
        text = f"cannot listen on {settings.host}:{settings.port} ({error.strerror}); choose another with --port"
        raise CommandFailed(text, ExitCode.USAGE) from None


def url_of(settings: Settings, port: int) -> str:
    """The URL a client on this machine uses."""
    host = LOOPBACK_OF.get(settings.host, settings.host)
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"
