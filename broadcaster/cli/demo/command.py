"""``broadcaster demo``: its options. What it runs is imported when it runs: the help does not need it."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from broadcaster.process.interrupts import import_undisturbed


def demo(
    port: Annotated[int | None, typer.Option(help="port of the page; 0 picks a free one")] = None,
    workers: Annotated[int | None, typer.Option(help="worker processes to start")] = None,
    data_dir: Annotated[str | None, typer.Option(help="where the demo's Redis keeps its data")] = None,
) -> None:
    """Watch answers survive: everything of `up`, and a page that kills the worker, the front-end and Redis.

    It has a Redis of its own, whatever BROADCASTER_REDIS_URL is, and installs the local model (about 130 MB) into this
    environment unless another model can answer. Press Ctrl-C to stop all of it.
    """
    began = time.monotonic()
    run_demo = import_undisturbed("broadcaster.cli.demo.start").run_demo
    run_demo(began, port=port, workers=workers, data_dir=data_dir)
