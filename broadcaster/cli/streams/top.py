"""``top``: a table of workers, queue, generations and feeds, redrawn every few seconds."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Final

import typer
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Column, Table
from rich.text import Text

from broadcaster.cli.front_end_client import Json, Url, Visit
from broadcaster.cli.streams.listing import every_page
from broadcaster.cli.terminal.formats import age, as_json, number, span
from broadcaster.cli.terminal.screen import PIPE_WIDTH, harmless
from broadcaster.client import AsyncClient, ClientError, ListedStream, QueueCounts, WorkerState

FORBIDDEN: Final = "forbidden"


@dataclass(frozen=True, slots=True)
class Overview:
    """What a front-end reported at one time; ``workers`` and ``queue`` only with the right ``admin``."""

    streams: Sequence[ListedStream]
    workers: Sequence[WorkerState] | None = None
    queue: QueueCounts | None = None
    read_at: float = field(default_factory=time.monotonic)


def top(
    every: Annotated[
        float, typer.Option("--every", metavar="S", min=0.2, max=3600, help="seconds between two readings")
    ] = 2.0,
    json: Json = False,
    url: Url = None,
) -> None:
    """Show workers, the queue, and the open generations and feeds, as they change. Press Ctrl-C to stop.

    Without a terminal, and with --json, it prints them once.
    """
    visit = Visit(url)

    async def work(client: AsyncClient) -> None:
        first = await _read(client)
        if json:
            visit.screen.line(as_json({"streams": first.streams, "workers": first.workers, "queue": first.queue}))
        elif sys.stdout.isatty():
            await _redraw_until_interrupted(client, first, every_s=every, visit=visit)
        else:
            Console(width=PIPE_WIDTH, highlight=False, markup=False, emoji=False).print(render(first, None))

    visit.run(work)


async def _redraw_until_interrupted(client: AsyncClient, first: Overview, *, every_s: float, visit: Visit) -> None:
    drawing = asyncio.ensure_future(_redraw(client, first, every_s=every_s, visit=visit))
    asyncio.get_running_loop().add_signal_handler(signal.SIGINT, drawing.cancel)
    with contextlib.suppress(asyncio.CancelledError):
        await drawing


async def _redraw(client: AsyncClient, first: Overview, *, every_s: float, visit: Visit) -> None:
    """For ever. A front-end that does not answer leaves the last table, with a line that says so."""
    console = Console(highlight=False, markup=False, emoji=False)
    before, now, fault = None, first, ""
    with Live(console=console, screen=True, auto_refresh=False) as live:
        while True:
            live.update(render(now, before, fault=fault), refresh=True)
            await asyncio.sleep(every_s)
            try:
                before, now, fault = now, await _read(client), ""
            except ClientError as error:
                fault = f"{visit.failure(error)}; the last reading is {age(time.monotonic() - now.read_at)} old"


async def _read(client: AsyncClient) -> Overview:
    """One reading. Raises ClientError."""
    streams = await every_page(client, status="open")
    try:
        queue, workers = await client.queue(), await _every_worker(client)
    except ClientError as error:
        if error.code != FORBIDDEN:
            raise
        return Overview(streams)
    return Overview(streams, workers, queue)


async def _every_worker(client: AsyncClient) -> Sequence[WorkerState]:
    page = await client.workers()
    workers = page.workers
    while page.next_after is not None:
        page = await client.workers(after=page.next_after)
        workers = [*workers, *page.workers]
    return workers


def render(now: Overview, before: Overview | None, *, fault: str = "") -> RenderableType:
    """The whole screen: a line of totals, the workers, then the streams, the newest first.

    The fault comes before the tables: a terminal cuts what is below its last line.
    """
    parts: list[RenderableType] = [Text("  ".join(_totals(now)), style="bold")]
    if fault:
        parts.append(Text(harmless(fault), style="red"))
    if now.workers:
        parts += [
            Text(),
            _table(_worker_rows(now.workers), Column("WORKER", no_wrap=True), "SLOTS", "RUNNING", "UP", ""),
        ]
    if now.workers is None:
        parts.append(Text("a key with the right admin also shows workers and the queue", style="dim"))
    if now.streams:
        numbers = (Column(heading, justify="right") for heading in ("AGE", "EVENTS", "EVENTS/S", "VIEWERS"))
        rows = _stream_rows(now, before)
        parts += [Text(), _table(rows, Column("ID", no_wrap=True), "KIND", "STATUS", "MODEL", *numbers)]
    return Group(*parts)


def _totals(now: Overview) -> Iterator[str]:
    kinds = [each.kind for each in now.streams]
    yield number(kinds.count("generation"), "generation")
    yield number(kinds.count("feed"), "feed")
    yield number(sum(each.viewers for each in now.streams), "viewer")
    if now.workers is not None:
        alive = [each for each in now.workers if each.alive]
        yield f"{number(len(alive), 'worker')} with {number(sum(each.free or 0 for each in alive), 'free slot')}"
    if now.queue is not None:
        oldest = "" if now.queue.oldest_wait_s is None else f" (the oldest for {span(now.queue.oldest_wait_s)})"
        yield f"{now.queue.waiting} waiting{oldest}"
        if now.queue.dead_letters:
            yield number(now.queue.dead_letters, "dead letter")


def _worker_rows(workers: Sequence[WorkerState]) -> Iterator[Sequence[str]]:
    for each in workers:
        state = f"silent for {span(each.silent_s or 0.0)}" if not each.alive else "draining" if each.draining else ""
        up = "" if each.uptime_s is None else age(each.uptime_s)
        yield each.id, _count(each.slots), _count(each.running), up, state


def _stream_rows(now: Overview, before: Overview | None) -> Iterator[Sequence[str]]:
    earlier = {} if before is None else {each.id: each.last_seq for each in before.streams}
    passed_s = 0.0 if before is None else now.read_at - before.read_at
    at = time.time()
    for each in now.streams:
        rate = f"{(each.last_seq - earlier[each.id]) / passed_s:.1f}" if each.id in earlier and passed_s > 0 else ""
        created = "" if each.created_at is None else age(at - each.created_at)
        yield each.id, each.kind, each.status, each.model or "", created, str(each.last_seq), rate, str(each.viewers)


def _count(value: int | None) -> str:
    return "?" if value is None else str(value)


def _table(rows: Iterator[Sequence[str]], *columns: Column | str) -> Table:
    table = Table(*columns, box=None, pad_edge=False, header_style="bold")
    for row in rows:
        table.add_row(*(Text(harmless(cell)) for cell in row))
    return table
