"""A visit: one command's calls to one front-end, from its address and key to its exit code."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import aclosing
from typing import Annotated, Final

import typer

from broadcaster.cli.running_up import front_end_url
from broadcaster.cli.terminal.client_failures import client_failure
from broadcaster.cli.terminal.completion import complete_generations
from broadcaster.cli.terminal.exit_codes import CommandFailed, ExitCode
from broadcaster.cli.terminal.screen import Screen
from broadcaster.cli.terminal.transcript import JsonLines, Reporter, TranscriptPrinter
from broadcaster.cli.terminal.usage import quoted
from broadcaster.client import AsyncClient, CannotConnect, ClientError, GaveUp, Reconnecting
from broadcaster.core.cursor import Cursor
from broadcaster.settings import Settings

Url = Annotated[
    str | None, typer.Option("--url", help="the front-end; without it BROADCASTER_URL, or the running `up`")
]
Id = Annotated[str, typer.Argument(metavar="ID", help="the generation's id", autocompletion=complete_generations)]
Plain = Annotated[bool, typer.Option("--plain", help="print the answer as it is written, not as formatted Markdown")]
Json = Annotated[bool, typer.Option("--json", help="print JSON for programs")]

# A mistyped address should fail after a second, not after a minute.
FIRST_TRIES: Final = 2
# A command reports a failure soon, and `publish` repeats its calls itself.
RETRIES: Final = 2


def check_id(id: str) -> None:
    """Raises CommandFailed for an id that would lead to another path of the front-end."""
    if "/" in id or id in ("", ".", ".."):
        text = f"{quoted(id)} is no id: an id is a text without a slash; see what there is with: broadcaster ls --all"
        raise CommandFailed(text, ExitCode.USAGE)


class Visit:
    """One command's calls to one front-end."""

    def __init__(
        self,
        url: str | None,
        *,
        is_plain: bool = True,
        stream: str | None = None,
        given: Mapping[str, str] | None = None,
    ) -> None:
        """``is_plain``: an answer is printed as it is, and not as Markdown.

        A failure names ``stream``, and a field of the request as it is ``given`` on the command line. Raises
        CommandFailed for an id that no stream has.
        """
        if stream is not None:
            check_id(stream)
        self.stream = stream
        self._given = given
        settings = Settings()
        self.screen = Screen(is_plain=is_plain)
        self._address = url or front_end_url(settings, is_named="url" in settings.model_fields_set)
        self._api_key = settings.api_key
        self._url_option = f" --url {url}" if url else ""
        self._watched: str | None = None

    def run(self, work: Callable[[AsyncClient], Awaitable[ExitCode | None]]) -> None:
        """Do the work with a client and end the command, with OK for None. Raises CommandFailed or typer.Exit."""
        try:
            code = asyncio.run(self._with_client(work))
        except ClientError as error:
            self.screen.rest()
            failure = self.failure(error)
            way_back = self._way_back() if isinstance(error, GaveUp) else ""
            raise CommandFailed(f"{failure}{way_back}", failure.code) from error
        except KeyboardInterrupt:
            self.screen.rest()
            self.screen.note(f"interrupted{self._way_back()}")
            raise typer.Exit(ExitCode.INTERRUPTED) from None
        finally:
            self.screen.waited()
        if code:
            raise typer.Exit(code)

    def failure(self, error: ClientError) -> CommandFailed:
        """What the command prints for a call that failed."""
        return client_failure(error, address=self._address, stream=self.stream, given=self._given)

    def began(self, id: str) -> None:
        """Note the generation: it continues if watching it fails."""
        self._watched = id
        self.screen.note(f"generation {id}")

    def ended(self) -> None:
        """Forget the generation: there is nothing to return to."""
        self._watched = None

    async def watch(self, client: AsyncClient, id: str, *, after: Cursor | None, as_json: bool) -> ExitCode:
        """Show the stream to its end. The command does not wait for a front-end that has never responded."""
        reporter: Reporter = JsonLines(self.screen) if as_json else TranscriptPrinter(self.screen)
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
        self.ended()
        self.screen.rest()
        return reporter.exit_code

    async def _with_client(self, work: Callable[[AsyncClient], Awaitable[ExitCode | None]]) -> ExitCode | None:
        try:
            client = AsyncClient(self._address, self._api_key, retries=RETRIES)
        except ValueError as error:
            text = f"{error}; correct --url, BROADCASTER_URL or BROADCASTER_API_KEY"
            raise CommandFailed(text, ExitCode.USAGE) from error
        except ImportError as error:  # the proxy of the environment needs a package
            raise CommandFailed(str(error), ExitCode.USAGE) from error
        async with client:
            return await work(client)

    def _way_back(self) -> str:
        if self._watched is None:
            return ""
        return f"; the generation continues, return to it with: broadcaster tail {self._watched}{self._url_option}"
