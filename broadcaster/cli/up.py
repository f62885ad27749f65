"""``broadcaster up``: its options. What it runs is imported when it runs: the help does not need it."""

from __future__ import annotations

from typing import Annotated

import typer

from broadcaster.cli.serve import Host
from broadcaster.process.interrupts import import_undisturbed


def up(
    port: Annotated[int | None, typer.Option(help="port of the front-end; 0 picks a free one")] = None,
    host: Host = None,
    workers: Annotated[int | None, typer.Option(help="worker processes to start")] = None,
    processes: Annotated[int | None, typer.Option(help="front-end processes to start; 0: one per core")] = None,
    data_dir: Annotated[str | None, typer.Option(help="where the embedded Redis keeps its data")] = None,
) -> None:
    """Run everything on this machine: Redis, workers, a front-end and its page. Press Ctrl-C to stop all of it."""
    run_command = import_undisturbed("broadcaster.cli.processes.up").run_command
    run_command(port=port, host=host, workers=workers, processes=processes, data_dir=data_dir)
