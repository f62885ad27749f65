"""``generate``, ``tail``, ``stop`` and ``ls``: the commands that speak to a running front-end over HTTP."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from typing import Annotated, Any, Final, Literal

import msgspec
import typer
from rich.table import Column

from broadcaster.cli.front_end_client import Id, Json, Url, Visit
from broadcaster.cli.terminal.completion import complete_models
from broadcaster.cli.terminal.exit_codes import CommandFailed, ExitCode
from broadcaster.cli.terminal.formats import age, as_json
from broadcaster.client import AsyncClient, Generation, ListedStream
from broadcaster.core.cursor import Cursor
from broadcaster.errors import BadCursor

# As many as the front-end gives at once.
PAGE: Final = 100
_NOT_LISTED: Final = frozenset({"prompt", "usage", "answered_by", "provider_request_id", "text", "reasoning", "parts"})


def generate(
    prompt: Annotated[str, typer.Argument(metavar="PROMPT", help="the prompt; - reads it from stdin")],
    model: Annotated[
        str | None, typer.Option(help="without it the front-end's default", autocompletion=complete_models)
    ] = None,
    system: Annotated[str | None, typer.Option(help="the system prompt")] = None,
    max_tokens: Annotated[int | None, typer.Option(min=1, help="the longest answer")] = None,
    on_provider_loss: Annotated[
        Literal["fail", "retry"] | None,
        typer.Option(help="if the provider drops the answer midway: fail, or retry"),
    ] = None,
    no_watch: Annotated[bool, typer.Option("--no-watch", help="start it, print its id, do not wait")] = False,
    json: Json = False,
    url: Url = None,
) -> None:
    """Start a generation and watch it: the answer on stdout, everything else on stderr.

    Ctrl-C stops the watching, not the generation.
    """
    visit = Visit(url)
    text = sys.stdin.read() if prompt == "-" else prompt

    async def work(client: AsyncClient) -> ExitCode:
        generation = await client.start(
            text, model=model, system=system, max_tokens=max_tokens, on_provider_loss=on_provider_loss
        )
        if no_watch:
            visit.screen.line(as_json(generation) if json else generation.id)
            return ExitCode.OK
        visit.began(generation.id)
        return await visit.watch(client, generation.id, after=None, as_json=json)

    visit.run(work)


def tail(
    id: Id,
    after: Annotated[str | None, typer.Option(metavar="CURSOR", help="only what follows this entry id")] = None,
    json: Json = False,
    url: Url = None,
) -> None:
    """Watch a generation from its beginning, or after a cursor, to its end. Watching does not affect it."""
    try:
        cursor = None if after is None else Cursor.parse(after)
    except BadCursor as error:
        raise CommandFailed(f"--after {after}: {error.detail}; copy an entry's id", ExitCode.USAGE) from error
    visit = Visit(url)

    visit.run(lambda client: visit.watch(client, id, after=cursor, as_json=json))


def stop(id: Id, json: Json = False, url: Url = None) -> None:
    """End a generation for all its viewers."""
    visit = Visit(url)

    async def work(client: AsyncClient) -> None:
        generation = await client.stop(id)
        if json:
            visit.screen.line(as_json(_listed(generation)))
        elif generation.is_over:
            visit.screen.note(f"{id} is over: {generation.status}")
        else:
            visit.screen.note(f"stop of {id} requested")

    visit.run(work)


def ls(
    show_all: Annotated[
        bool, typer.Option("--all", help="also those that are over, for as long as they are kept")
    ] = False,
    json: Json = False,
    url: Url = None,
) -> None:
    """List the open generations and feeds, the newest first."""
    visit = Visit(url)

    async def work(client: AsyncClient) -> None:
        streams = await _every_page(client, status="all" if show_all else "open")
        if json:
            visit.screen.line(as_json(streams))
        elif streams:
            rows = (_row(each, now_s=time.time()) for each in streams)
            numbers = (Column(heading, justify="right") for heading in ("AGE", "EVENTS", "VIEWERS"))
            visit.screen.table(rows, Column("ID", no_wrap=True), "KIND", "STATUS", "MODEL", *numbers)
        else:
            more = "" if show_all else " is open (--all lists those that are over)"
            visit.screen.note(f"no generation and no feed{more}; start one with: broadcaster generate PROMPT")

    visit.run(work)


def _listed(generation: Generation) -> dict[str, Any]:
    """The fields of a list: it has no answers, and an empty one would be wrong."""
    return {name: value for name, value in msgspec.to_builtins(generation).items() if name not in _NOT_LISTED}


async def _every_page(client: AsyncClient, *, status: Literal["all", "open"]) -> Sequence[ListedStream]:
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
