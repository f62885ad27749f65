"""What ``broadcaster up`` runs, on this machine: Redis (our own unless one is given), workers, a front-end, a page."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

import typer
import uvloop

from broadcaster import __version__
from broadcaster.cli.option_settings import start_logging, variables_of, with_options
from broadcaster.cli.processes.default_model import LOCAL, DefaultModel, choose_default_model, has_local_model
from broadcaster.cli.processes.listening import bind, url_of
from broadcaster.cli.processes.serving import (
    Serving,
    being_served,
    count_of,
    create_serving,
    folder_variables,
    has_started,
    own_metrics,
)
from broadcaster.cli.processes.workers import WorkerProcesses
from broadcaster.cli.running_up import RunningUp, front_end_url, only_one
from broadcaster.cli.terminal.formats import number
from broadcaster.log.redis.embedded import EmbeddedServer, find_server
from broadcaster.observability.metrics_address import MetricsAddress
from broadcaster.observability.serving import summed_metrics
from broadcaster.process.demo_faults import PRESENCE_TTL_S
from broadcaster.process.memory import tune_memory
from broadcaster.process.tasks import running
from broadcaster.settings import Settings
from broadcaster.settings.contradictions import check_worker

if TYPE_CHECKING:
    from broadcaster.cli.demo.run import Demo

_DRAIN_WINDOW_S: Final = 0.2


def run_command(**options: object) -> None:
    """Run everything until a signal; the options of the command are settings."""
    settings = with_options(**options)
    check_worker(settings)
    start_logging(settings)
    run_up(settings, default_model(settings))


def run_up(settings: Settings, model: DefaultModel, *, demo: Demo | None = None) -> None:
    """Run everything until a signal. ``demo``: its page has buttons that break what runs."""
    with only_one(Path(settings.data_dir)) as lock:
        if not lock.is_first:
            where = lock.url or "it is just starting"
            typer.echo(f"broadcaster is running already: {where}\n  a second one beside it needs its own --data-dir")
            return
        with bind(settings) as listener, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            typer.echo(f"broadcaster {__version__} is starting{_parts(settings)}")
            runner.run(_up(settings, listener, lock, model=model, demo=demo))


def _parts(settings: Settings) -> str:
    """What is started, as the first line names it."""
    parts = ["Redis"] if settings.redis_url is None else []
    parts.append(number(count_of(settings), "front-end"))
    parts.append(number(settings.workers, "worker"))
    return ": " + ", ".join(parts)


def default_model(settings: Settings) -> DefaultModel:
    """The model of requests that name none, and what is to be printed about it."""
    is_set = "default_model" in Settings().model_fields_set
    return choose_default_model(settings, os.environ, is_set=is_set, has_local=has_local_model())


def _own_settings(model: DefaultModel) -> dict[str, object]:
    """What `up` sets itself. On one machine no other front-end takes the viewers, and no other worker the jobs: a drain
    would only delay the end."""
    return {
        "drain_window_s": _DRAIN_WINDOW_S,
        "drain_s": 0.0,
        "local_model_preload": model.name == LOCAL and has_local_model(),
    }


async def _up(
    settings: Settings, listener: socket.socket, lock: RunningUp, *, model: DefaultModel, demo: Demo | None
) -> None:
    async with AsyncExitStack() as stack:
        embedded = None
        if settings.redis_url is None:
            embedded = await stack.enter_async_context(_redis(settings))
            settings = settings.model_copy(update={"redis_url": embedded.url})
        settings = settings.model_copy(update={"default_model": model.name, **_own_settings(model)})
        if demo is not None:  # its button kills front-ends, whose viewers must not count for minutes
            presence_ttl_s = min(settings.presence_ttl_s, PRESENCE_TTL_S)
            settings = settings.model_copy(update={"presence_ttl_s": presence_ttl_s})
        folder = await stack.enter_async_context(summed_metrics(MetricsAddress.of(settings)))
        workers = WorkerProcesses(
            settings.workers,
            {**variables_of(settings), **folder_variables(folder)},
            on_end=None if folder is None else folder.settle,
        )
        await stack.enter_async_context(running(workers.run()))
        await workers.until_begun()  # they import beside this process, which imports the front-end
        server = create_serving(
            settings,
            listener,
            folder=folder,
            demo=None if demo is None or embedded is None else demo.over(embedded, workers),
        )
        await asyncio.sleep(0)  # a Ctrl-C that came during the imports ends the start here
        await stack.enter_async_context(own_metrics(server, address=None, folder=folder))
        await _serve(settings, server, lock=lock, model=model, demo=demo)


async def _serve(
    settings: Settings, server: Serving, *, lock: RunningUp, model: DefaultModel, demo: Demo | None
) -> None:
    async with being_served(server) as serving:
        if await has_started(server, serving):
            tune_memory()
            url = url_of(settings, server.port)
            lock.announce(url)
            _print_banner(settings, url, model=model, is_demo=demo is not None)
            if demo is not None:
                await demo.report_ready(url, serving)
        await serving
    typer.echo("broadcaster has ended")


def _print_banner(settings: Settings, url: str, *, model: DefaultModel, is_demo: bool) -> None:
    typer.echo(f"broadcaster is up: {url}\n  open it in a browser, or: {_command(settings, url)}")
    if is_demo:
        typer.echo("  the page has buttons that kill the worker, restart the front-end and cut Redis off")
    if model.note:
        typer.echo(f"  {model.note}")
    if settings.auth == "keys":
        typer.echo("  callers need a key: the page asks for it, commands take it from BROADCASTER_API_KEY")
    typer.echo("  press Ctrl-C to stop")


def _command(settings: Settings, url: str) -> str:
    """A command line that reaches this front-end from this folder."""
    program = Path(sys.argv[0])
    if program.name != "broadcaster":
        called = "python -m broadcaster"
    elif program.parent in map(Path, os.get_exec_path()):
        called = "broadcaster"
    else:
        called = os.path.relpath(program)
    found = Settings()
    is_found = url == front_end_url(found, is_named="url" in found.model_fields_set)
    option = "" if is_found else f" --url {url}"
    return f"{called} generate{option} 'Why is the sea salty?'"


@asynccontextmanager
async def _redis(settings: Settings) -> AsyncIterator[EmbeddedServer]:
    """The embedded server, which is restarted when it dies."""
    server = EmbeddedServer(
        Path(settings.data_dir),
        binary=find_server(settings.redis_server),
        max_memory_bytes=settings.embedded_max_memory_bytes,
    )
    await server.start()
    try:
        async with running(server.supervise()):
            yield server
    finally:
        await server.stop()
