"""``broadcaster serve``: its options. What it runs is imported when it runs: the help does not need it."""

from __future__ import annotations

from typing import Annotated

import typer

from broadcaster.process.interrupts import import_undisturbed

Host = Annotated[
    str | None, typer.Option(metavar="ADDRESS", help="address to listen on; 0.0.0.0: on all [BROADCASTER_HOST]")
]


def serve(
    port: Annotated[int | None, typer.Option(help="port to listen on; 0 picks a free one [BROADCASTER_PORT]")] = None,
    host: Host = None,
    processes: Annotated[
        int | None, typer.Option(help="front-end processes on this port; 0: one per core [BROADCASTER_PROCESSES]")
    ] = None,
) -> None:
    """Run a front-end, or several on one port; BROADCASTER_REDIS_URL names its Redis."""
    import_undisturbed("broadcaster.cli.processes.serve").run_serve(port=port, host=host, processes=processes)
