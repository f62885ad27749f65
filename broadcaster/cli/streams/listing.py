"""``ls``: the generations and feeds of a front-end."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Annotated, Final, Literal, TypeAlias

import typer
from rich.table import Column

from broadcaster.cli.front_end_client import Json, Url, Visit
from broadcaster.cli.terminal.formats import age, as_json
from broadcaster.client import AsyncClient, ListedStream
from broadcaster.core.status import OVER

# As many as the front-end gives at once.
PAGE: Final = 100

ListedStatus: TypeAlias = Literal["queued", "running", "finished", "failed", "aborted"]
Which: TypeAlias = Literal["all", "open", "over"]


def ls(
    show_all: Annotated[
        bool, typer.Option("--all", help="also those that are over, for as long as they are kept")
    ] = False,
    status: Annotated[ListedStatus | None, typer.Option(help="only those with this status")] = None,
    json: Json = False,
    url: Url = None,
) -> None:
    """List the open generations and feeds, the newest first; with --status also those that are over."""
    visit = Visit(url)

    async def work(client: AsyncClient) -> None:
        streams = await every_page(client, status=_page_status(status, show_all=show_all))
        if status is not None:
            streams = [each for each in streams if each.status == status]
        if json:
            visit.screen.line(as_json(streams))
        elif streams:
            rows = (_row(each, now_s=time.time()) for each in streams)
            numbers = (Column(heading, justify="right") for heading in ("AGE", "EVENTS", "VIEWERS"))
            visit.screen.table(rows, Column("ID", no_wrap=True), "KIND", "STATUS", "MODEL", *numbers)
        else:
            visit.screen.note(f"no generation and no feed{_missing(status, show_all=show_all)}")

    visit.run(work)


def _page_status(status: str | None, *, show_all: bool) -> Which:
    if status is None:
        return "all" if show_all else "open"
    return "over" if status in OVER else "open"


def _missing(status: str | None, *, show_all: bool) -> str:
    if status is not None:
        return f" is {status}; --all lists all"
    more = "" if show_all else " is open (--all lists those that are over)"
    return f"{more}; start one with: broadcaster generate PROMPT"


async def every_page(client: AsyncClient, *, status: Which) -> Sequence[ListedStream]:
    """The whole list: the server bounds it."""
    page = await client.list_streams(status=status, limit=PAGE)
    streams = page.streams
    while page.next_before is not None:
        page = await client.list_streams(status=status, limit=PAGE, before=page.next_before)
        streams = [*streams, *page]
    return streams


def _row(each: ListedStream, *, now_s: float) -> Sequence[str]:
    created = "" if each.created_at is None else age(now_s - each.created_at)
    return each.id, each.kind, each.status, each.model or "", created, str(each.last_seq), str(each.viewers)
