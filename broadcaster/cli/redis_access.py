"""For the commands that connect to Redis themselves: its address, and their work on it."""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated, Final

import typer

from broadcaster.cli.terminal.exit_codes import CommandFailed, ExitCode
from broadcaster.core.access.masking import masked
from broadcaster.errors import LogUnavailable, SetupError
from broadcaster.log.redis import url
from broadcaster.log.redis.connect import LogConnection
from broadcaster.log.redis.embedded import socket_path
from broadcaster.settings import Settings

RedisUrl = Annotated[str | None, typer.Option("--redis-url", help="the Redis; without it BROADCASTER_REDIS_URL")]
DataDir = Annotated[
    str | None, typer.Option("--data-dir", help="folder of a running `broadcaster up`, when no Redis is named")
]

NO_REDIS: Final = (
    "no Redis is named and no `broadcaster up` runs over {folder}: "
    "set BROADCASTER_REDIS_URL, or name its folder with --data-dir"
)

_CONNECT_S: Final = 1.0


def find_redis(settings: Settings) -> str:
    """The URL in the settings, or the Redis of an `up` that runs over the data folder. Raises SetupError."""
    if settings.redis_url is not None:
        url.RedisUrl.parse(settings.redis_url)  # raises SetupError when it cannot be read
        return settings.redis_url
    folder = Path(settings.data_dir)
    try:
        if folder.is_dir() and _accepts_connections(embedded := socket_path(folder)):
            return f"unix://{embedded}"
    except OSError as error:
        text = f"the data folder {folder} cannot be read ({error.strerror}); name another with --data-dir"
        raise SetupError(text) from error
    raise SetupError(NO_REDIS.format(folder=settings.data_dir))


async def with_redis(settings: Settings, work: Callable[[LogConnection], Awaitable[None]]) -> None:
    """Do the work with the Redis that ``find_redis`` finds.

    Raises (1) SetupError: there is no Redis, or it refuses us; (2) CommandFailed: it does not respond, now or later.
    """
    url = find_redis(settings)
    try:
        async with LogConnection(url, prefix=settings.key_prefix, timeout_s=settings.redis_timeout_s) as opened:
            await opened.check()
            await work(opened)
    except LogUnavailable as error:
        reason = error.__cause__ or error.detail
        text = f"Redis at {masked(url)} does not answer ({reason}); check it with: broadcaster doctor"
        raise CommandFailed(text, ExitCode.CANNOT_CONNECT) from error
    except SetupError as error:
        raise SetupError(f"Redis at {masked(url)}: {error.detail}") from error


def _accepts_connections(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(_CONNECT_S)
        try:
            probe.connect(str(path))
        except OSError:
            return False
        return True
