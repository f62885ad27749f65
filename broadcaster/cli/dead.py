"""``broadcaster dead``: lists and requeues the generations that failed on every attempt. Connects to Redis."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Annotated, Any, Final

import typer
from rich.table import Column

from broadcaster.cli.front_end_client import Json
from broadcaster.cli.option_settings import with_options
from broadcaster.cli.redis_access import DataDir, RedisUrl, with_redis
from broadcaster.cli.terminal.exit_codes import CommandFailed, ExitCode
from broadcaster.cli.terminal.formats import age, as_json, number
from broadcaster.cli.terminal.screen import Screen
from broadcaster.errors import Busy, InvalidInput, LogUnavailable, TenantLimit
from broadcaster.log.jobs.dead_letters import DeadLetter, DeadLetters
from broadcaster.log.jobs.queue import DEAD_LETTERS_KEPT
from broadcaster.log.redis.connect import LogConnection
from broadcaster.log.streams.reader import Streams
from broadcaster.settings import Settings
from broadcaster.wiring import JobParts

# The stream is trimmed by whole nodes: it may hold a little more than it should.
_ALL: Final = 2 * DEAD_LETTERS_KEPT

_OWNER: Final = "cli"
_NOTHING_CHOSEN: Final = "name generations to requeue, or --all; `broadcaster dead ls` lists them"

dead = typer.Typer(name="dead", no_args_is_help=True, help="Generations that failed on every attempt.")


@dead.command()
def ls(
    limit: Annotated[int, typer.Option(min=1, help="at most so many")] = 100,
    json: Json = False,
    redis_url: RedisUrl = None,
    data_dir: DataDir = None,
) -> None:
    """List the dead letters, the newest first."""
    screen = Screen()

    async def work(letters: DeadLetters) -> None:
        found = await letters.newest(limit)
        if json:
            screen.line(as_json([_document(letter) for letter in found]))
        elif found:
            rows = (_row(letter, now_s=time.time()) for letter in found)
            screen.table(rows, Column("ID", no_wrap=True), Column("AGE", justify="right"), "REASON", "MODEL", "REQUEUE")
        else:
            screen.note("no dead letters")

    _run(with_options(redis_url=redis_url, data_dir=data_dir), work)


@dead.command()
def requeue(
    ids: Annotated[list[str] | None, typer.Argument(metavar="ID...", help="ids of dead generations")] = None,
    is_all: Annotated[bool, typer.Option("--all", help="every dead letter whose request has not expired")] = False,
    json: Json = False,
    redis_url: RedisUrl = None,
    data_dir: DataDir = None,
) -> None:
    """Requeue dead generations, each as a new one with the same request; prints the old and the new id."""
    if bool(ids) == is_all:
        raise CommandFailed(_NOTHING_CHOSEN, ExitCode.USAGE)
    screen = Screen()

    async def work(letters: DeadLetters) -> None:
        found = await letters.newest(_ALL)
        chosen = [letter for letter in found if letter.can_requeue] if is_all else _chosen(found, ids or ())
        round = _Round(screen, as_json=json)
        for letter in chosen:
            await round.requeue(letters, letter)
        if is_all and (lost := len(found) - len(chosen)):
            screen.note(f"{number(lost, 'letter')} left: their requests have expired")
        round.end()

    _run(with_options(redis_url=redis_url, data_dir=data_dir), work)


class _Round:
    """The requeues of one command: reported as they happen, or together as JSON at the end."""

    def __init__(self, screen: Screen, *, as_json: bool) -> None:
        self._screen = screen
        self._as_json = as_json
        self._results: list[dict[str, Any]] = []
        self._requeued = 0

    async def requeue(self, letters: DeadLetters, letter: DeadLetter) -> None:
        """Requeue one. Raises CommandFailed if the queue is full, which ends the command."""
        try:
            created = await letters.requeue(letter)
        except LogUnavailable:
            self._print()
            raise
        except (InvalidInput, TenantLimit) as error:  # other letters may be requeued all the same
            fault = {"code": error.code, "message": error.detail}
            self._results.append({"id": letter.generation_id, "error": fault})
            if not self._as_json:
                self._screen.note(f"{letter.generation_id}: {error.detail}", style="yellow")
            return
        except Busy as error:
            self._print()
            text = f"{error.code}: {error.detail}; {number(self._requeued, 'letter')} requeued, the others are kept"
            raise CommandFailed(text, ExitCode.FAILED) from error
        self._requeued += 1
        self._results.append({"id": letter.generation_id, "new_id": created.id, "created": created.created})
        if not self._as_json:
            note = "" if created.created else " (requeued before)"
            self._screen.line(f"{letter.generation_id} → {created.id}{note}")

    def end(self) -> None:
        """Report the results. Raises CommandFailed if one could not be requeued."""
        self._print()
        if failed := len(self._results) - self._requeued:
            raise CommandFailed(f"{number(failed, 'letter')} could not be requeued", ExitCode.FAILED)
        if not self._results and not self._as_json:
            self._screen.note("nothing to requeue")

    def _print(self) -> None:
        if self._as_json:
            self._screen.line(as_json(self._results))


def _run(settings: Settings, work: Callable[[DeadLetters], Awaitable[None]]) -> None:
    async def visit(opened: LogConnection) -> None:
        streams = Streams(opened)
        parts = JobParts(settings, opened, owner=_OWNER, streams=streams)
        await work(DeadLetters(opened, streams=streams, generations=parts.generations()))

    asyncio.run(with_redis(settings, visit))


def _chosen(found: Sequence[DeadLetter], ids: Sequence[str]) -> list[DeadLetter]:
    """The letters of these generations. Raises CommandFailed, before any requeue, if one is missing."""
    by_id = {letter.generation_id: letter for letter in found}
    if unknown := [each for each in ids if each not in by_id]:
        text = f"no dead letter of {', '.join(unknown)}; see what there is with: broadcaster dead ls"
        raise CommandFailed(text, ExitCode.FAILED)
    return [by_id[each] for each in dict.fromkeys(ids)]


def _document(letter: DeadLetter) -> dict[str, Any]:
    return {
        "id": letter.generation_id,
        "at": letter.at_ms / 1000,
        "reason": letter.reason,
        "model": letter.model,
        "can_requeue": letter.can_requeue,
    }


def _row(letter: DeadLetter, *, now_s: float) -> Sequence[str]:
    fate = "possible" if letter.can_requeue else "no: expired"
    return letter.generation_id, age(now_s - letter.at_ms / 1000), letter.reason, letter.model or "–", fate
