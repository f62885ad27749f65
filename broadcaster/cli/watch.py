"""``generate``, ``tail``, ``stop`` and ``ls``: the commands that speak to a running front-end over HTTP."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing
from typing import Annotated, Final, Literal

import msgspec
import typer
from rich.table import Table
from rich.text import Text

from broadcaster.cli.failures import CommandFailed, ExitCode, told
from broadcaster.cli.screen import Screen, harmless
from broadcaster.cli.transcript import JsonLines, Reporter, Transcript
from broadcaster.client import AsyncClient, CannotConnect, ClientError, GaveUp, Generation, Reconnecting
from broadcaster.core.cursor import Cursor
from broadcaster.errors import BadCursor
from broadcaster.settings import Settings

Url = Annotated[str | None, typer.Option("--url", help="the front-end; without it BROADCASTER_URL")]
Json = Annotated[bool, typer.Option("--json", help="print JSON for programs")]
Id = Annotated[str, typer.Argument(metavar="ID", help="the generation's id")]

# Who mistyped an address should learn it in a second, not after a minute of hope.
FIRST_TRIES: Final = 2
# As many as the front-end gives at once.
PAGE: Final = 100

_AGES: Final = ((86_400, "d"), (3_600, "h"), (60, "m"))


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    for command in (generate, tail, stop, ls):
        app.command()(command)


def generate(
    prompt: Annotated[str, typer.Argument(metavar="PROMPT", help="what to ask; - reads it from stdin")],
    model: Annotated[str | None, typer.Option(help="without it the front-end's default")] = None,
    system: Annotated[str | None, typer.Option(help="the system prompt")] = None,
    max_tokens: Annotated[int | None, typer.Option(min=1, help="the longest answer")] = None,
    no_watch: Annotated[bool, typer.Option("--no-watch", help="start it, print its id, do not wait")] = False,
    json: Json = False,
    url: Url = None,
) -> None:
    """Start a generation and watch it: the answer on stdout, everything else on stderr.

    Ctrl-C stops the watching, not the generation.
    """
    visit = _Visit(url)
    asked = sys.stdin.read() if prompt == "-" else prompt

    async def work(client: AsyncClient) -> ExitCode:
        generation = await client.start(asked, model=model, system=system, max_tokens=max_tokens)
        if no_watch:
            visit.screen.line(_as_json(generation) if json else generation.id)
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
    """Watch a generation from its beginning, or after a cursor, to its end. Watching starts and ends nothing."""
    try:
        cursor = None if after is None else Cursor.parse(after)
    except BadCursor as error:
        raise CommandFailed(f"--after {after}: {error.detail}; copy an entry's id", ExitCode.USAGE) from error
    visit = _Visit(url)

    async def work(client: AsyncClient) -> ExitCode:
        return await visit.watch(client, id, after=cursor, as_json=json)

    visit.run(work)


def stop(id: Id, url: Url = None) -> None:
    """End a generation for everybody who watches it."""
    visit = _Visit(url)

    async def work(client: AsyncClient) -> ExitCode:
        await client.stop(id)
        visit.screen.note(f"stop of {id} is asked for")
        return ExitCode.OK

    visit.run(work)


def ls(
    show_all: Annotated[
        bool, typer.Option("--all", help="also those that are over, for as long as they are kept")
    ] = False,
    json: Json = False,
    url: Url = None,
) -> None:
    """List the open generations, the newest first."""
    visit = _Visit(url)

    async def work(client: AsyncClient) -> ExitCode:
        generations = await _every_page(client, status="all" if show_all else "open")
        if json:
            visit.screen.line(_as_json(generations))
        elif generations:
            visit.screen.table(_as_table(generations, now_s=time.time()))
        else:
            more = "" if show_all else " is open (--all lists those that are over)"
            visit.screen.note(f"no generation{more}; start one with: broadcaster generate PROMPT")
        return ExitCode.OK

    visit.run(work)


class _Visit:
    """One command's dealings with one front-end."""

    def __init__(self, url: str | None) -> None:
        settings = Settings()
        self.screen = Screen()
        self._address = url or settings.url
        self._api_key = settings.api_key
        self._url_option = f" --url {url}" if url else ""
        self._watched: str | None = None

    def run(self, work: Callable[[AsyncClient], Awaitable[ExitCode]]) -> None:
        """Do the work with a client and end the command. Raises CommandFailed or typer.Exit."""
        try:
            code = asyncio.run(self._with_client(work))
        except ClientError as error:
            self.screen.rest()
            failure = told(error, address=self._address)
            way_back = self._way_back() if isinstance(error, GaveUp) else ""
            raise CommandFailed(f"{failure}{way_back}", failure.code) from error
        except KeyboardInterrupt:
            self.screen.rest()
            self.screen.note(f"interrupted{self._way_back()}")
            raise typer.Exit(ExitCode.INTERRUPTED) from None
        if code is not ExitCode.OK:
            raise typer.Exit(code)

    def began(self, id: str) -> None:
        """The generation exists, whatever becomes of watching it."""
        self._watched = id
        self.screen.note(f"generation {id}")

    async def watch(self, client: AsyncClient, id: str, *, after: Cursor | None, as_json: bool) -> ExitCode:
        """Show the stream to its end. A front-end that has never answered is not waited for."""
        reporter: Reporter = JsonLines(self.screen) if as_json else Transcript(self.screen)
        failures = 0
        async with aclosing(client.events(id, after)) as events:
            async for event in events:
                if not isinstance(event, Reconnecting):
                    self._watched = id
                elif self._watched is None:
                    failures += 1
                    if failures == FIRST_TRIES:
                        raise CannotConnect(event.reason)
                    continue
                reporter.show(event)
        reporter.end()
        return reporter.exit_code

    async def _with_client(self, work: Callable[[AsyncClient], Awaitable[ExitCode]]) -> ExitCode:
        try:
            client = AsyncClient(self._address, self._api_key)
        except ValueError as error:
            text = f"{error}; correct --url, BROADCASTER_URL or BROADCASTER_API_KEY"
            raise CommandFailed(text, ExitCode.USAGE) from error
        async with client:
            return await work(client)

    def _way_back(self) -> str:
        if self._watched is None:
            return ""
        return f"; the generation goes on, come back with: broadcaster tail {self._watched}{self._url_option}"


async def _every_page(client: AsyncClient, *, status: Literal["all", "open"]) -> Sequence[Generation]:
    """The whole list: the server bounds it."""
    page = await client.list(status=status, limit=PAGE)
    generations = page.generations
    while page.next_before is not None:
        page = await client.list(status=status, limit=PAGE, before=page.next_before)
        generations = [*generations, *page]
    return generations


def _as_json(shown: Generation | Sequence[Generation]) -> str:
    return msgspec.json.encode(shown).decode()


def _as_table(generations: Sequence[Generation], *, now_s: float) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("ID", no_wrap=True)
    for heading in ("STATUS", "MODEL"):
        table.add_column(heading)
    for heading in ("AGE", "EVENTS", "VIEWERS"):
        table.add_column(heading, justify="right")
    for each in generations:
        age = "" if each.created_at is None else _age(now_s - each.created_at)
        row = (each.id, each.status, each.model, age, str(each.last_seq), str(each.viewers))
        table.add_row(*(Text(harmless(cell)) for cell in row))
    return table


def _age(seconds: float) -> str:
    """The largest whole unit; clocks that disagree make nothing younger than now."""
    for size, unit in _AGES:
        if seconds >= size:
            return f"{int(seconds // size)}{unit}"
    return f"{max(0, int(seconds))}s"
