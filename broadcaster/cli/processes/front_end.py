"""One front-end: its server, for use in this process, and the child process that `serve` starts several of.

``python -m broadcaster.cli.processes.front_end NUMBER CHANNEL BEAT_S [LISTENER]``: CHANNEL and LISTENER are inherited
descriptors. Without LISTENER the child listens with its own socket, on a port that its parent shares with it.
"""

from __future__ import annotations

import asyncio
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Final

import uvloop

# Before the others, which import redis-py with all that it finds.
import broadcaster.log.redis.lean  # noqa: F401

# isort: split
from broadcaster.cli.processes.listening import bind
from broadcaster.cli.processes.parent_channel import ALIVE, DRAIN, END, ENDS_IMPORTS, SERVING, ChildEnd
from broadcaster.cli.terminal.failures import failure_of
from broadcaster.observability.serving import folder_of_parent, process_metrics
from broadcaster.observability.telemetry import add_to_lines, set_up_logging
from broadcaster.process.memory import tune_memory
from broadcaster.process.tasks import running
from broadcaster.settings import Settings
from broadcaster.web.app import app_readings, create_app
from broadcaster.web.guards.cors import unread_headers
from broadcaster.web.guards.refusal_log import RefusalLog
from broadcaster.web.server.connections import ConnectionLimits
from broadcaster.web.server.runner import FrontEndServer
from broadcaster.web.services import drain

if TYPE_CHECKING:
    from broadcaster.web.demo import DemoPort

DRAIN_MARGIN_S: Final = 0.5


def create_server(settings: Settings, listener: socket.socket, *, demo: DemoPort | None = None) -> FrontEndServer:
    """The front-end's server, which drains its viewers before it ends. ``demo``: see ``create_app``."""
    app = create_app(settings, demo=demo)

    async def leave() -> None:
        await drain(app.state.services)

    return FrontEndServer(
        app,
        listener=listener,
        on_drain=leave,
        drain_timeout_s=settings.drain_window_s + DRAIN_MARGIN_S,
        limits=ConnectionLimits(
            max_connections=settings.max_connections,
            head_timeout_s=settings.head_timeout_s,
            body_timeout_s=settings.body_timeout_s,
            body_min_bytes_per_s=settings.body_min_bytes_per_s,
            ping_s=settings.heartbeat_s,
            pong_s=settings.slow_viewer_s,
        ),
        refusal_headers=unread_headers(settings.cors_origins),
        refusals=RefusalLog(settings.log_refusals_per_s),
        source=partial(app_readings, app),
        direct=app.state.direct,
    )


def main(arguments: Sequence[str], *, demo_over: Callable[[ChildEnd], DemoPort] | None = None) -> None:
    """The child process of `serve`. It sends a failure with a remedy to the parent, which reports it once.

    ``demo_over``: what the faults of `broadcaster demo` are sent with.
    """
    signal.signal(ENDS_IMPORTS, signal.SIG_IGN)
    number, descriptor, beat_s, *inherited = arguments
    channel = ChildEnd(int(descriptor))
    add_to_lines(front_end=int(number))
    try:
        if channel.is_wanted:
            demo = None if demo_over is None else demo_over(channel)
            _run(channel, float(beat_s), inherited, demo=demo)
    except Exception as error:
        failure = failure_of(error)
        if failure is None:
            raise
        channel.send_failure(failure)
        raise SystemExit(failure.code) from None


def _run(channel: ChildEnd, beat_s: float, inherited: Sequence[str], *, demo: DemoPort | None) -> None:
    settings = Settings()
    set_up_logging(settings.log_level, format=settings.log_format)
    if inherited:
        listener = socket.socket(fileno=int(inherited[0]))
    else:
        listener = bind(settings, is_shared=True)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(create_server(settings, listener, demo=demo), channel, beat_s))


async def _serve(server: FrontEndServer, channel: ChildEnd, beat_s: float) -> None:
    async with running(_report(server, channel, beat_s), _follow(server, channel)):
        async with process_metrics(server.readings, kind="front-end", address=None, folder=folder_of_parent()):
            await server.serve()


async def _report(server: FrontEndServer, channel: ChildEnd, beat_s: float) -> None:
    await server.until_started()
    tune_memory()
    channel.send(SERVING)
    while True:
        await asyncio.sleep(beat_s)
        channel.send(ALIVE)


async def _follow(server: FrontEndServer, channel: ChildEnd) -> None:
    try:
        async for message in channel.messages():
            if message == DRAIN:
                server.request_drain()
            elif message == END:
                server.request_end()
    finally:
        server.request_drain()  # the parent is gone


if __name__ == "__main__":
    main(sys.argv[1:])
