"""One front-end: its server, for who runs it in this process, and the process that `serve` starts several of.

``python -m broadcaster.cli.front_end NUMBER LINE BEAT_S [LISTENER]``: LINE and LISTENER are inherited descriptors;
without LISTENER it listens with a socket of its own, on a port that its parent shares with it.
"""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import Sequence
from typing import Final

import structlog
import uvloop

from broadcaster.cli.failures import failure_of
from broadcaster.cli.lines import ALIVE, DRAIN, END, SERVING, ChildEnd
from broadcaster.cli.serving import bind
from broadcaster.collector import settle_collector
from broadcaster.settings import Settings
from broadcaster.telemetry import set_up_logging
from broadcaster.web.app import create_app
from broadcaster.web.connections import ConnectionLimits
from broadcaster.web.cors import unread_headers
from broadcaster.web.runner import FrontEndServer
from broadcaster.web.services import drain

DRAIN_MARGIN_S: Final = 0.5


def create_server(settings: Settings, listener: socket.socket) -> FrontEndServer:
    """The front-end's server; it drains its viewers when it is asked to end."""
    app = create_app(settings)

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
        ),
        refusal_headers=unread_headers(settings.cors_origins),
    )


def main(arguments: Sequence[str]) -> None:
    """The process below `serve`. What somebody can remedy is told to the parent, who says it once."""
    number, descriptor, beat_s, *inherited = arguments
    line = ChildEnd(int(descriptor))
    structlog.contextvars.bind_contextvars(front_end=int(number))
    try:
        if line.is_wanted:
            _run(line, float(beat_s), inherited)
    except Exception as error:
        failure = failure_of(error)
        if failure is None:
            raise
        line.say_failed(failure)
        raise SystemExit(failure.code) from None


def _run(line: ChildEnd, beat_s: float, inherited: Sequence[str]) -> None:
    settings = Settings()
    set_up_logging(settings.log_level)
    if inherited:
        listener = socket.socket(fileno=int(inherited[0]))
    else:
        listener = bind(settings, is_shared=True)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(create_server(settings, listener), line, beat_s))


async def _serve(server: FrontEndServer, line: ChildEnd, beat_s: float) -> None:
    beside = [asyncio.create_task(_tell(server, line, beat_s)), asyncio.create_task(_follow(server, line))]
    try:
        await server.serve()
    finally:
        for task in beside:
            task.cancel()
        await asyncio.wait(beside)


async def _tell(server: FrontEndServer, line: ChildEnd, beat_s: float) -> None:
    await server.until_started()
    settle_collector()
    line.say(SERVING)
    while True:
        await asyncio.sleep(beat_s)
        line.say(ALIVE)


async def _follow(server: FrontEndServer, line: ChildEnd) -> None:
    try:
        async for word in line.heard():
            if word == DRAIN:
                server.request_drain()
            elif word == END:
                server.request_end()
    finally:
        server.request_drain()  # the parent is gone


if __name__ == "__main__":
    main(sys.argv[1:])
